//! How long what is settled is kept.

use std::thread;
use std::time::{Duration, Instant};

use onceflight::store::{Claim, Claimed, RecordKey, Release, Settled};

use crate::harness::*;

suite!(
    a_response_is_replayed_until_its_ttl_passes,
    an_expired_key_executes_anew,
    a_ttl_of_zero_is_not_replayed,
    followers_get_a_response_that_is_not_kept,
    followers_get_no_response_of_an_earlier_flight,
    what_a_cancelled_lead_left_is_kept_in_time,
    the_lease_is_not_the_retention,
    a_purge_drops_what_expired_and_nothing_else,
    epochs_never_go_back,
);

/// Completes with a ttl, and waits until that has passed.
fn expire(store: &Client, key: &RecordKey, data: &[u8]) -> u64 {
    let led = store.lead(key, &claim());
    assert_eq!(store.complete(key, led.held, data, SHORT), Settled::Done);
    eventually("its expiry", || store.read(key).is_none().then_some(led.held.epoch))
}

fn a_response_is_replayed_until_its_ttl_passes(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    let before = Instant::now();
    assert_eq!(store.complete(&key, first.held, b"done", Duration::from_secs(1)), Settled::Done);
    let second = eventually("its expiry", || {
        let claim = claim();
        match store.claim(&key, &claim) {
            Claimed::Completed(response) => {
                assert_eq!(response.data(), b"done");
                None
            }
            lead => Some(led(&claim, lead)),
        }
    });
    assert!(before.elapsed() >= Duration::from_millis(995), "{:?}", before.elapsed());
    assert_eq!(second.grant.attempt, 1);
}

/// By its time, not by when somebody drops it (#40, #41).
fn an_expired_key_executes_anew(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let epoch = expire(store, &key, b"old");
    assert!(world.another().read(&key).is_none());
    // Nothing binds any more, the fingerprint included.
    let anew = Claim { fingerprint: Some(b"other"), take_over: false, ..claim() };
    let led = world.another().lead(&key, &anew);
    assert_eq!((led.grant.attempt, led.grant.taken_over), (1, false));
    assert!(led.held.epoch > epoch);
}

fn a_ttl_of_zero_is_not_replayed(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.complete(&key, first.held, b"done", Duration::ZERO), Settled::Done);
    assert!(world.another().read(&key).is_none());
    let second = world.another().lead(&key, &claim());
    assert_eq!((second.grant.attempt, second.grant.taken_over), (1, false));
    assert!(second.held.epoch > first.held.epoch);
}

fn followers_get_a_response_that_is_not_kept(world: &World) {
    let (key, store, other) = (world.key("k"), world.store(), world.another());
    for ttl in [Duration::ZERO, SHORT] {
        let led = store.lead(&key, &claim());
        let epoch = in_progress(other.claim(&key, &Claim { watch: true, ..claim() })).0;
        assert_eq!(epoch, led.held.epoch);
        assert_eq!(store.complete(&key, led.held, b"done", ttl), Settled::Done);
        eventually("its expiry", || store.read(&key).is_none().then_some(()));
        for _ in 0..2 {
            let following = Claim { following: Some(epoch), ..claim() };
            assert_eq!(completed(other.claim(&key, &following)).data(), b"done");
        }
        // Another payload's follower is nobody's: it begins its own.
        let other_payload = Claim { fingerprint: None, following: Some(epoch), ..claim() };
        let led = other.lead(&key, &other_payload);
        assert_eq!(other.release(&key, led.held, CANCEL), Settled::Done);
    }
}

fn followers_get_no_response_of_an_earlier_flight(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    in_progress(store.claim(&key, &Claim { watch: true, ..claim() }));
    assert_eq!(store.complete(&key, first.held, b"done", Duration::ZERO), Settled::Done);
    // A later response than the one followed is as good.
    let earlier = Claim { following: Some(first.held.epoch - 1), ..claim() };
    assert_eq!(completed(store.claim(&key, &earlier)).data(), b"done");
    let later = Claim { following: Some(first.held.epoch + 1), ..claim() };
    assert_eq!(store.lead(&key, &later).grant.attempt, 1);
}

fn what_a_cancelled_lead_left_is_kept_in_time(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    let release = Release::Cancel { successor: true, keep: SHORT };
    assert_eq!(store.release(&key, first.held, release), Settled::Done);
    eventually("its end", || store.read(&key).is_none().then_some(()));
    let second = world.another().lead(&key, &Claim { fingerprint: None, ..claim() });
    assert_eq!(second.grant.attempt, 1);
    assert_eq!(second.grant.checkpoint, None);
    assert!(second.held.epoch > first.held.epoch);
}

/// (#22)
fn the_lease_is_not_the_retention(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &Claim { keep: Some(Duration::ZERO), ..brief() });
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    thread::sleep(2 * SHORT); // past all that was said of the lease
    assert_eq!(completed(world.another().claim(&key, &claim())).data(), b"done");
    let expires = store.record(&key).expires_in.expect("a time");
    assert!(expires <= LONG && expires > LONG / 2, "{expires:?}");
}

/// In batches; what is live, or may still be wanted, is spared (#42).
fn a_purge_drops_what_expired_and_nothing_else(world: &World) {
    let (store, other) = (world.store(), world.another());
    let expired: Vec<_> = (0..7).map(|number| world.key(&format!("expired {number}"))).collect();
    let epochs: Vec<_> = expired.iter().map(|key| expire(store, key, b"old")).collect();
    let long_ago = Instant::now() + GRACE;

    // Its followers may still ask, however often is purged.
    let following = Claim { following: Some(epochs[6]), ..claim() };
    other.purge(100);
    assert_eq!(completed(other.claim(&expired[6], &following)).data(), b"old");

    let (live, leased, kept) = (world.key("live"), world.key("leased"), world.key("kept"));
    let _ = store.lead(&live, &Claim { lease: None, ..claim() });
    let lost = store.lead(&leased, &Claim { keep: None, ..brief() });
    let done = store.lead(&kept, &claim());
    assert_eq!(store.complete(&kept, done.held, b"done", LONG), Settled::Done);

    thread::sleep(long_ago.saturating_duration_since(Instant::now()));
    eventually("nothing to purge", || {
        let purged = other.purge(3);
        assert!(purged <= 3);
        (purged == 0).then_some(())
    });
    for (key, &epoch) in expired.iter().zip(&epochs) {
        let led = store.lead(key, &Claim { following: Some(epoch), ..claim() });
        assert!(led.held.epoch > epoch);
    }
    in_progress(store.claim(&live, &claim()));
    assert_eq!(completed(store.claim(&kept, &claim())).data(), b"done");
    assert_eq!(store.complete(&leased, lost.held, b"late", LONG), Settled::Done);
}

/// Whatever became of the record (#29).
fn epochs_never_go_back(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let mut last = 0;
    for _ in 0..3 {
        let ends: [fn(&Client, &RecordKey, &Led); 7] = [
            |store, key, led| assert_eq!(store.release(key, led.held, CANCEL), Settled::Done),
            |store, key, led| assert_eq!(store.release(key, led.held, SUCCEED), Settled::Done),
            |store, key, led| {
                assert_eq!(store.release(key, led.held, Release::Abandon), Settled::Done);
            },
            |store, key, led| {
                assert_eq!(store.complete(key, led.held, b"", Duration::ZERO), Settled::Done);
            },
            |store, key, led| {
                assert_eq!(store.complete(key, led.held, b"", LONG), Settled::Done);
                assert!(store.forget(key));
            },
            |store, key, _| assert!(store.evict(key)),
            |store, key, led| store.withdraw(key, led.held.token),
        ];
        for end in ends {
            let led = world.another().lead(&key, &claim());
            assert!(led.held.epoch > last, "{} after {last}", led.held.epoch);
            last = led.held.epoch;
            end(store, &key, &led);
        }
    }
}
