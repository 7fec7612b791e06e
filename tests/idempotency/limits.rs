//! Limits: what is refused, and that the refusal says what to do.

use std::thread;
use std::time::Duration;

use onceflight::idempotency::{Begin, Builder};
use onceflight::store::Response;
use onceflight::{Error, ErrorKind, IdempotencyTable};

use crate::support::*;

#[track_caller]
fn told(refused: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(kind, refused.kind());
    for word in words {
        assert!(refused.to_string().contains(word), "no {word:?} in {refused:?}");
    }
}

/// Catches a limit that is one off, holds completed keys against it, or leaks a place.
#[test]
fn keys_in_flight_are_limited() {
    let [one] = processes(|table| table.max_in_flight(2));
    for _ in 0..3 {
        let leads = ["a", "b"].map(|key| one.request(key).ttl(Duration::ZERO).begin().lead());
        let refused = error(one.look("c"));
        told(&refused, ErrorKind::Overloaded, &["max_in_flight", "later"]);
        // Who follows takes no place.
        assert_eq!(ErrorKind::Timeout, kind(one.begin_timeout("a", SHORT)));
        for lead in leads {
            lead.complete(response(1)).unwrap();
        }
    }
    one.begin("c").lead().complete(response(1)).unwrap();
    assert_eq!(3 + 6 - 2, one.wire.begun(Verb::Claim));
}

/// Catches followers without bound; and callers that would be refused though they don't wait.
#[test]
fn followers_of_a_key_are_limited() {
    let [one] = processes(|table| table.max_waiters(2));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let line = [follow(scope, &one, "k"), follow(scope, &one, "k")];
        told(&error(one.begin("k")), ErrorKind::Overloaded, &["later"]);
        assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
        lead.complete(response(1)).unwrap();
        for follower in line {
            assert_eq!(1, follower.join().unwrap().shared());
        }
    });
}

/// Catches lengths that are one off, or checked at the store only.
#[test]
fn keys_and_fingerprints_have_a_length() {
    let [one] = processes(|table| table.max_key_len(4));
    one.request("1234").fingerprint("1234").begin().lead().cancel().unwrap();
    let calls = one.wire.all_begun();
    told(&error(one.begin("12345")), ErrorKind::TooLarge, &["key", "5", "max_key_len is 4"]);
    let refused = error(one.request("k").fingerprint("12345").begin());
    told(&refused, ErrorKind::TooLarge, &["fingerprint", "5", "max_key_len is 4"]);
    assert_eq!(calls, one.wire.all_begun());
    one.begin("").lead().cancel().unwrap();
}

/// Catches a response that is stored though it is too large, and a lead that is lost by trying.
#[test]
fn a_response_that_is_too_large_leaves_the_lead() {
    let [one, two] = processes(|table| table.max_response_len(4));
    let lead = one.begin("k").lead();
    let refused = lead.complete(Response::new(1, b"12345")).unwrap_err();
    told(&refused.error, ErrorKind::TooLarge, &["5", "max_response_len is 4"]);
    assert_eq!(Response::new(1, b"12345"), refused.response);
    assert_eq!(0, one.wire.begun(Verb::Complete));
    refused.lead.expect("it is live").complete(Response::new(1, b"1234")).unwrap();
    assert_eq!(b"1234", two.record("k").response.unwrap().data());
}

/// Catches a response whose bytes or status don't survive.
#[test]
fn a_response_is_any_status_and_bytes() {
    let [one, two] = processes(usual);
    let all: Vec<u8> = (0..=255).collect();
    for (key, made) in [
        ("all", Response::new(i32::MIN, &all)),
        ("empty", Response::new(0, b"")),
        ("large", Response::new(-1, &vec![7; 1 << 20])),
    ] {
        one.begin(key).lead().complete(made.clone()).unwrap();
        match two.begin(key).unwrap() {
            Begin::Replayed(response) => assert_eq!(made, response),
            other => panic!("{other:?}"),
        }
    }
}

/// Catches options that can't be meant and are taken.
#[test]
fn options_that_can_not_be_meant_are_refused() {
    let [one] = processes(usual);
    let over = |setup: fn(Builder) -> Builder| {
        setup(IdempotencyTable::builder()).over(one.wire.clone()).map(drop)
    };
    told(&error(over(|table| table.lease(Duration::ZERO))), ErrorKind::Invalid, &["lease"]);
    let refused = error(over(|table| table.store_timeout(Duration::ZERO)));
    told(&refused, ErrorKind::Invalid, &["store_timeout"]);
    let refused = error(one.request("k").lease(Duration::ZERO).begin());
    told(&refused, ErrorKind::Invalid, &["lease"]);
    assert_eq!(0, one.wire.all_begun());
}

/// Catches a sum of times that overflows.
#[test]
fn no_time_is_too_long() {
    for ever in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
        let [one, two] = processes(|table| table.ttl(ever).lease(ever).max_lead(ever));
        let lead = one.request("k").ttl(ever).lease(ever).timeout(ever).begin().lead();
        thread::scope(|scope| {
            let here = scope.spawn(|| one.begin_timeout("k", ever));
            let there = scope.spawn(|| two.begin_timeout("k", ever));
            in_line(&one, 1);
            lead.renew(ever).unwrap();
            lead.complete_for(response(1), ever).unwrap();
            assert_eq!(1, here.join().unwrap().status());
            assert_eq!(1, there.join().unwrap().status());
        });
    }
}

/// Catches the same in the deadlines of the store's answers.
#[test]
fn no_store_timeout_is_too_long() {
    let [one] = processes(|table| table.store_timeout(Duration::MAX));
    let lead = one.begin("k").lead();
    assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
    lead.complete(response(1)).unwrap();
    assert_eq!(1, one.begin("k").replayed());
    assert!(one.forget("k").unwrap());
}
