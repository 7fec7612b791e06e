//! The counters: each told apart from the others.

use std::thread;

use onceflight::{ErrorKind, Stats};

use crate::support::*;

/// The counters that must be as told; all others must be 0.
#[track_caller]
fn counts(process: &Process, told: impl FnOnce(&mut Stats)) {
    let mut expected = Stats::default();
    told(&mut expected);
    assert_eq!(expected, process.stats());
}

/// Catches an outcome that is counted twice, elsewhere, or not at all.
#[test]
fn outcomes_are_counted_where_they_are_given() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    counts(&one, |stats| (stats.leads, stats.in_flight) = (1, 1));
    thread::scope(|scope| {
        let waiting = [follow(scope, &one, "k"), watch(scope, &two, "k"), follow(scope, &two, "k")];
        counts(&one, |stats| (stats.leads, stats.in_flight, stats.waiting) = (1, 1, 1));
        counts(&two, |stats| stats.waiting = 1);
        lead.complete(response(1)).unwrap();
        for follower in waiting {
            assert_eq!(1, follower.join().unwrap().shared());
        }
    });
    assert_eq!(1, two.look("k").replayed());
    counts(&one, |stats| (stats.leads, stats.shared) = (1, 1));
    counts(&two, |stats| (stats.shared, stats.replayed) = (2, 1));
}

/// Catches a timeout of one kind that isn't counted: without time, in line, of a watcher.
#[test]
fn timeouts_are_counted() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    for process in [&one, &two] {
        assert_eq!(ErrorKind::Timeout, kind(process.look("k")));
        assert_eq!(ErrorKind::Timeout, kind(process.begin_timeout("k", SHORT)));
    }
    counts(&two, |stats| stats.timeouts = 2);
    lead.complete(response(1)).unwrap();
    counts(&one, |stats| (stats.leads, stats.timeouts) = (1, 2));
}

/// Catches successions that are taken for each other.
#[test]
fn promotions_and_takeovers_are_told_apart() {
    let [one, two] = processes(usual);
    let first = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        first.cancel().unwrap();
        follower.join().unwrap().lead().abandon().unwrap();
    });
    counts(&one, |stats| (stats.leads, stats.cancels, stats.promotions) = (2, 1, 1));
    two.begin("k").lead().complete(response(1)).unwrap();
    counts(&two, |stats| (stats.leads, stats.takeovers) = (1, 1));
}

/// Catches a bypass that is counted for its leader.
#[test]
fn bypasses_are_counted() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        lead.decline().unwrap();
        follower.join().unwrap().bypassed();
    });
    counts(&one, |stats| (stats.leads, stats.bypassed) = (1, 1));
}

/// Catches a refused lead that counts twice, or doesn't.
#[test]
fn each_refused_settle_is_counted_once() {
    let [one, two] = processes(usual);
    let evicted = |key: &'static str| {
        let lead = one.begin(key).lead();
        assert!(two.evict(key).unwrap());
        lead
    };
    assert_eq!(ErrorKind::Stale, kind(evicted("checkpoint").set_checkpoint(b"late")));
    assert_eq!(1, one.stats().stale);
    assert_eq!(ErrorKind::Stale, kind(evicted("renew").renew(LONG)));
    assert_eq!(2, one.stats().stale);
    assert_eq!(ErrorKind::Stale, kind(evicted("complete").complete(response(1))));
    assert_eq!(3, one.stats().stale);
    counts(&one, |stats| (stats.leads, stats.stale) = (3, 3));
}

/// Catches errors that count as outcomes.
#[test]
fn what_was_refused_counts_as_nothing() {
    let [one] = processes(usual);
    let lead = one.request("k").fingerprint("a").begin().lead();
    assert_eq!(ErrorKind::Mismatch, kind(one.look("k")));
    lead.cancel().unwrap();
    one.wire.next(Verb::Claim, Fault::Fail);
    assert_eq!(ErrorKind::Store, kind(one.look("k")));
    counts(&one, |stats| (stats.leads, stats.cancels) = (1, 1));
}
