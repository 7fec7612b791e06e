//! Everything may be sent again: its first result is returned.

use std::time::{Duration, Instant};

use onceflight::ErrorKind;
use onceflight::store::{Claim, RecordState, Release, Settled, Token};

use crate::harness::*;

suite!(
    a_claim_sent_again_gets_its_lead,
    a_claim_sent_by_many_at_once_is_one_lead,
    a_takeover_sent_again_gets_its_lead,
    a_claim_sent_again_after_its_lease_still_leads,
    a_claim_sent_again_after_it_was_taken_over_does_not_lead,
    a_claim_sent_again_after_its_completion_gets_that,
    a_claim_that_had_no_time_can_be_sent_again,
    a_completion_sent_again_is_done,
    a_completion_that_is_not_kept_sent_again_is_done,
    a_release_sent_again_is_done,
    a_renewal_and_a_checkpoint_sent_again_are_done,
    a_withdrawn_claim_is_vacant,
    a_withdrawn_claim_takes_its_checkpoint_with_it,
    a_withdrawn_takeover_leaves_the_outcome_unknown,
    a_withdrawal_that_finds_nothing_changes_nothing,
    a_withdrawal_keeps_a_response,
);

fn a_claim_sent_again_gets_its_lead(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let claim = claim();
    let first = store.lead(&key, &claim);
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    for again in [store.clone(), world.another()] {
        let again = again.lead(&key, &claim);
        assert_eq!((again.held, again.grant.attempt), (first.held, 1));
        assert_eq!(again.grant.checkpoint.as_deref(), Some(&b"half"[..]));
    }
    in_progress(store.claim(&key, &self::claim()));
    assert_eq!(store.complete(&key, first.held, b"done", LONG), Settled::Done);
}

fn a_claim_sent_by_many_at_once_is_one_lead(world: &World) {
    let stores = world.others(4);
    for round in 0..5 {
        let (key, claim) = (world.key(&round.to_string()), claim());
        let leads = at_once(20, |number| stores[number % 4].lead(&key, &claim));
        assert!(leads.iter().all(|led| led.held == leads[0].held), "{leads:?}");
        assert!(leads.iter().all(|led| led.grant.attempt == 1), "{leads:?}");
    }
}

fn a_takeover_sent_again_gets_its_lead(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    let claim = claim();
    let second = store.lead(&key, &claim);
    let again = world.another().lead(&key, &claim);
    assert_eq!((again.held, again.grant.attempt), (second.held, 2));
    assert_eq!(again.grant.checkpoint.as_deref(), Some(&b"half"[..]));
}

fn a_claim_sent_again_after_its_lease_still_leads(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let brief = brief();
    let first = store.lead(&key, &brief);
    unknown(&store.outwait(&key, &Claim { take_over: false, ..claim() }));
    let again = store.lead(&key, &Claim { take_over: false, ..brief });
    assert_eq!((again.held, again.grant.attempt), (first.held, 1));
}

fn a_claim_sent_again_after_it_was_taken_over_does_not_lead(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let old = claim();
    let first = store.lead(&key, &old);
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    let second = world.another().lead(&key, &claim());
    assert_eq!(in_progress(store.claim(&key, &old)).0, second.held.epoch);
}

fn a_claim_sent_again_after_its_completion_gets_that(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let claim = claim();
    let led = store.lead(&key, &claim);
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    assert_eq!(completed(world.another().claim(&key, &claim)).data(), b"done");
}

/// It was made or not, nobody knows; and it doesn't hang.
fn a_claim_that_had_no_time_can_be_sent_again(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    for _ in 0..3 {
        let claim = claim();
        if let Err(error) = store.0.claim(&key, &claim, Instant::now()) {
            assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        }
        let led = store.lead(&key, &claim);
        assert_eq!(led.grant.attempt, 1);
        assert_eq!(store.release(&key, led.held, CANCEL), Settled::Done);
    }
}

fn a_completion_sent_again_is_done(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    for again in [store.clone(), world.another(), store.clone()] {
        assert_eq!(again.complete(&key, led.held, b"done", LONG), Settled::Done);
    }
    assert_eq!(completed(store.claim(&key, &claim())).data(), b"done");
}

fn a_completion_that_is_not_kept_sent_again_is_done(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    for watch in [false, true] {
        let led = store.lead(&key, &claim());
        if watch {
            in_progress(store.claim(&key, &Claim { watch, ..claim() }));
        }
        for again in [store.clone(), world.another()] {
            assert_eq!(again.complete(&key, led.held, b"done", Duration::ZERO), Settled::Done);
        }
        assert!(store.read(&key).is_none());
    }
}

fn a_release_sent_again_is_done(world: &World) {
    for release in [CANCEL, SUCCEED, Release::Abandon] {
        let (key, store) = (world.key(&format!("{release:?}")), world.store());
        let led = store.lead(&key, &claim());
        for again in [store.clone(), world.another(), store.clone()] {
            assert_eq!(again.release(&key, led.held, release), Settled::Done);
        }
        let next = store.lead(&key, &claim());
        assert_eq!(next.grant.attempt, if release == CANCEL { 1 } else { 2 });
        assert_eq!(next.grant.taken_over, release == Release::Abandon);
    }
}

fn a_renewal_and_a_checkpoint_sent_again_are_done(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    for again in [store.clone(), world.another(), store.clone()] {
        assert_eq!(again.renew(&key, led.held, Some(LONG)), Settled::Done);
        assert_eq!(again.checkpoint(&key, led.held, b"half"), Settled::Done);
    }
    assert_eq!(store.record(&key).checkpoint.as_deref(), Some(&b"half"[..]));
}

fn a_withdrawn_claim_is_vacant(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let claim = claim();
    let _ = store.lead(&key, &claim);
    world.another().withdraw(&key, claim.token);
    store.withdraw(&key, claim.token);
    assert!(store.read(&key).is_none());
    assert_eq!(store.lead(&key, &self::claim()).grant.attempt, 1);
}

fn a_withdrawn_claim_takes_its_checkpoint_with_it(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);
    store.withdraw(&key, led.held.token);
    assert!(world.another().read(&key).is_none());
    let next = store.lead(&key, &Claim { fingerprint: None, ..claim() });
    assert_eq!((next.grant.attempt, next.grant.checkpoint), (1, None));
}

/// What it took over may have happened, so that isn't forgotten with it.
fn a_withdrawn_takeover_leaves_the_outcome_unknown(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    let second = store.lead(&key, &claim());
    world.another().withdraw(&key, second.held.token);
    store.withdraw(&key, second.held.token);
    let record = store.record(&key);
    assert_eq!((record.state, record.attempt), (RecordState::InProgress, 2));
    assert_eq!(record.lease_left, Some(Duration::ZERO));
    unknown(&store.claim(&key, &Claim { take_over: false, ..claim() }));
    mismatch(&store.claim(&key, &Claim { fingerprint: None, ..claim() }));
    let third = world.another().lead(&key, &claim());
    assert_eq!((third.grant.attempt, third.grant.taken_over), (3, true));
    assert_eq!(third.grant.checkpoint.as_deref(), Some(&b"half"[..]));
}

fn a_withdrawal_that_finds_nothing_changes_nothing(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let token = || Token::draw().expect("randomness");
    store.withdraw(&key, token());
    assert!(store.read(&key).is_none());
    let led = store.lead(&key, &claim());
    let before = essence(store.read(&key));
    store.withdraw(&key, token());
    assert_eq!(essence(store.read(&key)), before);
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
}

fn a_withdrawal_keeps_a_response(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    store.withdraw(&key, led.held.token);
    assert_eq!(store.record(&key).state, RecordState::Completed);
}
