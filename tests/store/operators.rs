//! What operators see and do (#46).

use std::time::Duration;

use onceflight::ErrorKind;
use onceflight::store::{
    Claim, Record, RecordId, RecordKey, RecordState, Release, Response, Settled,
};

use crate::harness::*;

suite!(
    a_key_without_a_record_reads_as_none,
    a_record_in_progress_reads_as_it_is,
    a_completed_record_reads_as_it_is,
    a_released_record_reads_as_it_is,
    a_forgotten_response_is_gone,
    a_record_in_progress_is_not_forgotten,
    an_evicted_lead_is_stale,
    an_evicted_response_is_gone,
    a_scope_is_listed_page_by_page,
    lists_leave_out_what_expired,
);

fn a_key_without_a_record_reads_as_none(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    assert!(store.read(&key).is_none());
    assert!(!store.forget(&key));
    assert!(!store.evict(&key));
}

fn a_record_in_progress_reads_as_it_is(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);
    let record = world.another().record(&key);
    assert_eq!(record.key, key);
    assert_eq!(record.state, RecordState::InProgress);
    assert_eq!(record.fingerprint.as_deref(), Some(&b"payload"[..]));
    assert_eq!((record.epoch, record.attempt), (led.held.epoch, 1));
    let lease_left = record.lease_left.expect("a lease");
    assert!(lease_left <= LONG && lease_left > LONG / 2, "{lease_left:?}");
    let expires_in = record.expires_in.expect("a time");
    assert!(expires_in > LONG && expires_in <= 2 * LONG + GRACE, "{expires_in:?}");
    assert_eq!(record.response, None);
    assert_eq!(record.checkpoint.as_deref(), Some(&b"half"[..]));
}

fn a_completed_record_reads_as_it_is(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &Claim { fingerprint: None, ..claim() });
    let response = Response::new(404, b"no such thing");
    assert_eq!(store.respond(&key, led.held, &response, LONG), Settled::Done);
    let record = world.another().record(&key);
    assert_eq!((record.key, record.state), (key, RecordState::Completed));
    assert_eq!(record.fingerprint, None);
    assert_eq!((record.epoch, record.attempt), (led.held.epoch, 1));
    assert_eq!(record.lease_left, None);
    let expires_in = record.expires_in.expect("a time");
    assert!(expires_in <= LONG && expires_in > LONG / 2, "{expires_in:?}");
    assert_eq!(record.response, Some(response));
    assert_eq!(record.checkpoint, None);
}

fn a_released_record_reads_as_it_is(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    let led = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, led.held, CANCEL), Settled::Done);
    let record = world.another().record(&key);
    assert_eq!((record.key, record.state), (key, RecordState::Released));
    assert_eq!((record.epoch, record.attempt), (led.held.epoch, 2));
    assert_eq!(record.lease_left, None);
    assert!(record.expires_in.expect("a time") <= LONG);
    assert_eq!(record.checkpoint.as_deref(), Some(&b"half"[..]));
}

fn a_forgotten_response_is_gone(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    assert!(world.another().forget(&key));
    assert!(!store.forget(&key));
    assert!(store.read(&key).is_none());
    let anew = store.lead(&key, &Claim { fingerprint: None, ..claim() });
    assert_eq!(anew.grant.attempt, 1);
    // What is only kept for a successor is forgotten as well; what has expired wasn't there.
    assert_eq!(store.release(&key, anew.held, SUCCEED), Settled::Done);
    assert!(store.forget(&key));
    let anew = store.lead(&key, &claim());
    assert_eq!(anew.grant.attempt, 1);
    assert_eq!(store.complete(&key, anew.held, b"done", Duration::ZERO), Settled::Done);
    assert!(!store.forget(&key));
}

fn a_record_in_progress_is_not_forgotten(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert!(!world.another().forget(&key));
    in_progress(store.claim(&key, &claim()));
    assert_eq!(store.release(&key, led.held, Release::Abandon), Settled::Done);
    assert!(!world.another().forget(&key));
    let led = store.lead(&key, &claim());
    assert_eq!(led.grant.attempt, 2);
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    assert_eq!(completed(store.claim(&key, &claim())).data(), b"done");
}

fn an_evicted_lead_is_stale(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    assert!(world.another().evict(&key));
    assert!(!store.evict(&key));
    assert!(store.read(&key).is_none());
    for led_anew in [false, true] {
        if led_anew {
            let anew = store.lead(&key, &Claim { fingerprint: None, ..claim() });
            assert_eq!((anew.grant.attempt, anew.grant.taken_over), (1, false));
            assert_eq!(anew.grant.checkpoint, None);
            assert!(anew.held.epoch > first.held.epoch);
        }
        assert_eq!(store.renew(&key, first.held, None), Settled::Stale);
        assert_eq!(store.checkpoint(&key, first.held, b"late"), Settled::Stale);
        assert_eq!(store.complete(&key, first.held, b"late", LONG), Settled::Stale);
    }
}

fn an_evicted_response_is_gone(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    assert!(world.another().evict(&key));
    assert_eq!(store.lead(&key, &claim()).grant.attempt, 1);
}

/// Those of a scope, `max` a page; or says that this store can't.
fn list(world: &World, scope: &[u8], max: usize) -> Option<Vec<Record>> {
    let (mut all, mut after) = (Vec::<Record>::new(), None::<RecordId>);
    loop {
        let page = world.store().0.list(scope, after, max, soon());
        if !world.backend.lists {
            assert_eq!(page.expect_err("it has no lists").kind(), ErrorKind::Unsupported);
            return None;
        }
        let page = page.expect("a list");
        assert!(page.len() <= max);
        let full = page.len() == max;
        all.extend(page);
        if !full {
            return Some(all);
        }
        after = all.last().map(|record| record.key.id());
    }
}

fn a_scope_is_listed_page_by_page(world: &World) {
    let store = world.store();
    let other = RecordKey::new([&world.scope[..], b"2"].concat(), "k").expect("a short scope");
    let _ = store.lead(&other, &claim());
    let mut keys: Vec<_> = (0..10).map(|number| world.key(&number.to_string())).collect();
    for (number, key) in keys.iter().enumerate() {
        let led = store.lead(key, &claim());
        assert_eq!(store.checkpoint(key, led.held, b"half"), Settled::Done);
        let settled = match number % 3 {
            0 => store.complete(key, led.held, b"done", LONG),
            1 => store.release(key, led.held, SUCCEED),
            _ => Settled::Done,
        };
        assert_eq!(settled, Settled::Done);
    }
    keys.sort_by_key(RecordKey::id);
    for max in [1, 3, 5, 10, 100] {
        let Some(records) = list(world, &world.scope, max) else { return };
        assert_eq!(records.iter().map(|record| record.key.clone()).collect::<Vec<_>>(), keys);
        for record in records {
            let read = store.record(&record.key);
            assert_eq!((record.state, record.epoch), (read.state, read.epoch));
            assert_eq!((record.fingerprint, record.attempt), (read.fingerprint, read.attempt));
            assert_eq!((record.response, record.checkpoint), (None, None));
        }
    }
    assert_eq!(list(world, b"a scope that nobody has", 5).map(|records| records.len()), Some(0));
}

fn lists_leave_out_what_expired(world: &World) {
    let store = world.store();
    for (name, ttl) in [("kept", LONG), ("gone", Duration::ZERO)] {
        let key = world.key(name);
        let led = store.lead(&key, &claim());
        assert_eq!(store.complete(&key, led.held, b"done", ttl), Settled::Done);
    }
    let Some(records) = list(world, &world.scope, 5) else { return };
    let names: Vec<_> = records.iter().map(|record| record.key.key()).collect();
    assert_eq!(names, [b"kept"]);
}
