//! The one-call form: what it gives back, what a panic does, and waits that would never end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use onceflight::{ErrorKind, Role};

use crate::support::*;

/// Catches a role that is told wrong.
#[test]
fn run_tells_whose_work_it_is() {
    let [one, two] = processes(usual);
    thread::scope(|scope| {
        let led = one.run("k", || {
            let here = scope.spawn(|| one.run("k", || unreachable!()));
            in_line(&one, 1);
            let there = scope.spawn(|| two.run("k", || unreachable!()));
            two.wire.wait_ended(Verb::Claim, 1);
            scope.spawn(|| {
                for follower in [here, there] {
                    let outcome = follower.join().unwrap().unwrap();
                    assert_eq!((response(1), Role::Shared), (outcome.value, outcome.role));
                }
            });
            response(1)
        });
        assert_eq!((response(1), Role::Led), led.map(|o| (o.value, o.role)).unwrap());
    });
    let outcome = two.run("k", || unreachable!()).unwrap();
    assert_eq!((response(1), Role::Replayed), (outcome.value, outcome.role));
}

/// Catches a response that is lost because it can't be kept, and followers that wait for it.
#[test]
fn a_response_too_large_to_keep_is_the_callers_own() {
    let [one] = processes(|table| table.max_response_len(4));
    thread::scope(|scope| {
        let led = one.run("k", || {
            scope.spawn(|| {
                let outcome = one.run("k", || response(2)).unwrap();
                assert_eq!((response(2), Role::Bypassed), (outcome.value, outcome.role));
            });
            in_line(&one, 1);
            response(1)
        });
        assert_eq!((response(1), Role::Led), led.map(|o| (o.value, o.role)).unwrap());
    });
    assert!(one.look_up("k").unwrap().is_none());
}

/// Catches a caller that isn't told that its work wasn't recorded, or whose key stays taken.
#[test]
fn a_response_that_the_store_does_not_take_is_the_callers_own() {
    let [one, two] = processes(|table| table.store_timeout(SHORT * 2));
    one.wire.every(Verb::Complete, Fault::Fail);
    let outcome = one.run("k", || response(1)).unwrap();
    assert_eq!((response(1), Role::Unrecorded), (outcome.value, outcome.role));
    // It may have happened: the next one is told so.
    assert_eq!(2, two.look("k").lead().attempt());
}

/// Catches a caller that is told it was overtaken when the store was away.
#[test]
fn a_response_too_large_that_the_store_is_not_told_of_is_unrecorded() {
    let [one] = processes(|table| table.max_response_len(4).store_timeout(SHORT * 2));
    one.wire.every(Verb::Release, Fault::Fail);
    let outcome = one.run("k", || response(1)).unwrap();
    assert_eq!((response(1), Role::Unrecorded), (outcome.value, outcome.role));
}

/// Catches a late leader that takes its successor's response for its own, or hides that it is late.
#[test]
fn an_overtaken_run_has_its_own_response() {
    let [one, two] = processes(fleeting);
    let outcome = one.run("k", || {
        two.begin_patiently("k").lead().complete(response(2)).unwrap();
        response(1)
    });
    assert_eq!((response(1), Role::Overtaken), outcome.map(|o| (o.value, o.role)).unwrap());
    assert_eq!(2, one.begin("k").replayed());
}

/// Catches a panic that is swallowed, or that leaves its key to the lease.
#[test]
fn a_panic_abandons_and_goes_on() {
    let [one, two] = processes(|table| table.lease(LONG));
    thread::scope(|scope| {
        let mut waiting = None;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            one.run("k", || {
                waiting = Some(follow(scope, &one, "k"));
                std::panic::resume_unwind(Box::new("on purpose"));
            })
        }));
        assert_eq!(Some(&"on purpose"), panicked.unwrap_err().downcast_ref());
        let next = waiting.unwrap().join().unwrap().lead();
        assert_eq!(2, next.attempt());
        drop(next);
    });
    assert_eq!(3, two.look("k").lead().attempt());
    assert_eq!(2, one.stats().takeovers + two.stats().takeovers);
}

/// Catches a panic in a follower that is bypassed and does its own work: it settles nothing.
#[test]
fn a_panic_of_a_bypassed_caller_settles_nothing() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let bypassed = scope.spawn(|| {
            let work = || std::panic::resume_unwind(Box::new("on purpose"));
            catch_unwind(AssertUnwindSafe(|| one.run("k", work))).is_err()
        });
        in_line(&one, 1);
        lead.decline().unwrap();
        let next = one.begin_patiently("k").lead();
        assert!(bypassed.join().unwrap());
        next.complete(response(1)).unwrap();
    });
    assert_eq!(1, one.begin("k").replayed());
}

/// Catches work that begins its own key and waits for itself.
#[test]
fn run_that_begins_its_own_key_is_told() {
    within(PATIENCE, || {
        let [one] = processes(usual);
        let outcome = one.run("k", || {
            assert_eq!(ErrorKind::WouldDeadlock, kind(one.run("k", || unreachable!())));
            assert_eq!(ErrorKind::WouldDeadlock, kind(one.begin("k")));
            assert_eq!(ErrorKind::WouldDeadlock, kind(one.begin_timeout("k", LONG)));
            assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
            let other = one.request("k").fingerprint("other").begin();
            assert_eq!(ErrorKind::Mismatch, kind(other));
            assert_eq!(0, one.stats().waiting);
            one.run("l", || response(2)).unwrap().value
        });
        assert_eq!(response(2), outcome.unwrap().value);
    });
}

/// Catches a promise that is forgotten for requests without `run`, or kept after the settle.
#[test]
fn requests_that_promise_their_thread_are_told() {
    within(PATIENCE, || {
        let [one] = processes(usual);
        let lead = one.request("k").same_thread().begin().lead();
        assert_eq!(ErrorKind::WouldDeadlock, kind(one.begin("k")));
        lead.cancel().unwrap();
        let lead = one.begin("k").lead();
        assert_eq!(ErrorKind::Timeout, kind(one.begin_timeout("k", SHORT)));
        lead.complete(response(1)).unwrap();
    });
}

/// Catches two threads that wait for each other for ever.
#[test]
fn a_ring_of_two_is_found() {
    for _ in 0..10 {
        within(PATIENCE, || {
            let [one] = processes(usual);
            let both_lead = Barrier::new(2);
            let run = |own: &str, other: &str| {
                let mut nested = None;
                let outcome = one.run(own, || {
                    both_lead.wait();
                    let inner = one.run(other, || response(0));
                    nested = Some(inner.map(|o| o.role).map_err(|error| error.kind()));
                    response(7)
                });
                assert_eq!(Role::Led, outcome.unwrap().role);
                nested.unwrap()
            };
            thread::scope(|scope| {
                let other = scope.spawn(|| run("l", "k"));
                let mut outcomes = [run("k", "l"), other.join().unwrap()];
                outcomes.sort_by_key(Result::is_err);
                assert_eq!([Ok(Role::Shared), Err(ErrorKind::WouldDeadlock)], outcomes);
            });
        });
    }
}

/// Catches a false alarm: a thread whose lead was promoted away, settled or overtaken leads no more.
#[test]
fn a_lead_that_is_over_deadlocks_nobody() {
    within(PATIENCE, || {
        let [one, two] = processes(usual);
        let late = one.request("k").same_thread().begin().lead();
        assert!(two.evict("k").unwrap());
        assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
        let successor = two.begin("k").lead();
        thread::scope(|scope| {
            scope.spawn(|| {
                one.wire.wait_ended(Verb::Claim, 2);
                successor.complete(response(2)).unwrap();
            });
            assert_eq!(2, one.begin("k").shared());
        });
    });
}

/// Catches a false alarm: a wait for another process's lead, by a thread that leads here.
#[test]
fn work_may_wait_for_another_key_elsewhere() {
    let [one, two] = processes(usual);
    let lead = two.begin("l").lead();
    thread::scope(|scope| {
        let outcome = one.run("k", || {
            scope.spawn(|| {
                one.wire.wait_ended(Verb::Claim, 2);
                lead.complete(response(2)).unwrap();
            });
            one.request("l").timeout(PATIENCE).run(|| unreachable!()).unwrap().value
        });
        assert_eq!(response(2), outcome.unwrap().value);
    });
}
