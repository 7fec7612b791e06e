//! Who leads: of any number of claims, one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use onceflight::store::{Claim, Claimed, RecordKey, Settled};

use crate::harness::*;

suite!(
    a_vacant_key_leads,
    a_live_lead_keeps_others_out,
    a_refused_claim_changes_nothing,
    of_many_claims_one_leads,
    of_many_claims_on_an_expired_record_one_leads,
    of_many_claims_on_a_released_record_one_leads,
    all_losers_get_the_winners_response,
    leads_that_come_and_go_are_never_two,
    scopes_and_keys_do_not_mix,
);

fn a_vacant_key_leads(world: &World) {
    let led = world.store().lead(&world.key("k"), &claim());
    assert_eq!(led.grant.attempt, 1);
    assert_eq!(led.grant.checkpoint, None);
    assert!(!led.grant.taken_over);
}

fn a_live_lead_keeps_others_out(world: &World) {
    let key = world.key("k");
    let led = world.store().lead(&key, &claim());
    for other in [world.store().clone(), world.another()] {
        let (epoch, lease_left) = in_progress(other.claim(&key, &claim()));
        assert_eq!(epoch, led.held.epoch);
        let left = lease_left.expect("a lease");
        assert!(left <= LONG && left > LONG / 2, "{left:?}");
    }
}

/// A rejected duplicate leaves the record alone (#11).
fn a_refused_claim_changes_nothing(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);
    let before = essence(store.read(&key));
    let other = world.another();
    in_progress(other.claim(&key, &claim()));
    in_progress(other.claim(&key, &Claim { watch: true, ..claim() }));
    mismatch(&other.claim(&key, &Claim { fingerprint: Some(b"other"), ..claim() }));
    assert_eq!(essence(store.read(&key)), before);
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
}

/// Exactly one of 40 threads leads, through whatever handle (#18); the others are told its epoch.
fn of_many_claims_one_leads(world: &World) {
    for round in 0..10 {
        one_of_many(world, &world.key(&format!("round {round}")), 1);
    }
}

/// The same where a record is in the way that may be taken (#25, #41).
fn of_many_claims_on_an_expired_record_one_leads(world: &World) {
    for round in 0..5 {
        let key = world.key(&format!("round {round}"));
        let led = world.store().lead(&key, &claim());
        assert_eq!(
            world.store().complete(&key, led.held, b"old", std::time::Duration::ZERO),
            Settled::Done
        );
        one_of_many(world, &key, 1);
    }
}

fn of_many_claims_on_a_released_record_one_leads(world: &World) {
    for round in 0..5 {
        let key = world.key(&format!("round {round}"));
        let led = world.store().lead(&key, &claim());
        assert_eq!(world.store().release(&key, led.held, SUCCEED), Settled::Done);
        one_of_many(world, &key, 2);
    }
}

fn one_of_many(world: &World, key: &RecordKey, attempt: u32) {
    let stores = world.others(4);
    let answers = at_once(40, |number| stores[number % 4].claim(key, &claim()));
    let grants = answers.iter().filter_map(|answer| match answer {
        Claimed::Lead(grant) => Some(grant),
        _ => None,
    });
    let [lead] = *grants.collect::<Vec<_>>() else { panic!("one lead was due: {answers:?}") };
    assert_eq!(lead.attempt, attempt);
    let epoch = lead.epoch;
    for answer in answers.into_iter().filter(|answer| !matches!(answer, Claimed::Lead(_))) {
        assert_eq!(in_progress(answer).0, epoch);
    }
}

/// Who loses reads what the winner says (#20).
fn all_losers_get_the_winners_response(world: &World) {
    let (key, stores) = (world.key("k"), world.others(4));
    let led_by = AtomicUsize::new(0);
    let responses = at_once(12, |number| {
        let store = &stores[number % 4];
        loop {
            let claim = claim();
            match store.claim(&key, &claim) {
                Claimed::Completed(response) => return response.data().to_vec(),
                Claimed::InProgress { .. } => std::thread::yield_now(),
                lead => {
                    let held = led(&claim, lead).held;
                    led_by.fetch_add(1, Ordering::Relaxed);
                    let data = number.to_string();
                    assert_eq!(store.complete(&key, held, data.as_bytes(), LONG), Settled::Done);
                }
            }
        }
    });
    assert_eq!(led_by.into_inner(), 1);
    assert!(responses.windows(2).all(|pair| pair[0] == pair[1]), "{responses:?}");
}

/// Records that vanish and come back under the claims of others (#21): never two leads, each with a higher
/// epoch than the one before, and no error.
fn leads_that_come_and_go_are_never_two(world: &World) {
    let (key, stores) = (world.key("k"), world.others(4));
    let (leading, leads) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let last = AtomicU64::new(0);
    at_once(8, |number| {
        let store = &stores[number % 4];
        while leads.load(Ordering::Relaxed) < 100 {
            let claim = claim();
            if let lead @ Claimed::Lead(_) = store.claim(&key, &claim) {
                let held = led(&claim, lead).held;
                assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two leads at once");
                let last = last.swap(held.epoch, Ordering::Relaxed);
                leads.fetch_add(1, Ordering::Relaxed);
                leading.fetch_sub(1, Ordering::SeqCst);
                assert_eq!(store.release(&key, held, CANCEL), Settled::Done);
                assert!(last < held.epoch, "{} after {last}", held.epoch);
            }
        }
    });
}

/// A key is its own in each scope (#7, #9), and no byte passes from one to the other (#14).
fn scopes_and_keys_do_not_mix(world: &World) {
    let key = |scope: &str, key: &str| {
        RecordKey::new([&*world.scope, scope.as_bytes()].concat(), key).expect("a short scope")
    };
    let keys = [key("a", "bc"), key("ab", "c"), key("a", "c"), key("abc", ""), key("", "abc")];
    for (number, key) in keys.iter().enumerate() {
        let led = world.store().lead(key, &claim());
        let data = number.to_string();
        assert_eq!(world.store().complete(key, led.held, data.as_bytes(), LONG), Settled::Done);
    }
    for (number, key) in keys.iter().enumerate() {
        let response = completed(world.another().claim(key, &claim()));
        assert_eq!(response.data(), number.to_string().as_bytes());
    }
}
