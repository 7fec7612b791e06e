//! The line of followers: its order, its deadlines, and what a successor inherits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::{Begin, ErrorKind};

use crate::support::*;

#[test]
fn followers_lead_in_arrival_order() {
    let table = Table::new();
    let order = Mutex::new(Vec::new());
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        for number in 0..6 {
            let (table, order) = (&table, &order);
            scope.spawn(move || {
                let lead = table.begin_timeout("k", PATIENCE).lead();
                order.lock().unwrap().push(number);
                assert_eq!(number + 2, lead.attempt());
                if number % 2 == 0 { lead.cancel().unwrap() } else { drop(lead) }
            });
            in_line(table, u64::from(number) + 1);
        }
        lead.cancel().unwrap();
    });
    assert_eq!(vec![0, 1, 2, 3, 4, 5], order.into_inner().unwrap());
}

#[test]
fn a_lost_leader_has_exactly_one_successor() {
    let table = Table::new();
    let successors = AtomicUsize::new(0);
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match table.begin_timeout("k", PATIENCE).unwrap() {
                Begin::Lead(lead) => {
                    successors.fetch_add(1, Ordering::SeqCst);
                    lead.complete(5).unwrap();
                }
                Begin::Shared(value) => assert_eq!(5, value),
                other => panic!("{other:?}"),
            });
        }
        in_line(&table, 8);
        drop(lead);
    });
    assert_eq!(1, successors.into_inner());
    let stats = table.stats();
    assert_eq!((2, 7, 0), (stats.leads, stats.shared, stats.waiting));
}

#[test]
fn a_timeout_never_comes_early() {
    let table = Table::new();
    let _lead = table.begin("k").lead();
    let start = Instant::now();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", SHORT)));
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn every_follower_has_its_own_deadline_and_leaving_disturbs_nobody() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let before = scope.spawn(|| table.begin_timeout("k", PATIENCE).shared());
        in_line(&table, 1);
        let impatient: Vec<_> =
            (0..4).map(|_| scope.spawn(|| kind(table.begin_timeout("k", SHORT)))).collect();
        let after = scope.spawn(|| table.begin_timeout("k", PATIENCE).shared());
        for follower in impatient {
            assert_eq!(ErrorKind::Timeout, follower.join().unwrap());
        }
        in_line(&table, 2);
        assert_eq!(1, table.stats().in_flight);
        lead.complete(9).unwrap();
        assert_eq!((9, 9), (before.join().unwrap(), after.join().unwrap()));
    });
    assert_eq!(4, table.stats().timeouts);
}

#[test]
fn a_follower_that_left_is_not_promoted() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::from_millis(1))));
    thread::scope(|scope| {
        let next = scope.spawn(|| table.begin_timeout("k", PATIENCE).lead().attempt());
        in_line(&table, 1);
        lead.cancel().unwrap();
        assert_eq!(2, next.join().unwrap());
    });
}

/// Aims the promotion at the deadline. Whichever wins, the lead isn't lost with the follower.
#[test]
fn a_follower_promoted_as_it_times_out_leads_or_was_never_promoted() {
    let table = Table::new();
    let wait = Duration::from_micros(300);
    for round in 0..300 {
        let lead = table.begin("k").lead();
        thread::scope(|scope| {
            let start = Instant::now();
            let follower = scope.spawn(|| match table.begin_timeout("k", wait) {
                Ok(Begin::Lead(lead)) => lead.complete(1).is_ok(),
                Err(error) => error.kind() == ErrorKind::Timeout,
                Ok(other) => panic!("{other:?}"),
            });
            // The follower may have come and gone; that is one of the cases.
            while start.elapsed() < wait && table.stats().waiting == 0 {}
            while start.elapsed() < wait + Duration::from_micros(round) {}
            lead.cancel().unwrap();
            assert!(follower.join().unwrap());
        });
        let stats = table.stats();
        assert_eq!((0, 0), (stats.in_flight, stats.waiting), "round {round}");
    }
}

#[test]
fn a_lead_on_offer_goes_to_the_follower_whose_time_is_up() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    assert_eq!(2, waiting.wait_timeout(Duration::ZERO).lead().attempt());
}

#[test]
fn a_successor_finds_the_checkpoint() {
    let table = Table::new();
    let first = table.begin("k").lead();
    assert_eq!(None, first.checkpoint().unwrap());
    first.set_checkpoint(b"one").unwrap();
    first.set_checkpoint(b"two").unwrap();
    let mut promoted = follower(table.try_begin("k"));
    first.cancel().unwrap();
    let second = promoted.wait_timeout(PATIENCE).lead();
    assert_eq!(b"two", &*second.checkpoint().unwrap().unwrap());
    drop(second);
    let third = table.begin("k").lead();
    assert_eq!((3, Some(&b"two"[..])), (third.attempt(), third.checkpoint().unwrap().as_deref()));
    third.complete(1).unwrap();
    assert_eq!(None, table.begin("k").lead().checkpoint().unwrap());
}

#[test]
fn attempts_count_the_leaders_of_one_flight() {
    let table = Table::new();
    for attempt in 1..=5 {
        let lead = table.begin("k").lead();
        assert_eq!(attempt, lead.attempt());
        drop(lead);
    }
    table.begin("k").lead().complete(1).unwrap();
    assert_eq!(1, table.begin("k").lead().attempt());
}
