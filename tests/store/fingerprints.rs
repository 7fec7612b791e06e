//! The same key with another payload.

use std::time::Duration;

use onceflight::store::{Claim, Release, Settled};

use crate::harness::*;

suite!(
    another_payload_is_refused_while_in_progress,
    another_payload_is_refused_once_completed,
    another_payload_never_takes_over,
    an_absent_fingerprint_is_not_an_empty_one,
    a_fingerprint_is_compared_to_its_last_byte,
    a_checkpoint_binds_the_payload,
    without_a_checkpoint_a_cancel_frees_the_payload,
    an_expired_record_frees_the_payload,
    another_key_takes_the_same_payload,
);

/// Every claim that isn't this payload's.
fn others() -> [Claim<'static>; 3] {
    [Some(&b"other"[..]), Some(b""), None].map(|fingerprint| Claim { fingerprint, ..claim() })
}

/// Told before it is told to wait (#10).
fn another_payload_is_refused_while_in_progress(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    let before = essence(store.read(&key));
    for other in others() {
        mismatch(&world.another().claim(&key, &other));
        mismatch(
            &store.claim(&key, &Claim { following: Some(led.held.epoch), watch: true, ..other }),
        );
    }
    assert_eq!(essence(store.read(&key)), before);
    in_progress(store.claim(&key, &claim()));
}

/// The fingerprint survives completion (#16), and a refused claim changes nothing (#11).
fn another_payload_is_refused_once_completed(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    let before = essence(store.read(&key));
    for other in others() {
        mismatch(&world.another().claim(&key, &other));
        mismatch(&store.claim(&key, &Claim { following: Some(led.held.epoch), ..other }));
    }
    assert_eq!(essence(store.read(&key)), before);
    assert_eq!(completed(store.claim(&key, &claim())).data(), b"done");
}

fn another_payload_never_takes_over(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.release(&key, led.held, Release::Abandon), Settled::Done);
    for other in others() {
        mismatch(&world.another().claim(&key, &other));
    }
    assert_eq!(store.lead(&key, &claim()).grant.attempt, 2);
}

/// Empty payloads aren't missing ones (#17).
fn an_absent_fingerprint_is_not_an_empty_one(world: &World) {
    let (absent, empty) = (world.key("absent"), world.key("empty"));
    let without = || Claim { fingerprint: None, ..claim() };
    let with_empty = || Claim { fingerprint: Some(b""), ..claim() };
    let store = world.store();
    let (one, two) = (store.lead(&absent, &without()), store.lead(&empty, &with_empty()));
    for completed in [false, true] {
        if completed {
            assert_eq!(store.complete(&absent, one.held, b"", LONG), Settled::Done);
            assert_eq!(store.complete(&empty, two.held, b"", LONG), Settled::Done);
        }
        mismatch(&store.claim(&absent, &with_empty()));
        mismatch(&store.claim(&empty, &without()));
        assert_eq!(store.record(&absent).fingerprint, None);
        assert_eq!(store.record(&empty).fingerprint.as_deref(), Some(&b""[..]));
    }
    self::completed(store.claim(&absent, &without()));
    self::completed(store.claim(&empty, &with_empty()));
}

fn a_fingerprint_is_compared_to_its_last_byte(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let long = vec![0; 4096];
    let mut other = long.clone();
    other[4095] = 1;
    let _ = store.lead(&key, &Claim { fingerprint: Some(&long), ..claim() });
    in_progress(store.claim(&key, &Claim { fingerprint: Some(&long), ..claim() }));
    mismatch(&store.claim(&key, &Claim { fingerprint: Some(&other), ..claim() }));
    mismatch(&store.claim(&key, &Claim { fingerprint: Some(&long[..4095]), ..claim() }));
}

/// What is half done can't be gone on with by another payload.
fn a_checkpoint_binds_the_payload(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, led.held, b""), Settled::Done);
    assert_eq!(store.release(&key, led.held, CANCEL), Settled::Done);
    for other in others() {
        mismatch(&world.another().claim(&key, &other));
    }
    assert_eq!(store.lead(&key, &claim()).grant.attempt, 2);
}

/// Nothing happened, so nothing is the same flight's.
fn without_a_checkpoint_a_cancel_frees_the_payload(world: &World) {
    for (number, other) in others().into_iter().enumerate() {
        let (key, store) = (world.key(&number.to_string()), world.store());
        let led = store.lead(&key, &claim());
        assert_eq!(store.release(&key, led.held, SUCCEED), Settled::Done);
        let next = world.another().lead(&key, &other);
        assert_eq!((next.grant.attempt, next.grant.taken_over), (1, false));
        mismatch(&store.claim(&key, &claim()));
    }
}

fn an_expired_record_frees_the_payload(world: &World) {
    for (number, other) in others().into_iter().enumerate() {
        let (key, store) = (world.key(&number.to_string()), world.store());
        let led = store.lead(&key, &claim());
        assert_eq!(store.complete(&key, led.held, b"", Duration::ZERO), Settled::Done);
        assert_eq!(world.another().lead(&key, &other).grant.attempt, 1);
        mismatch(&store.claim(&key, &claim()));
    }
}

/// (#12)
fn another_key_takes_the_same_payload(world: &World) {
    let _ = world.store().lead(&world.key("one"), &claim());
    let _ = world.store().lead(&world.key("two"), &claim());
}
