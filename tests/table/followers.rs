//! Followers as objects: places in line that block nobody.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::select;
use onceflight::{Begin, DedupTable, ErrorKind};

use crate::support::*;

/// A table whose offers lapse soon.
fn hasty() -> Table {
    DedupTable::builder().offer(Duration::from_millis(5)).build()
}

#[test]
fn a_receiver_stands_in_a_select() {
    let table = Table::new();
    let [first, second] = ["a", "b"].map(|key| table.begin(key).lead());
    let mut waiting = [follower(table.try_begin("a")), follower(table.try_begin("b"))];
    let [a, b] = &mut waiting;
    select! {
        recv(a.receiver()) -> _ => panic!("nothing has happened"),
        recv(b.receiver()) -> _ => panic!("nothing has happened"),
        default => {}
    }
    thread::scope(|scope| {
        scope.spawn(|| second.complete(2).unwrap());
        select! {
            recv(a.receiver()) -> _ => panic!("that one is still in flight"),
            recv(b.receiver()) -> rang => rang.unwrap(),
            default(PATIENCE) => panic!("it never rang"),
        }
    });
    let [mut a, mut b] = waiting;
    assert_eq!(2, b.wait_timeout(Duration::ZERO).shared());
    assert_eq!(ErrorKind::Timeout, kind(a.wait_timeout(Duration::ZERO)));
    first.complete(1).unwrap();
    a.receiver().recv_timeout(PATIENCE).unwrap();
    assert_eq!(1, a.wait().shared());
}

#[test]
fn a_receiver_taken_late_rings_at_once() {
    let table = Table::new();
    let [ends, goes_on] = ["a", "b"].map(|key| table.begin(key).lead());
    let [mut shares, mut fails] = ["a", "b"].map(|key| follower(table.try_begin(key)));
    ends.complete(1).unwrap();
    shares.receiver().try_recv().unwrap();
    assert_eq!(1, shares.wait().shared());
    table.close();
    fails.receiver().try_recv().unwrap();
    assert_eq!(ErrorKind::Closed, kind(fails.wait()));
    goes_on.complete(2).unwrap();
}

#[test]
fn a_receiver_rings_for_an_offered_lead() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut next = follower(table.try_begin("k"));
    next.receiver();
    lead.cancel().unwrap();
    next.receiver().recv_timeout(PATIENCE).unwrap();
    assert_eq!(2, next.wait_timeout(Duration::ZERO).lead().attempt());
}

#[test]
fn wait_blocks_until_the_outcome() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let waiting = follower(table.try_begin("k"));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| waiting.wait().shared());
        lead.complete(6).unwrap();
        assert_eq!(6, waiter.join().unwrap());
    });
}

#[test]
fn a_timed_out_wait_keeps_the_place_in_line() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut first = follower(table.try_begin("k"));
    let mut second = follower(table.try_begin("k"));
    let start = Instant::now();
    assert_eq!(ErrorKind::Timeout, kind(first.wait_timeout(SHORT)));
    assert!(start.elapsed() >= SHORT);
    assert_eq!(2, table.stats().waiting);
    lead.cancel().unwrap();
    assert_eq!(ErrorKind::Timeout, kind(second.wait_timeout(Duration::ZERO)));
    assert_eq!(2, first.wait_timeout(PATIENCE).lead().attempt());
}

#[test]
fn a_dropped_follower_leaves_the_line_and_the_flight_goes_on() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let leaving = follower(table.try_begin("k"));
    let mut staying = follower(table.try_begin("k"));
    assert_eq!(2, table.stats().waiting);
    drop(leaving);
    let stats = table.stats();
    assert_eq!((1, 1, 0), (stats.waiting, stats.in_flight, stats.timeouts));
    lead.cancel().unwrap();
    assert_eq!(2, staying.wait_timeout(PATIENCE).lead().attempt());
}

#[test]
fn a_follower_dropped_with_an_offer_passes_it_on() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let offered = follower(table.try_begin("k"));
    thread::scope(|scope| {
        let next = scope.spawn(|| table.begin_timeout("k", PATIENCE).lead().attempt());
        in_line(&table, 2);
        lead.cancel().unwrap();
        in_line(&table, 1);
        drop(offered);
        // The attempt that was never accepted doesn't count.
        assert_eq!(2, next.join().unwrap());
    });
}

#[test]
fn the_last_follower_dropped_with_a_cancelled_lead_leaves_the_key_vacant() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let offered = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    drop(offered);
    assert_eq!(0, table.stats().in_flight);
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn the_last_follower_dropped_with_an_abandoned_lead_leaves_it_to_the_next_begin() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let offered = follower(table.try_begin("k"));
    drop(lead);
    drop(offered);
    assert_eq!(1, table.stats().in_flight);
    let next = table.begin_timeout("k", Duration::ZERO).lead();
    assert_eq!(2, next.attempt());
    assert_eq!(1, table.stats().takeovers);
}

#[test]
fn a_follower_dropped_with_its_outcome_unread_is_no_loss() {
    let census = Census::default();
    let table: DedupTable<u32, Counted> = DedupTable::new();
    let lead = table.begin(&1).lead();
    let unread = follower(table.try_begin(&1));
    lead.complete(census.member(1)).unwrap();
    assert_eq!(1, census.alive());
    drop(unread);
    assert_eq!(0, census.alive());
    assert_eq!(0, table.stats().shared);
}

#[test]
fn an_offer_that_nobody_takes_up_passes_to_the_next_in_line() {
    let table = hasty();
    let lead = table.begin("k").lead();
    let mut sleepy = follower(table.try_begin("k"));
    sleepy.receiver();
    thread::scope(|scope| {
        let next = scope.spawn(|| {
            let lead = table.begin_timeout("k", PATIENCE).lead();
            assert_eq!(2, lead.attempt());
            lead.complete(8).unwrap();
        });
        in_line(&table, 2);
        lead.cancel().unwrap();
        next.join().unwrap();
    });
    // It went to the back of the line, and has the outcome like everybody.
    assert_eq!(8, sleepy.wait_timeout(PATIENCE).shared());
}

#[test]
fn an_offer_goes_round_until_somebody_takes_it() {
    let table = hasty();
    let lead = table.begin("k").lead();
    let mut line: Vec<_> = (0..3).map(|_| follower(table.try_begin("k"))).collect();
    for waiting in &mut line {
        waiting.receiver();
    }
    lead.cancel().unwrap();
    // Each is offered it in turn, the first one again after the last.
    for round in 0..5 {
        line[round % 3].receiver().recv_timeout(PATIENCE).unwrap();
    }
    let mut taken = None;
    wait_until("an offer in time", || {
        let number =
            line.iter_mut().position(|waiting| match waiting.wait_timeout(Duration::ZERO) {
                Ok(Begin::Lead(lead)) => {
                    taken = Some(lead);
                    true
                }
                Err(error) => {
                    assert_eq!(ErrorKind::Timeout, error.kind());
                    false
                }
                Ok(other) => panic!("{other:?}"),
            });
        number.map(|number| line.remove(number)).is_some()
    });
    let lead = taken.unwrap();
    assert_eq!(2, lead.attempt());
    lead.complete(3).unwrap();
    for waiting in &mut line {
        assert_eq!(3, waiting.wait_timeout(PATIENCE).shared());
    }
    let stats = table.stats();
    assert_eq!((1, 0, 0), (stats.promotions, stats.waiting, stats.in_flight));
}

#[test]
fn a_lapsed_offer_with_nobody_else_in_line_goes_to_the_next_begin() {
    let table = hasty();
    let lead = table.begin("k").lead();
    let mut sleepy = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    let mut taken = None;
    wait_until("the offer lapses", || {
        taken = table.begin_timeout("k", Duration::ZERO).ok();
        taken.is_some()
    });
    let Some(Begin::Lead(lead)) = taken else { panic!() };
    assert_eq!(2, lead.attempt());
    assert_eq!(ErrorKind::Timeout, kind(sleepy.wait_timeout(Duration::ZERO)));
    lead.complete(5).unwrap();
    assert_eq!(5, sleepy.wait_timeout(PATIENCE).shared());
}

#[test]
fn a_lapsed_offer_that_nobody_else_wants_is_still_the_followers() {
    let table = hasty();
    let lead = table.begin("k").lead();
    let mut sleepy = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    pass(SHORT);
    assert_eq!(2, sleepy.wait_timeout(Duration::ZERO).lead().attempt());
}

#[test]
fn a_follower_has_one_outcome() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    lead.complete(1).unwrap();
    assert_eq!(1, waiting.wait_timeout(PATIENCE).shared());
    assert_eq!(ErrorKind::Invalid, kind(waiting.wait_timeout(PATIENCE)));
    assert_eq!(ErrorKind::Invalid, kind(waiting.wait()));
    assert_eq!(1, table.stats().shared);
}

#[test]
fn a_follower_that_has_led_does_not_wait_for_itself() {
    let result = within(PATIENCE, || {
        let table = Table::new();
        let lead = table.begin("k").lead();
        let mut waiting = follower(table.try_begin("k"));
        lead.cancel().unwrap();
        waiting.wait_timeout(PATIENCE).lead().complete(1).unwrap();
        waiting.wait().map(drop).map_err(|error| error.kind())
    });
    assert_eq!(Err(ErrorKind::Invalid), result);
}

#[test]
fn a_follower_may_wait_on_another_thread() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    thread::scope(|scope| {
        scope.spawn(move || {
            waiting.receiver().recv_timeout(PATIENCE).unwrap();
            waiting.wait().lead().complete(2).unwrap();
        });
        let mut second = follower(table.try_begin("k"));
        lead.cancel().unwrap();
        assert_eq!(2, second.wait_timeout(PATIENCE).shared());
    });
}
