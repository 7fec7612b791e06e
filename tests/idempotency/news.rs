//! How followers learn what other processes do: by news, and without.

use std::thread;
use std::time::Duration;

use onceflight::ErrorKind;

use crate::support::*;

/// Catches a process whose followers go with the one who watched for them.
#[test]
fn a_watcher_whose_time_is_up_hands_on() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = scope.spawn(|| two.begin_timeout("k", SHORT * 5));
        two.wire.wait_ended(Verb::Claim, 1);
        let behind = scope.spawn(|| two.begin_patiently("k"));
        assert_eq!(ErrorKind::Timeout, kind(watcher.join().unwrap()));
        // The one behind it asks now, in its own name.
        in_line(&two, 0);
        lead.complete(response(1)).unwrap();
        assert_eq!(1, behind.join().unwrap().status());
    });
    assert_eq!(1, two.stats().timeouts);
}

/// Catches a hand-on that goes to a follower whose own time is up, and stops there.
#[test]
fn watchers_hand_on_one_after_the_other() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let two = &two;
        let hasty: Vec<_> =
            (1..6).map(|n| scope.spawn(move || two.begin_timeout("k", n * SHORT))).collect();
        two.wire.wait_ended(Verb::Claim, 1);
        let patient = scope.spawn(|| two.begin_patiently("k"));
        for follower in hasty {
            assert_eq!(ErrorKind::Timeout, kind(follower.join().unwrap()));
        }
        lead.abandon().unwrap();
        let next = patient.join().unwrap().lead();
        assert_eq!(2, next.attempt());
        next.complete(response(2)).unwrap();
    });
}

/// Catches a response that isn't kept, and so is lost for those who waited for it, because the one
/// who watched for them left between its completion and the news of it.
#[test]
fn a_response_that_is_not_kept_reaches_those_who_are_handed_on() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        two.wire.news(Line::Cut);
        let watcher = scope.spawn(|| two.begin_timeout("k", SHORT * 10));
        two.wire.wait_ended(Verb::Claim, 1);
        let gate = two.wire.hold_next(Verb::Claim);
        let behind = follow(scope, &two, "k");
        // The watcher's next look hangs until its time is up.
        gate.wait_arrived(1);
        lead.complete_for(response(1), Duration::ZERO).unwrap();
        assert_eq!(ErrorKind::Store, kind(watcher.join().unwrap()));
        assert_eq!(1, behind.join().unwrap().status());
    });
}

/// Catches a watcher that relies on being told: where the line is cut, it looks by itself.
#[test]
fn without_a_line_watchers_look_by_themselves() {
    let [one, two] = processes(usual);
    two.wire.news(Line::Cut);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        two.wire.wait_ended(Verb::Listen, 2);
        lead.complete(response(1)).unwrap();
        assert_eq!(1, watcher.join().unwrap().shared());
    });
}

/// Catches a watcher that trusts a line that has gone dead without a word.
#[test]
fn with_a_mute_line_watchers_look_now_and_then() {
    let [one, two] = processes(usual);
    two.wire.news(Line::Mute);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        // It has looked again since it listens; nothing but itself will have it look once more.
        two.wire.wait_ended(Verb::Claim, 2);
        lead.complete(response(1)).unwrap();
        assert_eq!(1, watcher.join().unwrap().shared());
    });
}

/// Catches a listener that never comes back, and news that were told while it was away.
#[test]
fn a_line_that_is_cut_and_mended_is_listened_to_again() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        two.wire.wait_ended(Verb::Listen, 1);
        two.wire.news(Line::Cut);
        two.wire.wait_ended(Verb::Listen, 3);
        two.wire.news(Line::Open);
        let tries = two.wire.ended(Verb::Listen);
        two.wire.wait_ended(Verb::Listen, tries + 1);
        lead.complete(response(1)).unwrap();
        assert_eq!(1, watcher.join().unwrap().shared());
    });
}

/// Catches a settlement between a watcher's look and its listening that nobody tells it.
#[test]
fn what_is_settled_while_the_listener_starts_is_seen() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let gate = two.wire.hold_next(Verb::Listen);
        let watcher = watch(scope, &two, "k");
        gate.wait_arrived(1);
        lead.complete(response(1)).unwrap();
        gate.open();
        assert_eq!(1, watcher.join().unwrap().shared());
    });
}

/// Catches a table that listens for each key, and one that can't wait for two.
#[test]
fn one_listener_serves_all_keys() {
    let [one, two] = processes(usual);
    let keys: Vec<String> = (0..32).map(|number| format!("k{number}")).collect();
    let leads: Vec<_> = keys.iter().map(|key| one.begin(key).lead()).collect();
    thread::scope(|scope| {
        let watchers: Vec<_> = keys.iter().map(|key| watch(scope, &two, key)).collect();
        for (lead, status) in leads.into_iter().zip(0..) {
            lead.complete(response(status)).unwrap();
        }
        for (watcher, status) in watchers.into_iter().zip(0..) {
            assert_eq!(status, watcher.join().unwrap().status());
        }
    });
    assert_eq!(1, two.wire.begun(Verb::Listen));
}

/// Catches a table that listens though nobody waits.
#[test]
fn a_table_without_watchers_does_not_listen() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        lead.complete(response(1)).unwrap();
        assert_eq!(1, follower.join().unwrap().shared());
    });
    assert_eq!(0, one.wire.begun(Verb::Listen));
}

/// Catches a watcher of what an operator has dropped that isn't told.
#[test]
fn an_evicted_flight_is_led_by_who_watched_it() {
    let [one, two, three] = processes(usual);
    let late = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        assert!(three.evict("k").unwrap());
        let next = watcher.join().unwrap().lead();
        assert_eq!(1, next.attempt());
        assert!(next.fence() > late.fence());
        assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
        next.complete(response(2)).unwrap();
    });
}
