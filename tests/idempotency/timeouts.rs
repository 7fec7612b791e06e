//! Every caller has its own deadline, and what is over for one goes on for the others.

use std::thread;
use std::time::{Duration, Instant};

use onceflight::ErrorKind;

use crate::support::*;

/// Catches a caller without time that doesn't ask the store, asks twice, or waits.
#[test]
fn no_time_is_one_look() {
    let [one, two] = processes(usual);
    let lead = one.look("k").lead();
    assert_eq!((1, 1), (one.wire.begun(Verb::Claim), one.wire.all_begun()));
    assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
    lead.complete(response(1)).unwrap();
    assert_eq!(1, two.look("k").replayed());
    assert_eq!((2, 2), (two.wire.begun(Verb::Claim), two.wire.all_begun()));
    assert_eq!(0, two.wire.begun(Verb::Listen));
}

/// Catches a caller without time that takes a place in line, or disturbs the leader.
#[test]
fn no_time_takes_no_place_in_line() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    for _ in 0..3 {
        assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
        assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
    }
    assert_eq!((3, 0), (one.stats().timeouts, one.stats().waiting));
    lead.complete(response(1)).unwrap();
}

/// Catches a caller without time that joins a claim of its process and waits for that.
#[test]
fn no_time_does_not_wait_for_a_claim_of_this_process() {
    let [one, two] = processes(usual);
    two.begin("done").lead().complete(response(1)).unwrap();
    for key in ["done", "new"] {
        let gate = one.wire.hold_next(Verb::Claim);
        thread::scope(|scope| {
            let asking = scope.spawn(|| one.begin_patiently(key).map(drop));
            gate.wait_arrived(1);
            if key == "done" {
                assert_eq!(1, one.look(key).replayed());
            } else {
                assert_eq!(ErrorKind::Timeout, kind(one.look(key)));
            }
            gate.open();
            asking.join().unwrap().unwrap();
        });
    }
}

/// Catches a follower that leaves early, or late by another's deadline, or disturbs who stays.
#[test]
fn each_follower_leaves_at_its_own_deadline() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        for process in [&one, &two] {
            let hasty = scope.spawn(|| {
                let start = Instant::now();
                let left = kind(process.begin_timeout("k", SHORT));
                (left, start.elapsed())
            });
            let (left, after) = hasty.join().unwrap();
            assert_eq!(ErrorKind::Timeout, left);
            assert!(after >= SHORT);
        }
        let here = follow(scope, &one, "k");
        let there = scope.spawn(|| two.begin_patiently("k"));
        assert_eq!(ErrorKind::Timeout, kind(one.begin_timeout("k", SHORT)));
        lead.complete(response(1)).unwrap();
        assert_eq!(1, here.join().unwrap().shared());
        assert_eq!(1, there.join().unwrap().status());
    });
}

/// Catches a wait that goes on past its deadline because its flight changes hands.
#[test]
fn a_deadline_holds_over_successions() {
    let [one, two] = processes(usual);
    let mut lead = one.begin("k").lead();
    thread::scope(|scope| {
        let hasty = scope.spawn(|| two.begin_timeout("k", SHORT * 5).map(drop));
        while !hasty.is_finished() {
            // Handed from one leader here to the next.
            let next = follow(scope, &one, "k");
            lead.abandon().unwrap();
            lead = next.join().unwrap().lead();
        }
        // It may have led for a moment; either way it is back.
        if let Err(error) = hasty.join().unwrap() {
            assert_eq!(ErrorKind::Timeout, error.kind());
        }
    });
}

/// Catches a timeout so long that it overflows into none.
#[test]
fn an_endless_timeout_is_endless() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| two.begin_timeout("k", Duration::MAX));
        two.wire.wait_ended(Verb::Claim, 1);
        let behind = scope.spawn(|| two.begin_timeout("k", Duration::from_nanos(u64::MAX)));
        in_line(&two, 1);
        lead.complete(response(1)).unwrap();
        assert_eq!(1, waiting.join().unwrap().shared());
        assert_eq!(1, behind.join().unwrap().shared());
    });
}
