//! `forget`: a response dropped, a flight detached.

use std::thread;
use std::time::Duration;

use onceflight::{Begin, DedupTable, ErrorKind, OnCancel};

use crate::support::*;

#[test]
fn a_vacant_key_has_nothing_to_forget() {
    let table = Table::new();
    assert!(!table.forget("k").unwrap());
}

#[test]
fn a_completed_response_is_dropped() {
    let census = Census::default();
    let table: DedupTable<u32, Counted> = DedupTable::builder().completed_ttl(LONG).build();
    table.begin(&1).lead().complete(census.member(1)).unwrap();
    assert_eq!(1, census.alive());
    assert!(table.forget(&1).unwrap());
    assert_eq!(0, census.alive());
    let stats = table.stats();
    assert_eq!((0, 0), (stats.completed, stats.evictions));
    assert!(!table.forget(&1).unwrap());
    assert_eq!(1, table.begin(&1).lead().attempt());
}

/// An expired response is gone, whether or not its memory has been given back yet. The first one's
/// destructor holds up the thread that would do that.
#[test]
fn an_expired_response_is_not_there_to_forget() {
    struct Slow(crossbeam_channel::Sender<()>, crossbeam_channel::Receiver<()>);
    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.send(());
            let _ = self.1.recv_timeout(PATIENCE);
        }
    }

    let (entered, reaping) = crossbeam_channel::unbounded();
    let (go_on, may_go_on) = crossbeam_channel::unbounded::<()>();
    let slow: DedupTable<u32, std::sync::Arc<Slow>> = DedupTable::new();
    let table = Table::builder().completed_ttl(SHORT).build();
    match slow.begin(&1).unwrap() {
        Begin::Lead(lead) => {
            let value = std::sync::Arc::new(Slow(entered, may_go_on));
            lead.complete_for(value, Duration::from_millis(1)).unwrap();
        }
        _ => panic!(),
    }
    reaping.recv_timeout(PATIENCE).unwrap();
    table.begin("k").lead().complete(1).unwrap();
    pass(SHORT);
    let forgotten = table.forget("k");
    drop(go_on);
    assert!(!forgotten.unwrap());
}

#[test]
fn followers_of_a_detached_flight_still_get_its_outcome() {
    let table = Table::builder().completed_ttl(LONG).build();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| table.begin_timeout("k", PATIENCE).shared())).collect();
        in_line(&table, 3);
        assert!(table.forget("k").unwrap());
        lead.complete(4).unwrap();
        for follower in followers {
            assert_eq!(4, follower.join().unwrap());
        }
    });
    // Not retained.
    assert_eq!(0, table.stats().completed);
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn a_new_begin_starts_afresh_beside_a_detached_flight() {
    let table = Table::builder().completed_ttl(LONG).build();
    let old = table.request("k").fingerprint(b"old").begin().lead();
    let mut old_follower = follower(table.request("k").fingerprint(b"old").try_begin());
    assert!(table.forget("k").unwrap());
    assert!(!table.forget("k").unwrap());
    let new = table.request("k").fingerprint(b"new").begin().lead();
    assert_eq!(1, new.attempt());
    assert!(new.fence() > old.fence());
    let mut new_follower = follower(table.request("k").fingerprint(b"new").try_begin());
    assert_eq!(2, table.stats().in_flight);
    // Each settles its own, in any order, and only the new one's is kept.
    new.complete(2).unwrap();
    old.complete(1).unwrap();
    assert_eq!(1, old_follower.wait_timeout(PATIENCE).shared());
    assert_eq!(2, new_follower.wait_timeout(PATIENCE).shared());
    assert_eq!(2, table.request("k").fingerprint(b"new").begin().replayed());
    assert_eq!(0, table.stats().in_flight);
}

#[test]
fn a_detached_flight_does_not_overwrite_its_successor_in_the_window() {
    let table = Table::builder().completed_ttl(LONG).build();
    let old = table.begin("k").lead();
    table.forget("k").unwrap();
    table.begin("k").lead().complete(2).unwrap();
    old.complete(1).unwrap();
    assert_eq!(2, table.begin("k").replayed());
}

#[test]
fn a_detached_flight_may_decline() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    table.forget("k").unwrap();
    lead.decline().unwrap();
    assert!(matches!(waiting.wait_timeout(PATIENCE), Ok(Begin::Bypass)));
}

/// However a detached flight fails, its followers are callers like any other again: one leads.
#[test]
fn followers_of_a_detached_flight_that_fails_begin_again() {
    for on_cancel in [OnCancel::Promote, OnCancel::FailAll] {
        for cancels in [true, false] {
            let table: Table =
                DedupTable::builder().on_cancel(on_cancel).completed_ttl(LONG).build();
            let lead = table.request("k").fingerprint(b"f").begin().lead();
            thread::scope(|scope| {
                let followers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            match table.request("k").fingerprint(b"f").timeout(PATIENCE).begin() {
                                Ok(Begin::Lead(lead)) => {
                                    assert_eq!(1, lead.attempt());
                                    lead.complete(5).unwrap();
                                    true
                                }
                                Ok(Begin::Shared(5) | Begin::Replayed(5)) => false,
                                other => panic!("{other:?}"),
                            }
                        })
                    })
                    .collect();
                in_line(&table, 4);
                table.forget("k").unwrap();
                if cancels {
                    lead.cancel().unwrap();
                } else {
                    drop(lead);
                }
                let joined = followers.into_iter().map(|follower| follower.join().unwrap());
                assert_eq!(1, joined.filter(|led| *led).count());
            });
            assert_eq!(5, table.request("k").fingerprint(b"f").begin().replayed());
            let stats = table.stats();
            assert_eq!((0, 0, 2), (stats.in_flight, stats.waiting, stats.leads));
        }
    }
}

#[test]
fn followers_that_begin_again_join_the_flight_that_is_there_by_then() {
    let table = Table::new();
    let old = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    waiting.receiver();
    table.forget("k").unwrap();
    let new = table.begin("k").lead();
    old.cancel().unwrap();
    waiting.receiver().recv_timeout(PATIENCE).unwrap();
    assert_eq!(ErrorKind::Timeout, kind(waiting.wait_timeout(Duration::ZERO)));
    assert_eq!(1, table.stats().waiting);
    new.complete(6).unwrap();
    waiting.receiver().recv_timeout(PATIENCE).unwrap();
    assert_eq!(6, waiting.wait_timeout(Duration::ZERO).shared());
}

#[test]
fn followers_that_begin_again_may_find_another_fingerprint() {
    let table = Table::new();
    let old = table.request("k").fingerprint(b"old").begin().lead();
    let mut waiting = follower(table.request("k").fingerprint(b"old").try_begin());
    table.forget("k").unwrap();
    let _new = table.request("k").fingerprint(b"new").begin().lead();
    old.cancel().unwrap();
    assert_eq!(ErrorKind::Mismatch, kind(waiting.wait_timeout(PATIENCE)));
}

/// Nobody can take over a detached flight: its followers stop waiting, its lead still settles.
#[test]
fn a_detached_flight_whose_lease_passes_loses_its_followers_only() {
    let table = Table::builder().completed_ttl(LONG).build();
    let late = table.request("k").lease(LONG).begin().lead();
    let mut waiting = follower(table.try_begin("k"));
    table.forget("k").unwrap();
    late.renew(SHORT).unwrap();
    let fresh = waiting.wait_timeout(PATIENCE).lead();
    assert_eq!((1, 2), (fresh.attempt(), table.stats().in_flight));
    late.renew(LONG).unwrap();
    late.complete(1).unwrap();
    assert_eq!((0, 1), (table.stats().completed, table.stats().in_flight));
    fresh.complete(2).unwrap();
    assert_eq!(2, table.begin("k").replayed());
}

#[test]
fn a_detached_lead_settles_after_its_lease() {
    let table = Table::new();
    let late = ["a", "b", "c"].map(|key| {
        let lead = table.request(key).lease(SHORT).begin().lead();
        table.forget(key).unwrap();
        lead
    });
    pass(SHORT);
    let [completes, cancels, abandons] = late;
    completes.complete(1).unwrap();
    cancels.cancel().unwrap();
    abandons.abandon().unwrap();
    assert_eq!((0, 0), (table.stats().in_flight, table.stats().stale));
}

#[test]
fn a_follower_with_an_offer_leads_the_detached_flight() {
    let table = Table::builder().completed_ttl(LONG).build();
    let lead = table.begin("k").lead();
    let mut offered = follower(table.try_begin("k"));
    let mut behind = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    table.forget("k").unwrap();
    offered.wait_timeout(PATIENCE).lead().complete(3).unwrap();
    assert_eq!(3, behind.wait_timeout(PATIENCE).shared());
    assert_eq!((0, 0), (table.stats().completed, table.stats().in_flight));
}

#[test]
fn a_follower_dropped_with_the_offer_of_a_detached_flight_ends_it() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let offered = follower(table.try_begin("k"));
    let mut behind = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    table.forget("k").unwrap();
    drop(offered);
    assert!(behind.wait_timeout(PATIENCE).is_ok());
    drop(behind);
    table.forget("k").unwrap();
    assert_eq!((0, 0), (table.stats().waiting, table.stats().in_flight));
}

#[test]
fn an_abandoned_flight_is_forgotten() {
    let table = Table::new();
    drop(table.begin("k").lead());
    assert!(table.forget("k").unwrap());
    assert_eq!(0, table.stats().in_flight);
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn a_deadline_goes_with_the_follower_that_begins_again() {
    let table = Table::new();
    let old = table.begin("k").lead();
    thread::scope(|scope| {
        let follower = scope.spawn(|| kind(table.begin_timeout("k", Duration::from_millis(300))));
        in_line(&table, 1);
        table.forget("k").unwrap();
        let _new = table.begin("k").lead();
        old.cancel().unwrap();
        assert_eq!(ErrorKind::Timeout, follower.join().unwrap());
    });
}
