//! Waits that would never end are found; waits that end are not called that.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use onceflight::{ErrorKind, Role};

use crate::support::*;

/// What a nested `run` came to.
type Nested = Result<Role, ErrorKind>;

/// Leads `own`, and in it runs `other`, once everybody leads.
fn leads_and_wants(table: &Table, own: &str, other: (&Table, &str), all_lead: &Barrier) -> Nested {
    let mut nested = None;
    let outcome = table.run(own, || {
        all_lead.wait();
        let result = other.0.run(other.1, || 0);
        nested = Some(result.map(|outcome| outcome.role).map_err(|error| error.kind()));
        7
    });
    assert_eq!((7, Role::Led), outcome.map(|o| (o.value, o.role)).unwrap());
    nested.unwrap()
}

/// One thread a key, each wanting the next one's: exactly one is told, and that frees the others.
fn ring(size: usize, tables: usize) {
    within(PATIENCE, move || {
        let tables: Vec<_> = (0..tables).map(|_| Table::new()).collect();
        let all_lead = Barrier::new(size);
        let nested: Vec<Nested> = thread::scope(|scope| {
            let threads: Vec<_> = (0..size)
                .map(|number| {
                    let (tables, all_lead) = (&tables, &all_lead);
                    scope.spawn(move || {
                        let at = |number: usize| &tables[number % tables.len()];
                        let next = (number + 1) % size;
                        let own = number.to_string();
                        let other = (at(next), &*next.to_string());
                        leads_and_wants(at(number), &own, other, all_lead)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let told = nested.iter().filter(|n| **n == Err(ErrorKind::WouldDeadlock)).count();
        assert_eq!(1, told, "{nested:?}");
        // The rest shared, or came when the flight was over and led themselves.
        assert!(nested.iter().all(|n| matches!(n, Err(ErrorKind::WouldDeadlock) | Ok(_))));
        for table in &tables {
            let stats = table.stats();
            assert_eq!((0, 0), (stats.in_flight, stats.waiting));
        }
    });
}

#[test]
fn run_that_begins_its_own_key_is_told() {
    within(PATIENCE, || {
        let table = Table::new();
        let outcome = table.run("k", || {
            assert_eq!(ErrorKind::WouldDeadlock, kind(table.run("k", || unreachable!())));
            assert_eq!(ErrorKind::WouldDeadlock, kind(table.begin("k")));
            // Waiting out a deadline for oneself would be in vain too.
            assert_eq!(ErrorKind::WouldDeadlock, kind(table.begin_timeout("k", LONG)));
            let follower = follower(table.try_begin("k"));
            assert_eq!(ErrorKind::WouldDeadlock, kind(follower.wait()));
            assert_eq!(0, table.stats().waiting);
            3
        });
        assert_eq!(3, outcome.unwrap().value);
    });
}

#[test]
fn run_that_begins_its_own_key_deeper_down_is_told() {
    within(PATIENCE, || {
        let table = Table::new();
        let outer = table.run("a", || {
            let inner = table.run("b", || {
                assert_eq!(ErrorKind::WouldDeadlock, kind(table.run("a", || unreachable!())));
                1
            });
            inner.unwrap().value + 1
        });
        assert_eq!(2, outer.unwrap().value);
    });
}

#[test]
fn requests_flagged_same_thread_are_told_too() {
    within(PATIENCE, || {
        let table = Table::new();
        let lead = table.request("k").same_thread().begin().lead();
        assert_eq!(ErrorKind::WouldDeadlock, kind(table.begin("k")));
        lead.complete(1).unwrap();
        // Settled: nothing is left of it.
        let lead = table.begin("k").lead();
        assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", SHORT)));
        lead.complete(1).unwrap();
    });
}

#[test]
fn a_ring_of_two_is_found() {
    for _ in 0..20 {
        ring(2, 1);
    }
}

#[test]
fn a_ring_of_three_is_found() {
    for _ in 0..20 {
        ring(3, 1);
    }
}

#[test]
fn a_ring_across_tables_is_found() {
    for _ in 0..20 {
        ring(2, 2);
        ring(3, 3);
    }
}

/// The ring closes with a leader that was promoted only while another waited for its key.
#[test]
fn a_ring_through_a_promoted_leader_is_found() {
    within(PATIENCE, || {
        let table = Table::new();
        let first = table.begin("b").lead();
        thread::scope(|scope| {
            let promoted = scope.spawn(|| {
                let mut nested = None;
                let outcome = table.run("b", || {
                    in_line(&table, 1);
                    nested = Some(kind(table.run("a", || unreachable!())));
                    5
                });
                assert_eq!(Role::Led, outcome.unwrap().role);
                nested.unwrap()
            });
            in_line(&table, 1);
            let other = scope.spawn(|| {
                table.run("a", || table.run("b", || unreachable!()).unwrap().value).unwrap().value
            });
            in_line(&table, 2);
            first.cancel().unwrap();
            assert_eq!(ErrorKind::WouldDeadlock, promoted.join().unwrap());
            assert_eq!(5, other.join().unwrap());
        });
    });
}

// ---- no false alarms ----

#[test]
fn a_ring_that_a_deadline_breaks_is_none() {
    for _ in 0..10 {
        within(PATIENCE, || {
            let table = Table::new();
            let both_lead = Barrier::new(2);
            thread::scope(|scope| {
                let timed = scope.spawn(|| {
                    let mut nested = None;
                    let outcome = table.run("a", || {
                        both_lead.wait();
                        let request = table.request("b").timeout(Duration::from_millis(30));
                        nested = Some(kind(request.run(|| unreachable!())));
                        1
                    });
                    outcome.unwrap();
                    nested.unwrap()
                });
                let endless = leads_and_wants(&table, "b", (&table, "a"), &both_lead);
                assert_eq!(ErrorKind::Timeout, timed.join().unwrap());
                assert!(endless.is_ok(), "{endless:?}");
            });
        });
    }
}

#[test]
fn a_chain_is_no_ring() {
    within(PATIENCE, || {
        let table = Table::new();
        let release = Barrier::new(2);
        thread::scope(|scope| {
            let last = scope.spawn(|| {
                table.run("c", || {
                    release.wait();
                    1
                })
            });
            wait_until("the last leads", || table.stats().leads == 1);
            let middle = scope.spawn(|| table.run("b", || table.run("c", || 0).unwrap().value + 1));
            in_line(&table, 1);
            let first = scope.spawn(|| table.run("a", || table.run("b", || 0).unwrap().value + 1));
            in_line(&table, 2);
            release.wait();
            assert_eq!(1, last.join().unwrap().unwrap().value);
            assert_eq!(2, middle.join().unwrap().unwrap().value);
            assert_eq!(3, first.join().unwrap().unwrap().value);
        });
    });
}

/// A lead without the promise may be settled by any thread, so waiting for it may end.
#[test]
fn a_lead_that_promises_nothing_is_waited_for() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        scope.spawn(|| {
            in_line(&table, 1);
            lead.complete(1).unwrap();
        });
        assert_eq!(1, table.begin_timeout("k", PATIENCE).shared());
    });
}

/// A follower may look whether its outcome is there, whoever leads, and stays in line.
#[test]
fn looking_at_ones_own_flight_is_no_wait() {
    let table = Table::new();
    let lead = table.request("k").same_thread().begin().lead();
    let mut waiting = follower(table.try_begin("k"));
    assert_eq!(ErrorKind::Timeout, kind(waiting.wait_timeout(Duration::ZERO)));
    lead.complete(2).unwrap();
    assert_eq!(2, waiting.wait_timeout(Duration::ZERO).shared());
}

/// A thread that was overtaken leads no longer: waiting for its successor is just waiting.
#[test]
fn an_overtaken_leader_may_wait_for_its_successor() {
    within(PATIENCE, || {
        let table = Table::new();
        let (table, ready) = (&table, &Barrier::new(2));
        thread::scope(|scope| {
            let late = scope.spawn(move || {
                let mut inner = None;
                let outer = table.request("k").lease(Duration::ZERO).run(|| {
                    ready.wait();
                    ready.wait();
                    inner = Some(table.run("k", || unreachable!()).unwrap());
                    1
                });
                assert_eq!(Role::Overtaken, outer.unwrap().role);
                inner.unwrap()
            });
            ready.wait();
            let successor = table.request("k").lease(LONG).begin().lead();
            ready.wait();
            in_line(table, 1);
            successor.complete(2).unwrap();
            let inner = late.join().unwrap();
            assert_eq!((2, Role::Shared), (inner.value, inner.role));
        });
    });
}
