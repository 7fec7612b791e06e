//! Cancel: nothing happened. Who leads then, by policy.

use std::thread;

use onceflight::idempotency::Begin;
use onceflight::{ErrorKind, OnCancel};

use crate::support::*;

/// Catches a lead that is handed out of turn, or to two at once.
#[test]
fn followers_here_lead_in_the_order_of_their_arrival() {
    let [one] = processes(usual);
    let mut lead = one.begin("k").lead();
    thread::scope(|scope| {
        let line: Vec<_> = (0..4).map(|_| follow(scope, &one, "k")).collect();
        for (number, follower) in line.into_iter().enumerate() {
            let fence = lead.fence();
            lead.cancel().unwrap();
            lead = follower.join().unwrap().lead();
            assert_eq!(number + 2, lead.attempt() as usize);
            assert!(lead.fence() > fence);
            in_line(&one, 3 - number as u64);
        }
        lead.complete(response(1)).unwrap();
    });
    assert_eq!(5, one.wire.begun(Verb::Claim));
}

/// Catches a process that keeps a cancelled key to itself though nobody there wants it.
#[test]
fn a_watcher_elsewhere_leads_if_nobody_waits_here() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        let behind = follow(scope, &two, "k");
        lead.cancel().unwrap();
        let next = watcher.join().unwrap().lead();
        assert_eq!(1, two.stats().waiting);
        next.complete(response(2)).unwrap();
        assert_eq!(2, behind.join().unwrap().shared());
    });
}

/// Catches a watcher that misses that it could lead, with followers on both sides: they all end with
/// what one of them made.
#[test]
fn with_followers_on_both_sides_one_leads() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let waiting = [follow(scope, &one, "k"), follow(scope, &one, "k"), watch(scope, &two, "k")];
        lead.cancel().unwrap();
        let settled = waiting.map(|waiting| {
            scope.spawn(|| match waiting.join().unwrap() {
                Ok(Begin::Lead(lead)) => {
                    lead.complete(response(2)).unwrap();
                    (2, 1)
                }
                other => (other.status(), 0),
            })
        });
        let outcomes = settled.map(|outcome| outcome.join().unwrap());
        assert!(outcomes.iter().all(|(status, _)| *status == 2), "{outcomes:?}");
        assert_eq!(1, outcomes.iter().map(|(_, leads)| leads).sum::<i32>());
    });
}

/// Catches a policy that fails nobody, fails only the first, or fails another process's callers.
#[test]
fn fail_all_fails_all_followers_here() {
    let [one, two] = processes(|table| table.on_cancel(OnCancel::FailAll));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let here = [0; 3].map(|_| follow(scope, &one, "k"));
        let there = watch(scope, &two, "k");
        lead.cancel().unwrap();
        for follower in here {
            assert_eq!(ErrorKind::Cancelled, kind(follower.join().unwrap()));
        }
        there.join().unwrap().lead().complete(response(2)).unwrap();
    });
    assert_eq!(2, one.begin("k").replayed());
}

/// Catches a policy that also fails those whose leader was lost.
#[test]
fn fail_all_is_for_cancels_only() {
    let [one] = processes(|table| table.on_cancel(OnCancel::FailAll));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        lead.abandon().unwrap();
        assert_eq!(2, follower.join().unwrap().lead().attempt());
    });
}

/// Catches a follower that times out when it is promoted and takes the lead with it.
#[test]
fn a_promoted_follower_whose_time_is_up_passes_the_lead_on() {
    for _ in 0..30 {
        let [one] = processes(usual);
        let lead = one.begin("k").lead();
        thread::scope(|scope| {
            let hasty = scope.spawn(|| one.begin_timeout("k", SHORT));
            wait_until("it has come", || one.stats().waiting == 1 || hasty.is_finished());
            let patient = scope.spawn(|| one.begin_patiently("k"));
            pass(SHORT);
            lead.cancel().unwrap();
            match hasty.join().unwrap() {
                Ok(begun) => Ok(begun).lead().cancel().unwrap(),
                Err(error) => assert_eq!(ErrorKind::Timeout, error.kind()),
            }
            patient.join().unwrap().lead().complete(response(1)).unwrap();
        });
    }
}
