//! Leases, and the heartbeat that renews them: what keeps a lead, what ends it, and what comes after.

use std::thread;
use std::time::{Duration, Instant};

use onceflight::idempotency::{Begin, Lead};
use onceflight::{ErrorKind, OnLeaseExpired};

use crate::support::*;

/// A lead that has been overtaken, and the one that overtook it.
fn overtaken<'t>(one: &'t Process, two: &'t Process, key: &str) -> [Lead<'t>; 2] {
    let late = one.begin(key).lead();
    let successor = two.request(key).timeout(PATIENCE).lease(LONG).begin().lead();
    assert_eq!(2, successor.attempt());
    [late, successor]
}

/// Catches a heartbeat that comes too soon, too late, or to one lead only.
#[test]
fn a_heartbeat_renews_at_half_the_lease() {
    let [one, two] = processes(|table| table.lease(BEAT));
    let gate = one.wire.hold_next(Verb::Renew);
    let start = Instant::now();
    let leads = ["k", "l"].map(|key| one.begin(key).lead());
    gate.wait_arrived(1);
    assert!(start.elapsed() >= BEAT / 2);
    assert_ne!(Some(Duration::ZERO), one.record("k").lease_left);
    gate.open();
    one.wire.wait_ended(Verb::Renew, 6);
    assert!(start.elapsed() >= BEAT / 2 * 3);
    for key in ["k", "l"] {
        assert_eq!(ErrorKind::Timeout, kind(two.look(key)));
    }
    for lead in leads {
        assert_eq!(1, lead.attempt());
        lead.complete(response(1)).unwrap();
    }
}

/// Catches an upkeep that sleeps on because what it knew of when it fell asleep is due later.
#[test]
fn a_short_lease_is_renewed_beside_longer_ones() {
    let [one] = processes(|table| table.lease(BEAT));
    let awake = one.begin("k").lead();
    one.wire.wait_ended(Verb::Renew, 1);
    awake.complete(response(1)).unwrap();
    let long = one.request("l").lease(LONG).begin().lead();
    let short = one.begin("m").lead();
    one.wire.wait_ended(Verb::Renew, 2);
    for lead in [long, short] {
        lead.complete(response(1)).unwrap();
    }
}

/// Catches a heartbeat that gives up, or waits for half a lease again, after one failure.
#[test]
fn a_heartbeat_survives_one_failed_renewal() {
    let [one, two] = processes(|table| table.lease(BEAT));
    one.wire.next(Verb::Renew, Fault::Fail);
    let second = one.wire.hold_next(Verb::Renew);
    let start = Instant::now();
    let lead = one.begin("k").lead();
    // At 1/2, 5/8, and 9/8 of the lease.
    second.wait_arrived(1);
    assert_ne!(Some(Duration::ZERO), one.record("k").lease_left);
    second.open();
    one.wire.wait_ended(Verb::Renew, 3);
    assert!(start.elapsed() >= BEAT);
    assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
    lead.complete(response(1)).unwrap();
}

/// Catches a renewal that hangs and takes the other leads' renewals with it.
#[test]
fn a_renewal_that_hangs_costs_no_other_lead_its_lease() {
    let [one, two] = processes(|table| table.lease(BEAT));
    let gate = one.wire.hold_next(Verb::Renew);
    let leads = ["k", "l", "m"].map(|key| one.begin(key).lead());
    gate.wait_arrived(1);
    one.wire.wait_ended(Verb::Renew, 7);
    for key in ["k", "l", "m"] {
        assert_eq!(ErrorKind::Timeout, kind(two.look(key)));
    }
    for lead in leads {
        lead.complete(response(1)).unwrap();
    }
}

/// Catches a lead that nobody watches, since it was granted while all hands had others to care for.
#[test]
fn a_lead_that_is_granted_during_a_renewal_has_its_heartbeat() {
    let [one] = processes(|table| table.lease(BEAT * 2));
    let [slow, next] = [(); 2].map(|()| one.wire.hold_next(Verb::Renew));
    let long = one.request("k").lease(BEAT * 4).begin().lead();
    let claim = one.wire.hold_next(Verb::Claim);
    thread::scope(|scope| {
        let short = scope.spawn(|| one.begin("l").lead());
        claim.wait_arrived(1);
        // Held for a quarter of its lease. By then it is time for the other's, whose claim was sent before.
        slow.wait_arrived(1);
        claim.open();
        let short = short.join().unwrap();
        next.wait_arrived(1);
        assert_eq!(0, one.wire.ended(Verb::Renew));
        next.open();
        slow.open();
        short.complete(response(1)).unwrap();
    });
    long.complete(response(1)).unwrap();
}

/// Catches a heart that beats on for what was settled.
#[test]
fn a_heartbeat_ends_with_its_lead() {
    let [one] = processes(|table| table.lease(SHORT));
    let settles: [fn(Lead<'_>); 5] = [
        |lead| lead.complete(response(1)).unwrap(),
        |lead| lead.cancel().unwrap(),
        |lead| lead.abandon().unwrap(),
        |lead| lead.decline().unwrap(),
        |lead| drop(lead),
    ];
    for (number, settle) in settles.into_iter().enumerate() {
        let renewals = one.wire.ended(Verb::Renew);
        let lead = one.begin(format!("k{number}")).lead();
        one.wire.wait_ended(Verb::Renew, renewals + 1);
        settle(lead);
        // One may be on its way, and none may follow.
        wait_until("the heart's end", || {
            let renewals = one.wire.begun(Verb::Renew);
            pass(SHORT * 3);
            renewals == one.wire.begun(Verb::Renew)
        });
    }
}

/// Catches a lead that hangs and is kept alive for ever by its process.
#[test]
fn a_heartbeat_ends_after_max_lead() {
    let [one, two] = processes(|table| table.lease(SHORT * 5).max_lead(SHORT * 10));
    let late = one.begin("k").lead();
    one.wire.wait_ended(Verb::Renew, 1);
    thread::scope(|scope| {
        let here = follow(scope, &one, "k");
        let there = scope.spawn(|| two.begin_patiently("k"));
        // One of them takes over and completes, the other has its response.
        for waiting in [here, there] {
            scope.spawn(|| match waiting.join().unwrap() {
                Ok(Begin::Lead(lead)) => {
                    lead.complete(response(2)).unwrap();
                }
                other => assert_eq!(2, other.status()),
            });
        }
    });
    assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
}

/// Catches a lead without heartbeat that is renewed all the same, and a lease of ever that ends.
#[test]
fn without_heartbeat_or_without_end_nothing_is_renewed() {
    let [one] = processes(fleeting);
    let late = one.begin("k").lead();
    let endless = one.request("l").lease(Duration::MAX).begin().lead();
    assert_eq!(None, one.record("l").lease_left);
    assert_eq!(2, one.begin_patiently("k").lead().attempt());
    assert_eq!(ErrorKind::Timeout, kind(one.look("l")));
    assert_eq!(0, one.wire.begun(Verb::Renew));
    endless.complete(response(1)).unwrap();
    drop(late);
}

/// Catches followers here that wait for a lost lead of their own process.
#[test]
fn a_follower_here_takes_over_when_the_lease_passes() {
    let [one] = processes(fleeting);
    let late = one.begin("k").lead();
    let successor = one.begin_patiently("k").lead();
    assert_eq!(2, successor.attempt());
    assert!(successor.fence() > late.fence());
    assert_eq!(1, one.stats().takeovers);
    drop((late, successor));
}

/// Catches a late leader whose response is lost, or counts.
#[test]
fn a_late_response_is_refused_and_comes_back() {
    let [one, two] = processes(fleeting);
    let [late, successor] = overtaken(&one, &two, "k");
    let refused = late.complete(response(1)).unwrap_err();
    assert_eq!(ErrorKind::Stale, refused.error.kind());
    assert_eq!(response(1), refused.response);
    assert!(refused.lead.is_none());
    successor.complete(response(2)).unwrap();
    assert_eq!(2, one.begin("k").replayed());
}

/// Catches a verb that acts for a lead that is over.
#[test]
fn every_verb_of_an_overtaken_lead_is_stale() {
    let [one, two] = processes(fleeting);
    let verbs: [fn(Lead<'_>) -> ErrorKind; 6] = [
        |lead| kind(lead.renew(LONG)),
        |lead| kind(lead.set_checkpoint(b"late")),
        |lead| kind(lead.complete_for(response(1), LONG)),
        |lead| kind(lead.cancel()),
        |lead| kind(lead.abandon()),
        |lead| kind(lead.decline()),
    ];
    for (number, verb) in verbs.into_iter().enumerate() {
        let key = format!("k{number}");
        let [late, successor] = overtaken(&one, &two, &key);
        assert_eq!(ErrorKind::Stale, verb(late), "verb {number}");
        let record = one.record(&key);
        assert_eq!((successor.fence(), 2, None), (record.epoch, record.attempt, record.checkpoint));
        assert!(record.lease_left.unwrap() > SHORT);
        successor.complete(response(2)).unwrap();
        // Shared, if the table is about to pass on the flight that was lost.
        assert_eq!(2, one.begin(&key).status());
    }
}

/// Catches a late lead that ends its successor by being dropped.
#[test]
fn an_overtaken_lead_that_is_dropped_leaves_its_successor_alone() {
    let [one, two] = processes(fleeting);
    let [late, successor] = overtaken(&one, &two, "k");
    drop(late);
    assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
    successor.complete(response(2)).unwrap();
}

/// Catches followers of an overtaken lead that get its response, or nobody's: they wait for the
/// successor's.
#[test]
fn the_followers_of_an_overtaken_lead_get_its_successors_response() {
    let [one, two] = processes(fleeting);
    let late = one.request("k").lease(LONG).begin().lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        assert!(two.evict("k").unwrap());
        let successor = two.request("k").lease(LONG).begin().lead();
        assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
        // It asks the store, like anybody else.
        one.wire.wait_ended(Verb::Claim, 2);
        successor.complete(response(2)).unwrap();
        assert_eq!(2, follower.join().unwrap().shared());
    });
}

/// Catches a lead that is refused for being late though nobody has overtaken it.
#[test]
fn a_passed_lease_that_nobody_took_over_still_renews_and_completes() {
    for policy in [OnLeaseExpired::TakeOver, OnLeaseExpired::Hold] {
        let [one, two] = processes(|table| fleeting(table).on_lease_expired(policy));
        let late = one.begin("k").lead();
        pass(SHORT);
        late.set_checkpoint(b"still here").unwrap();
        late.complete(response(1)).unwrap();
        assert_eq!(1, two.begin("k").replayed());

        let late = one.begin("l").lead();
        pass(SHORT);
        late.renew(LONG).unwrap();
        assert_eq!(ErrorKind::Timeout, kind(two.look("l")));
        assert_eq!(ErrorKind::Timeout, kind(one.look("l")));
        late.complete(response(1)).unwrap();
    }
}

/// Catches a follower that is handed on when the lease passes and then misses the late response.
#[test]
fn a_follower_that_is_about_to_take_over_gets_the_late_response() {
    let [one] = processes(fleeting);
    let late = one.request("k").lease(SHORT * 5).begin().lead();
    thread::scope(|scope| {
        let gate = one.wire.hold_next(Verb::Claim);
        let follower = scope.spawn(|| one.begin_patiently("k"));
        gate.wait_arrived(1);
        late.complete(response(1)).unwrap();
        gate.open();
        assert_eq!(1, follower.join().unwrap().status());
    });
}

/// Catches a lead renewed by its holder whose lease the heartbeat then cuts short.
#[test]
fn a_heartbeat_does_not_undo_a_renewal() {
    let [one] = processes(|table| table.lease(BEAT));
    let gate = one.wire.hold_next(Verb::Renew);
    let lead = one.begin("k").lead();
    gate.wait_arrived(1);
    lead.renew(LONG).unwrap();
    gate.open();
    one.wire.wait_ended(Verb::Renew, 2);
    // At once, by a renewal more: not at the next heartbeat.
    wait_until("the holder's own lease", || one.record("k").lease_left.unwrap() > BEAT);
    lead.complete(response(1)).unwrap();
}

/// Catches a renewal that is under way when its lead is given up, and that has the key held by nobody
/// for a whole lease.
#[test]
fn a_heartbeat_does_not_revive_what_was_abandoned() {
    let settles: [fn(Lead<'_>); 2] = [|lead| drop(lead), |lead| lead.abandon().unwrap()];
    for settle in settles {
        let [one, two] = processes(|table| table.lease(BEAT));
        let gate = one.wire.hold_next(Verb::Renew);
        let lead = one.begin("k").lead();
        gate.wait_arrived(1);
        settle(lead);
        gate.open();
        one.wire.wait_ended(Verb::Renew, 1);
        assert_eq!(2, two.look("k").lead().attempt());
    }
}

/// Catches followers that wait for a lead that its own process knows to be stale.
#[test]
fn a_heartbeat_that_finds_its_lead_stale_lets_the_followers_go() {
    let [one, two] = processes(|table| table.lease(BEAT));
    let late = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        assert!(two.evict("k").unwrap());
        let next = follower.join().unwrap().lead();
        assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
        next.complete(response(2)).unwrap();
    });
}

/// Catches the same, where the heartbeat finds it out while the leader tries to settle.
#[test]
fn a_stale_lead_that_could_not_settle_lets_its_followers_go() {
    let [one, two] = processes(|table| table.lease(BEAT).store_timeout(BEAT * 2));
    let late = one.begin("k").lead();
    one.wire.every(Verb::Complete, Fault::Fail);
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        assert!(two.evict("k").unwrap());
        // The renewal comes at half a lease, in the midst of the attempts to complete.
        let refused = late.complete(response(1)).unwrap_err();
        assert!(one.wire.ended(Verb::Renew) >= 1);
        one.wire.mend();
        follower.join().unwrap().lead().complete(response(2)).unwrap();
        drop(refused);
    });
}

/// Catches a heartbeat that, once it has failed for a whole lease, never tries again.
#[test]
fn a_heartbeat_recovers_a_lead_that_nobody_took_over() {
    let [one, two] = processes(|table| table.lease(SHORT * 5));
    one.wire.every(Verb::Renew, Fault::Fail);
    let lead = one.begin("k").lead();
    pass(SHORT * 6);
    one.wire.mend();
    let failed = one.wire.begun(Verb::Renew);
    one.wire.wait_ended(Verb::Renew, failed + 2);
    wait_until("the lead is held again", || {
        two.record("k").lease_left.is_some_and(|left| !left.is_zero())
    });
    lead.complete(response(1)).unwrap();
    assert_eq!(1, two.begin("k").replayed());
}

/// Catches a renewal to a shorter lease that is heeded by the store alone.
#[test]
fn a_renewal_to_a_shorter_lease_wakes_the_followers_sooner() {
    let [one, two] = processes(|table| table.heartbeat(false).lease(LONG));
    let late = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        late.renew(SHORT).unwrap();
        assert_eq!(2, follower.join().unwrap().lead().attempt());
    });
    let late = one.begin("l").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "l");
        late.renew(SHORT).unwrap();
        assert_eq!(2, watcher.join().unwrap().lead().attempt());
    });
}

/// Catches a heart that races: however short the lease, the store isn't asked without a pause.
#[test]
fn a_heartbeat_leaves_the_store_in_peace() {
    for lease in [Duration::ZERO, Duration::from_nanos(1)] {
        let [one] = processes(|table| table.lease(LONG));
        let start = Instant::now();
        let lead = one.begin("k").lead();
        match lead.renew(lease) {
            Ok(()) => {}
            Err(error) => assert_eq!(ErrorKind::Invalid, error.kind()),
        }
        pass(SHORT * 5);
        let renewals = one.wire.begun(Verb::Renew);
        let pauses = start.elapsed().as_millis();
        assert!(renewals as u128 <= pauses + 2, "{renewals} in {pauses} ms");
        drop(lead);
    }
}
