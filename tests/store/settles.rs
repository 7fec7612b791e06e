//! What a lead may say, and that nobody else may.

use std::time::Duration;

use onceflight::store::{
    Claim, Claimed, Held, RecordKey, RecordState, Release, Response, Settled, Token,
};

use crate::harness::*;

suite!(
    a_completion_is_replayed_to_all,
    the_first_completion_stands,
    only_token_and_epoch_together_settle,
    a_taken_over_lead_changes_nothing,
    a_completed_record_is_not_released,
    a_released_record_is_not_completed,
    a_completion_and_a_cancel_are_never_both,
    a_completion_and_a_takeover_are_never_both,
    an_abandoned_lead_settles_nothing,
    a_cancelled_key_is_vacant,
    a_cancel_that_somebody_waits_for_keeps_the_attempt,
    a_cancel_for_a_successor_keeps_the_attempt,
    a_checkpoint_reaches_the_successor,
    a_checkpoint_outlives_a_cancel,
    the_last_checkpoint_counts,
    a_completion_drops_the_checkpoint,
    a_lead_of_a_key_without_a_record_is_stale,
);

fn a_completion_is_replayed_to_all(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    let response = Response::new(-7, b"done");
    assert_eq!(store.respond(&key, led.held, &response, LONG), Settled::Done);
    assert_eq!(completed(store.claim(&key, &claim())), response);
    assert_eq!(completed(world.another().claim(&key, &claim())), response);
}

/// Two threads settle one lead: both are told that it is done, and the response never changes.
fn the_first_completion_stands(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, led.held, b"first", LONG), Settled::Done);
    assert_eq!(world.another().complete(&key, led.held, b"second", LONG), Settled::Done);
    assert_eq!(completed(store.claim(&key, &claim())).data(), b"first");
}

/// Sends everything that a lead can say, and expects that all of it is stale.
#[track_caller]
fn refuses_all(store: &Client, key: &RecordKey, held: Held) {
    let before = essence(store.read(key));
    assert_eq!(store.renew(key, held, Some(LONG)), Settled::Stale);
    assert_eq!(store.renew(key, held, None), Settled::Stale);
    assert_eq!(store.checkpoint(key, held, b"stale"), Settled::Stale);
    assert_eq!(store.complete(key, held, b"stale", LONG), Settled::Stale);
    assert_eq!(store.release(key, held, Release::Abandon), Settled::Stale);
    assert_eq!(store.release(key, held, CANCEL), Settled::Stale);
    assert_eq!(store.release(key, held, SUCCEED), Settled::Stale);
    assert_eq!(essence(store.read(key)), before);
}

fn only_token_and_epoch_together_settle(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let held = store.lead(&key, &claim()).held;
    refuses_all(store, &key, Held { token: Token::draw().expect("randomness"), ..held });
    for epoch in [held.epoch - 1, held.epoch + 1, 0, i64::MAX.unsigned_abs(), u64::MAX] {
        refuses_all(store, &key, Held { epoch, ..held });
    }
    assert_eq!(store.complete(&key, held, b"done", LONG), Settled::Done);
}

/// A late leader never overwrites its successor (#26).
fn a_taken_over_lead_changes_nothing(world: &World) {
    let (key, old, new) = (world.key("k"), world.store(), world.another());
    let first = old.lead(&key, &brief());
    assert_eq!(old.checkpoint(&key, first.held, b"first"), Settled::Done);
    let claim = claim();
    let second = led(&claim, new.outwait(&key, &claim));
    refuses_all(old, &key, first.held);
    assert_eq!(new.checkpoint(&key, second.held, b"second"), Settled::Done);
    refuses_all(old, &key, first.held);
    assert_eq!(new.complete(&key, second.held, b"second", LONG), Settled::Done);
    refuses_all(old, &key, first.held);
    assert_eq!(completed(old.claim(&key, &claim)).data(), b"second");
}

fn a_completed_record_is_not_released(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    let before = essence(store.read(&key));
    for release in [CANCEL, SUCCEED, Release::Abandon] {
        assert_eq!(store.release(&key, led.held, release), Settled::Stale);
    }
    assert_eq!(store.renew(&key, led.held, Some(LONG)), Settled::Stale);
    assert_eq!(store.checkpoint(&key, led.held, b"late"), Settled::Stale);
    assert_eq!(essence(store.read(&key)), before);
}

fn a_released_record_is_not_completed(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    for (release, left) in [(CANCEL, None), (SUCCEED, Some(RecordState::Released))] {
        let led = store.lead(&key, &claim());
        assert_eq!(store.release(&key, led.held, release), Settled::Done);
        assert_eq!(store.complete(&key, led.held, b"late", LONG), Settled::Stale);
        assert_eq!(store.renew(&key, led.held, Some(LONG)), Settled::Stale);
        assert_eq!(store.checkpoint(&key, led.held, b"late"), Settled::Stale);
        assert_eq!(store.read(&key).map(|record| record.state), left);
    }
}

/// Two threads end one lead in two ways at once: one of them has done it.
fn a_completion_and_a_cancel_are_never_both(world: &World) {
    let stores = world.others(2);
    for round in 0..50 {
        let (key, release) = (world.key(&round.to_string()), [CANCEL, SUCCEED][round % 2]);
        let held = stores[0].lead(&key, &claim()).held;
        let settled = at_once(2, |number| match number {
            0 => stores[0].complete(&key, held, b"done", LONG),
            _ => stores[1].release(&key, held, release),
        });
        let then = stores[0].claim(&key, &claim());
        match *settled {
            [Settled::Done, Settled::Stale] => assert_eq!(completed(then).data(), b"done"),
            [Settled::Stale, Settled::Done] => assert!(matches!(then, Claimed::Lead(_))),
            _ => panic!("one of them was due: {settled:?}"),
        }
    }
}

/// (#25, #26)
fn a_completion_and_a_takeover_are_never_both(world: &World) {
    let stores = world.others(2);
    for round in 0..50 {
        let key = world.key(&round.to_string());
        let held = stores[0].lead(&key, &Claim { lease: Some(Duration::ZERO), ..claim() }).held;
        let did = at_once(2, |number| match number {
            0 => Did::Settle(stores[0].complete(&key, held, b"done", LONG)),
            _ => Did::Claim(stores[1].claim(&key, &claim())),
        });
        match &*did {
            [Did::Settle(Settled::Done), Did::Claim(Claimed::Completed(response))] => {
                assert_eq!(response.data(), b"done");
            }
            [Did::Settle(Settled::Stale), Did::Claim(Claimed::Lead(grant))] => {
                assert!(grant.taken_over);
            }
            other => panic!("one of them was due: {other:?}"),
        }
    }
}

#[derive(Debug)]
enum Did {
    Settle(Settled),
    Claim(Claimed),
}

/// A heartbeat's renewal, under way while its lead was abandoned, doesn't revive it.
fn an_abandoned_lead_settles_nothing(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let old = claim();
    let held = store.lead(&key, &old).held;
    assert_eq!(store.checkpoint(&key, held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, held, Release::Abandon), Settled::Done);
    let before = essence(store.read(&key));
    for store in [store.clone(), world.another()] {
        assert_eq!(store.renew(&key, held, Some(LONG)), Settled::Stale);
        assert_eq!(store.renew(&key, held, None), Settled::Stale);
        assert_eq!(store.checkpoint(&key, held, b"late"), Settled::Stale);
        assert_eq!(store.complete(&key, held, b"late", LONG), Settled::Stale);
        // It is released, as it was told.
        assert_eq!(store.release(&key, held, CANCEL), Settled::Done);
        assert!(matches!(store.claim(&key, &Claim { take_over: false, ..old }), Claimed::Unknown));
        assert_eq!(essence(store.read(&key)), before);
    }
    assert_eq!(store.lead(&key, &old).grant.attempt, 2);
}

fn a_cancelled_key_is_vacant(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.release(&key, first.held, CANCEL), Settled::Done);
    assert!(store.read(&key).is_none());
    let second = world.another().lead(&key, &claim());
    assert_eq!(second.grant.attempt, 1);
    assert!(!second.grant.taken_over);
    assert!(second.held.epoch > first.held.epoch);
}

fn a_cancel_for_a_successor_keeps_the_attempt(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let mut before = store.lead(&key, &claim());
    for attempt in 2..5 {
        assert_eq!(store.release(&key, before.held, SUCCEED), Settled::Done);
        // Nothing happened, so nobody needs leave to lead, and nothing is taken over.
        let claim = Claim { take_over: false, ..claim() };
        let next = world.another().lead(&key, &claim);
        assert_eq!(next.grant.attempt, attempt);
        assert!(!next.grant.taken_over);
        assert!(next.held.epoch > before.held.epoch);
        before = next;
    }
}

/// Wherever that is, it is the next in line; once it leads, nobody else waits.
fn a_cancel_that_somebody_waits_for_keeps_the_attempt(world: &World) {
    let (key, store, other) = (world.key("k"), world.store(), world.another());
    let first = store.lead(&key, &claim());
    in_progress(other.claim(&key, &Claim { watch: true, ..claim() }));
    assert_eq!(store.release(&key, first.held, CANCEL), Settled::Done);
    assert_eq!(store.record(&key).state, RecordState::Released);
    let second = other.lead(&key, &Claim { take_over: false, ..claim() });
    assert_eq!((second.grant.attempt, second.grant.taken_over), (2, false));
    assert_eq!(other.release(&key, second.held, CANCEL), Settled::Done);
    assert_eq!(store.lead(&key, &claim()).grant.attempt, 1);
}

fn a_checkpoint_reaches_the_successor(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    let second = world.another().lead(&key, &claim());
    assert_eq!(second.grant.checkpoint.as_deref(), Some(&b"half"[..]));
    // And the one after, though this one said nothing.
    assert_eq!(store.release(&key, second.held, SUCCEED), Settled::Done);
    let third = world.another().lead(&key, &claim());
    assert_eq!(third.grant.checkpoint.as_deref(), Some(&b"half"[..]));
    assert_eq!(third.grant.attempt, 3);
}

/// Even if nobody waits: what was done up to it was done.
fn a_checkpoint_outlives_a_cancel(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, first.held, CANCEL), Settled::Done);
    assert_eq!(store.record(&key).state, RecordState::Released);
    let second = world.another().lead(&key, &claim());
    assert_eq!(second.grant.attempt, 2);
    assert_eq!(second.grant.checkpoint.as_deref(), Some(&b"half"[..]));
}

fn the_last_checkpoint_counts(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    for data in [&b"a longer one"[..], b"b", b""] {
        assert_eq!(store.checkpoint(&key, first.held, data), Settled::Done);
        assert_eq!(store.record(&key).checkpoint.as_deref(), Some(data));
    }
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    assert_eq!(store.lead(&key, &claim()).grant.checkpoint.as_deref(), Some(&b""[..]));
}

fn a_completion_drops_the_checkpoint(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    for ttl in [LONG, Duration::ZERO] {
        let led = store.lead(&key, &claim());
        assert_eq!((led.grant.attempt, led.grant.checkpoint), (1, None));
        assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);
        assert_eq!(store.complete(&key, led.held, b"done", ttl), Settled::Done);
        assert!(store.read(&key).is_none_or(|record| record.checkpoint.is_none()));
        assert_eq!(store.forget(&key), ttl == LONG);
    }
    assert_eq!(store.lead(&key, &claim()).grant.checkpoint, None);
}

fn a_lead_of_a_key_without_a_record_is_stale(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let held = Held { token: Token::draw().expect("randomness"), epoch: 1 };
    assert_eq!(store.renew(&key, held, None), Settled::Stale);
    assert_eq!(store.checkpoint(&key, held, b"x"), Settled::Stale);
    assert_eq!(store.complete(&key, held, b"x", LONG), Settled::Stale);
    // As it wants to have it.
    assert_eq!(store.release(&key, held, CANCEL), Settled::Done);
    assert_eq!(store.release(&key, held, Release::Abandon), Settled::Done);
    assert!(store.read(&key).is_none());
}
