//! All bytes are kept as they are.

use onceflight::ErrorKind;
use onceflight::store::{Claim, RecordKey, Release, Response, Settled};

use crate::harness::*;

suite!(
    every_byte_is_kept,
    empty_is_something,
    keys_may_be_empty_or_long,
    a_status_is_any_number,
    large_responses_are_kept_or_refused,
);

/// Not text, not a line, not a string that ends at a zero.
fn every_byte_is_kept(world: &World) {
    let all: Vec<u8> =
        (0..=255).chain((0..=255).rev()).chain(*b"\r\n\0\r\nEND\r\n'\"\\$1{}%s").collect();
    let store = world.store();
    let key = RecordKey::new([&world.scope, &all[..512]].concat(), &all).expect("a short scope");
    let claim = || Claim { fingerprint: Some(&all), ..claim() };
    let led = store.lead(&key, &claim());
    assert_eq!(store.checkpoint(&key, led.held, &all), Settled::Done);
    assert_eq!(store.release(&key, led.held, Release::Abandon), Settled::Done);
    let led = world.another().lead(&key, &claim());
    assert_eq!(led.grant.checkpoint.as_deref(), Some(&*all));
    let record = store.record(&key);
    assert_eq!(record.key, key);
    assert_eq!(record.fingerprint.as_deref(), Some(&*all));
    assert_eq!(record.checkpoint.as_deref(), Some(&*all));
    assert_eq!(store.complete(&key, led.held, &all, LONG), Settled::Done);
    assert_eq!(completed(world.another().claim(&key, &claim())).data(), all);
}

/// An empty body is a response (#31), and an empty checkpoint one.
fn empty_is_something(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    assert_eq!(store.record(&key).checkpoint, None);
    assert_eq!(store.checkpoint(&key, led.held, b""), Settled::Done);
    assert_eq!(store.record(&key).checkpoint.as_deref(), Some(&b""[..]));
    assert_eq!(store.complete(&key, led.held, b"", LONG), Settled::Done);
    let response = completed(world.another().claim(&key, &claim()));
    assert_eq!((response.status(), response.data()), (200, &b""[..]));
    assert_eq!(store.record(&key).response, Some(response));
}

fn keys_may_be_empty_or_long(world: &World) {
    let store = world.store();
    let mut scope = world.scope.clone();
    scope.resize(RecordKey::MAX_SCOPE, b'x');
    let key = |key: &[u8]| RecordKey::new(&scope, key).expect("the longest scope");
    let (long, longer) = (vec![7; 65_536], vec![7; 65_537]);
    let keys = [key(b""), key(b"\0"), key(&long), key(&longer)];
    for (number, key) in keys.iter().enumerate() {
        let led = store.lead(key, &claim());
        let data = number.to_string();
        assert_eq!(store.complete(key, led.held, data.as_bytes(), LONG), Settled::Done);
    }
    for (number, key) in keys.iter().enumerate() {
        let response = completed(world.another().claim(key, &claim()));
        assert_eq!(response.data(), number.to_string().as_bytes());
        assert_eq!(store.record(key).key, *key);
    }
    // Every test's key has a scope; this one hasn't, so its name must be its own.
    let bare = RecordKey::new("", unique()).expect("no scope");
    let led = store.lead(&bare, &claim());
    assert_eq!(store.record(&bare).key, bare);
    assert_eq!(store.release(&bare, led.held, CANCEL), Settled::Done);
}

fn a_status_is_any_number(world: &World) {
    for status in [i32::MIN, -1, 0, 1, 599, i32::MAX] {
        let (key, store) = (world.key(&status.to_string()), world.store());
        let led = store.lead(&key, &claim());
        let response = Response::new(status, b"done");
        assert_eq!(store.respond(&key, led.held, &response, LONG), Settled::Done);
        assert_eq!(completed(world.another().claim(&key, &claim())), response);
    }
}

/// What is refused as too large (#45) leaves the lead live; nothing is cut off.
fn large_responses_are_kept_or_refused(world: &World) {
    let store = world.store();
    for size in [1 << 16, 1 << 19, 1 << 20, 1 << 24] {
        let key = world.key(&size.to_string());
        let data: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(size).collect();
        let led = store.lead(&key, &claim());
        let response = Response::new(200, &data);
        match store.0.complete(&key, led.held, &response, LONG, soon()) {
            Ok(settled) => assert_eq!(settled, Settled::Done),
            Err(error) => {
                assert!(size > world.backend.largest, "{size}: {error}");
                assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
                in_progress(world.another().claim(&key, &claim()));
                assert_eq!(store.complete(&key, led.held, b"smaller", LONG), Settled::Done);
                continue;
            }
        }
        assert!(completed(world.another().claim(&key, &claim())).data() == data, "{size}");
        assert!(store.evict(&key));
    }
}
