//! Closing a table, and dropping it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use onceflight::store::MemoryStore;
use onceflight::{ErrorKind, IdempotencyTable};

use crate::support::*;

/// Catches a closed table that still begins, or asks the store for it.
#[test]
fn a_closed_table_begins_nothing() {
    let [one] = processes(usual);
    one.begin("done").lead().complete(response(1)).unwrap();
    one.close();
    one.close();
    let calls = one.wire.all_begun();
    for key in ["done", "new"] {
        assert_eq!(ErrorKind::Closed, kind(one.begin(key)));
        assert_eq!(ErrorKind::Closed, kind(one.look(key)));
        assert_eq!(ErrorKind::Closed, kind(one.run(key, || unreachable!())));
    }
    assert_eq!(calls, one.wire.all_begun());
}

/// Catches a waiter that sleeps on: a follower, a watcher, a follower of a watcher.
#[test]
fn close_wakes_every_waiter() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    let elsewhere = two.begin("l").lead();
    thread::scope(|scope| {
        let waiting = [
            follow(scope, &one, "k"),
            follow(scope, &one, "k"),
            watch(scope, &one, "l"),
            follow(scope, &one, "l"),
        ];
        one.close();
        for waiter in waiting {
            assert_eq!(ErrorKind::Closed, kind(waiter.join().unwrap()));
        }
    });
    assert_eq!(0, one.stats().waiting);
    lead.complete(response(1)).unwrap();
    elsewhere.complete(response(2)).unwrap();
}

/// Catches a lead that is lost by a close: others still want what it makes.
#[test]
fn leads_still_settle() {
    let [one, two] = processes(usual);
    let leads = ["a", "b", "c", "d", "e"].map(|key| one.begin(key).lead());
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "a");
        one.close();
        let [first, second, third, fourth, fifth] = leads;
        first.renew(LONG).unwrap();
        first.set_checkpoint(b"late").unwrap();
        first.complete(response(1)).unwrap();
        second.cancel().unwrap();
        third.decline().unwrap();
        fourth.abandon().unwrap();
        drop(fifth);
        assert_eq!(1, watcher.join().unwrap().shared());
    });
    assert_eq!(1, two.look("a").replayed());
    for (key, attempt) in [("b", 1), ("c", 1), ("d", 2), ("e", 2)] {
        assert_eq!(attempt, two.look(key).lead().attempt(), "{key}");
    }
    assert_eq!(0, one.stats().in_flight);
}

/// Catches a heartbeat that ends with the close, and so costs a lead that still works its lease.
#[test]
fn the_heart_beats_on_for_leads_of_a_closed_table() {
    let [one, two] = processes(|table| table.lease(BEAT));
    let lead = one.begin("k").lead();
    one.close();
    one.wire.wait_ended(Verb::Renew, 3);
    assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
    lead.complete(response(1)).unwrap();
}

/// Catches a lead that is granted while the table closes and that nobody cares for.
#[test]
fn a_lead_that_is_granted_during_a_close_is_cared_for_or_given_back() {
    let [one, two] = processes(|table| table.lease(BEAT));
    let gate = one.wire.hold_next(Verb::Claim);
    thread::scope(|scope| {
        let begun = scope.spawn(|| one.begin_patiently("k"));
        gate.wait_arrived(1);
        one.close();
        gate.open();
        match begun.join().unwrap() {
            Ok(begun) => {
                let lead = Ok(begun).lead();
                one.wire.wait_ended(Verb::Renew, 3);
                assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
                lead.complete(response(1)).unwrap();
            }
            Err(error) => {
                assert_eq!(ErrorKind::Closed, error.kind());
                assert_eq!(1, two.request("k").lease(LONG).begin().lead().attempt());
            }
        }
    });
}

/// Catches a table that leaves its leads to their leases.
#[test]
fn dropping_a_table_abandons_what_it_leads() {
    let store = MemoryStore::new();
    let two = Process::new(&store, |table| table.lease(LONG));
    let one = Process::new(&store, |table| table.lease(LONG));
    let wire = Arc::clone(&one.wire);
    for key in ["k", "l"] {
        std::mem::forget(one.begin(key).lead());
    }
    assert_eq!(2, one.stats().in_flight);
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        drop(one);
        assert_eq!(2, wire.ended(Verb::Release));
        assert_eq!(2, watcher.join().unwrap().lead().attempt());
    });
    assert_eq!(2, two.look("l").lead().attempt());
}

/// Catches threads, and through them connections, that outlive their table.
#[test]
fn a_dropped_table_lets_go_of_its_store() {
    let store = MemoryStore::new();
    let other = Process::new(&store, usual);
    let _lead = other.begin("k").lead();
    for round in 0..3 {
        let wire = Flaky::over(&store);
        let table = IdempotencyTable::over(wire.clone()).unwrap();
        drop(table.begin(format!("mine{round}")));
        // A watcher, so that there is a listener.
        assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", SHORT)));
        drop(table);
        wait_until("the store is let go", || {
            thread::sleep(Duration::from_millis(1));
            Arc::strong_count(&wire) == 1
        });
    }
}

/// Catches a caller that slips through a close and waits for ever, or leads and is forgotten.
#[test]
fn close_races_with_begins() {
    for _ in 0..50 {
        let [one, two] = processes(usual);
        thread::scope(|scope| {
            for process in [&one, &one, &one, &two] {
                scope.spawn(|| {
                    loop {
                        let run = || response(1);
                        match process.request("k").ttl(Duration::ZERO).run(run) {
                            Ok(outcome) => assert_eq!(response(1), outcome.value),
                            Err(error) => break assert_eq!(ErrorKind::Closed, error.kind()),
                        }
                    }
                });
            }
            wait_until("it is under way", || one.stats().leads > 0);
            one.close();
            two.close();
        });
        for process in [&one, &two] {
            let stats = process.stats();
            assert_eq!((0, 0), (stats.waiting, stats.in_flight));
        }
    }
}
