//! Decline: not to be shared.

use std::thread;

use crate::support::*;

/// Catches a follower that waits on for what it won't be given, or goes to the store for it.
#[test]
fn all_followers_here_are_sent_away_at_once() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> = (0..8).map(|_| follow(scope, &one, "k")).collect();
        lead.decline().unwrap();
        for follower in followers {
            follower.join().unwrap().bypassed();
        }
    });
    assert_eq!(1, one.wire.begun(Verb::Claim));
    assert!(one.look_up("k").unwrap().is_none());
}

/// Catches a decline that bypasses other processes, or loses one of them: each leads in its turn.
#[test]
fn others_lead_one_by_one() {
    let [one, two, three] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watchers = [watch(scope, &two, "k"), watch(scope, &three, "k")];
        lead.decline().unwrap();
        let settled = watchers.map(|watcher| {
            scope.spawn(|| {
                let lead = watcher.join().unwrap().lead();
                let fence = lead.fence();
                lead.decline().unwrap();
                fence
            })
        });
        let [second, third] = settled.map(|settled| settled.join().unwrap());
        assert_ne!(second, third);
    });
}

/// Catches a decline that a store's failure makes stick half-way: followers go only once the store
/// knows that the key is free.
#[test]
fn a_decline_is_the_stores_first() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let gate = one.wire.hold_next(Verb::Release);
        let follower = follow(scope, &one, "k");
        let declining = scope.spawn(|| lead.decline());
        gate.wait_arrived(1);
        assert!(!follower.is_finished());
        assert_eq!(1, one.stats().waiting);
        gate.open();
        declining.join().unwrap().unwrap();
        follower.join().unwrap().bypassed();
    });
}
