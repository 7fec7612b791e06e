//! How long responses are replayed, and that those who waited have them however short that is.

use std::thread;
use std::time::{Duration, Instant};

use onceflight::ErrorKind;

use crate::support::*;

/// Catches a response that expires before those who waited for it have looked.
#[test]
fn what_is_not_kept_is_shared_all_the_same() {
    for ttl in [Duration::ZERO, Duration::from_millis(1)] {
        let [one, two] = processes(|table| table.ttl(ttl));
        let lead = one.begin("k").lead();
        thread::scope(|scope| {
            let here = follow(scope, &one, "k");
            let there = watch(scope, &two, "k");
            let behind = follow(scope, &two, "k");
            lead.complete(response(1)).unwrap();
            pass(ttl);
            for waiting in [here, there, behind] {
                assert_eq!(1, waiting.join().unwrap().shared());
            }
        });
        assert_eq!(1, two.look("k").lead().attempt());
    }
}

/// Catches the same for a watcher that is late: its look comes long after the response expired.
#[test]
fn a_late_watcher_has_what_has_expired() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        two.wire.news(Line::Cut);
        let watcher = watch(scope, &two, "k");
        let gate = two.wire.hold_next(Verb::Claim);
        gate.wait_arrived(1);
        lead.complete_for(response(1), Duration::ZERO).unwrap();
        pass(SHORT);
        assert_eq!(0, one.purge(10).unwrap());
        assert!(one.look_up("k").unwrap().is_none());
        gate.open();
        assert_eq!(1, watcher.join().unwrap().shared());
    });
}

/// Catches a ttl that isn't the settling leader's: its own first, then its request's, then its table's.
#[test]
fn the_ttl_is_the_settling_leaders() {
    let [one, two] = processes(|table| table.ttl(LONG));
    let left = |key| two.record(key).expires_in.unwrap();
    one.begin("table").lead().complete(response(1)).unwrap();
    assert!(left("table") > LONG / 2);
    one.request("request").ttl(LONG * 10).begin().lead().complete(response(1)).unwrap();
    assert!(left("request") > LONG * 9);
    let lead = one.request("lead").ttl(LONG * 10).begin().lead();
    lead.complete_for(response(1), LONG * 100).unwrap();
    assert!(left("lead") > LONG * 99);
    one.request("ever").begin().lead().complete_for(response(1), Duration::MAX).unwrap();
    assert_eq!(None, two.record("ever").expires_in);

    let first = one.request("promoted").ttl(Duration::ZERO).begin().lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "promoted");
        first.cancel().unwrap();
        follower.join().unwrap().lead().complete(response(2)).unwrap();
    });
    assert_eq!(2, two.begin("promoted").replayed());
}

/// Catches a ttl that counts from the begin instead of the completion.
#[test]
fn the_ttl_starts_at_completion() {
    let [one, two] = processes(|table| table.ttl(LONG));
    let lead = one.begin("k").lead();
    pass(SHORT);
    let completed = Instant::now();
    lead.complete(response(1)).unwrap();
    let left = two.record("k").expires_in.unwrap();
    assert!(left + completed.elapsed() >= LONG);
}

/// Catches a lost lead that is remembered for ever, though its table takes over.
#[test]
fn a_lost_lead_is_forgotten_after_its_ttl() {
    let [one, two] = processes(|table| fleeting(table).ttl(SHORT));
    let late = one.request("k").fingerprint("a").begin().lead();
    late.set_checkpoint(b"half").unwrap();
    pass(SHORT * 2);
    let next = two.request("k").fingerprint("b").timeout(Duration::ZERO).begin().lead();
    assert_eq!((1, None), (next.attempt(), next.checkpoint()));
    assert!(next.fence() > late.fence());
    assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
}
