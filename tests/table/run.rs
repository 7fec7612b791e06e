//! The one-call form, and the role it tells.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use onceflight::{DedupTable, ErrorKind, OnCancel, OnLeaseExpired, Outcome, Role};

use crate::support::*;

#[test]
fn a_leader_runs_its_work() {
    let table = Table::new();
    assert_eq!(Outcome { value: 1, role: Role::Led }, table.run("k", || 1).unwrap());
    assert_eq!(0, table.stats().in_flight);
}

#[test]
fn followers_share_and_run_nothing() {
    let table = Table::new();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let leader = scope.spawn(|| {
            table.run("k", || {
                in_line(&table, 5);
                8
            })
        });
        wait_until("a leader", || table.stats().leads == 1);
        let followers: Vec<_> =
            (0..5).map(|_| scope.spawn(|| table.run("k", || unreachable!()))).collect();
        assert_eq!(Outcome { value: 8, role: Role::Led }, leader.join().unwrap().unwrap());
        followers.into_iter().map(|follower| follower.join().unwrap().unwrap()).collect()
    });
    assert!(outcomes.iter().all(|o| *o == Outcome { value: 8, role: Role::Shared }));
}

#[test]
fn later_callers_are_replayed_to() {
    let table = Table::builder().completed_ttl(LONG).build();
    table.run("k", || 1).unwrap();
    let outcome = table.run("k", || unreachable!()).unwrap();
    assert_eq!(Outcome { value: 1, role: Role::Replayed }, outcome);
}

#[test]
fn followers_of_a_leader_that_declines_run_their_own() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let table = &table;
        let followers: Vec<_> =
            (0..3).map(|own| (own, scope.spawn(move || table.run("k", || own).unwrap()))).collect();
        in_line(table, 3);
        lead.decline().unwrap();
        for (own, follower) in followers {
            let expected = Outcome { value: own, role: Role::Bypassed };
            assert_eq!(expected, follower.join().unwrap());
        }
    });
    assert_eq!(0, table.stats().in_flight);
}

#[test]
fn a_leader_that_was_overtaken_keeps_its_value_to_itself() {
    let table = Table::builder().completed_ttl(LONG).build();
    let outcome = table.request("k").lease(Duration::ZERO).run(|| {
        let lead = table.request("k").lease(LONG).begin().lead();
        lead.complete(2).unwrap();
        1
    });
    assert_eq!(Outcome { value: 1, role: Role::Overtaken }, outcome.unwrap());
    assert_eq!(2, table.begin("k").replayed());
}

#[test]
fn a_panic_abandons_and_goes_on_unwinding_and_one_follower_succeeds() {
    let table = Table::new();
    let runs = AtomicUsize::new(0);
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let unwinding = catch_unwind(AssertUnwindSafe(|| {
                table.run("k", || {
                    in_line(&table, 4);
                    std::panic::resume_unwind(Box::new("the payload"))
                })
            }));
            *unwinding.unwrap_err().downcast::<&str>().unwrap()
        });
        wait_until("a leader", || table.stats().leads == 1);
        let followers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let work = || {
                        runs.fetch_add(1, Ordering::SeqCst);
                        in_line(&table, 3);
                        6
                    };
                    table.run("k", work).unwrap()
                })
            })
            .collect();
        assert_eq!("the payload", leader.join().unwrap());
        let mut roles: Vec<_> = followers.into_iter().map(|f| f.join().unwrap()).collect();
        roles.sort_by_key(|outcome| outcome.role == Role::Shared);
        assert_eq!(Outcome { value: 6, role: Role::Led }, roles[0]);
        assert!(roles[1..].iter().all(|o| *o == Outcome { value: 6, role: Role::Shared }));
    });
    assert_eq!(1, runs.into_inner());
    assert_eq!(1, table.stats().takeovers);
}

#[test]
fn a_panic_under_hold_leaves_the_outcome_unknown() {
    let table: Table = DedupTable::builder().on_lease_expired(OnLeaseExpired::Hold).build();
    let panics = || table.run("k", || std::panic::resume_unwind(Box::new(())));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(ErrorKind::Unknown, kind(table.run("k", || 1)));
    let outcome = table.request("k").recover().run(|| 2).unwrap();
    assert_eq!(Outcome { value: 2, role: Role::Led }, outcome);
}

#[test]
fn errors_travel_in_the_value() {
    let table: DedupTable<String, Result<u64, String>> =
        DedupTable::builder().completed_ttl(LONG).retain(Result::is_ok).build();
    assert_eq!(Err("no".to_owned()), table.run("k", || Err("no".into())).unwrap().value);
    assert_eq!(Ok(1), table.run("k", || Ok(1)).unwrap().value);
    assert_eq!(Role::Replayed, table.run("k", || unreachable!()).unwrap().role);
}

#[test]
fn a_response_too_large_to_share_sends_followers_to_their_own_work() {
    let table: Table = DedupTable::builder().max_weight(0).weigher(|_, _| 1).build();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            table.run("k", || {
                in_line(&table, 1);
                1
            })
        });
        wait_until("a leader", || table.stats().leads == 1);
        let follower = scope.spawn(|| table.run("k", || 2));
        assert_eq!(Outcome { value: 1, role: Role::Led }, leader.join().unwrap().unwrap());
        let expected = Outcome { value: 2, role: Role::Bypassed };
        assert_eq!(expected, follower.join().unwrap().unwrap());
    });
    assert_eq!(0, table.stats().in_flight);
}

#[test]
fn a_request_carries_its_terms_into_run() {
    let table: Table = DedupTable::builder().on_cancel(OnCancel::FailAll).build();
    let lead = table.begin("k").lead();
    let request = table.request("k").timeout(Duration::ZERO);
    assert_eq!(ErrorKind::Timeout, kind(request.run(|| unreachable!())));
    assert_eq!(ErrorKind::Mismatch, kind(table.request("k").fingerprint(b"f").run(|| 1)));
    thread::scope(|scope| {
        let follower = scope.spawn(|| kind(table.run("k", || unreachable!())));
        in_line(&table, 1);
        lead.cancel().unwrap();
        assert_eq!(ErrorKind::Cancelled, follower.join().unwrap());
    });
    table.request("k").ttl(LONG).run(|| 4).unwrap();
    assert_eq!(4, table.begin("k").replayed());
}

#[test]
fn one_run_a_key_however_many_call() {
    let table = Table::builder().completed_ttl(LONG).build();
    let runs = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for key in 0..50 {
                    let outcome = table.run(&format!("{key}"), || {
                        runs.fetch_add(1, Ordering::SeqCst);
                        key
                    });
                    assert_eq!(key, outcome.unwrap().value);
                }
            });
        }
    });
    assert_eq!(50, runs.into_inner());
    let stats = table.stats();
    assert_eq!((50, 32 * 50 - 50), (stats.leads, stats.shared + stats.replayed));
}
