//! The same key with another payload.

use std::time::Duration;

use onceflight::{DedupTable, ErrorKind, OnLeaseExpired};

use crate::support::*;

/// Who is refused with another fingerprint, and who isn't with this one.
fn assert_bound(table: &Table, to: Option<&[u8]>) {
    for other in [None, Some(&b""[..]), Some(b"a"), Some(b"b"), Some(b"aa")] {
        let request = table.request("k").timeout(Duration::ZERO);
        let result = match other {
            Some(bytes) => request.fingerprint(bytes).begin(),
            None => request.begin(),
        };
        let mismatched = result.is_err_and(|error| error.kind() == ErrorKind::Mismatch);
        assert_eq!(other != to, mismatched, "bound to {to:?}, asked with {other:?}");
    }
}

#[test]
fn a_flight_is_bound_to_its_fingerprint() {
    for bytes in [&b"a"[..], b""] {
        let table = Table::new();
        let lead = table.request("k").fingerprint(bytes).begin().lead();
        assert_bound(&table, Some(bytes));
        lead.complete(1).unwrap();
        // Without a window the key is free again.
        table.begin("k").lead().complete(1).unwrap();
    }
}

#[test]
fn an_absent_fingerprint_equals_only_an_absent_one() {
    let table = Table::builder().completed_ttl(LONG).build();
    let lead = table.begin("k").lead();
    assert_bound(&table, None);
    lead.complete(1).unwrap();
    assert_bound(&table, None);
}

#[test]
fn a_completed_response_is_bound_too() {
    let table = Table::builder().completed_ttl(LONG).build();
    table.request("k").fingerprint(b"a").begin().lead().complete(1).unwrap();
    assert_bound(&table, Some(b"a"));
}

#[test]
fn an_expired_response_is_not() {
    let table = Table::builder().completed_ttl(SHORT).build();
    table.request("k").fingerprint(b"a").begin().lead().complete(1).unwrap();
    pass(SHORT);
    table.request("k").fingerprint(b"b").begin().lead().complete(2).unwrap();
}

#[test]
fn a_passed_lease_does_not_free_the_fingerprint() {
    let table = Table::new();
    let late = table.request("k").fingerprint(b"a").lease(Duration::ZERO).begin().lead();
    assert_eq!(ErrorKind::Mismatch, kind(table.request("k").fingerprint(b"b").begin()));
    assert_eq!(ErrorKind::Mismatch, kind(table.begin("k")));
    let lead = table.request("k").fingerprint(b"a").begin().lead();
    assert_eq!(2, lead.attempt());
    drop(late);
}

#[test]
fn nor_does_an_abandoned_lead() {
    let table = Table::new();
    drop(table.request("k").fingerprint(b"a").begin().lead());
    assert_eq!(ErrorKind::Mismatch, kind(table.request("k").fingerprint(b"b").begin()));
    assert_eq!(2, table.request("k").fingerprint(b"a").begin().lead().attempt());
}

#[test]
fn mismatch_comes_before_timeout() {
    let table = Table::new();
    let _lead = table.begin("k").lead();
    let request = table.request("k").timeout(Duration::ZERO).fingerprint(b"a");
    assert_eq!(ErrorKind::Mismatch, kind(request.begin()));
    assert_eq!(0, table.stats().timeouts);
}

#[test]
fn mismatch_comes_before_unknown_and_recovery() {
    let table: Table = DedupTable::builder().on_lease_expired(OnLeaseExpired::Hold).build();
    drop(table.begin("k").lead());
    assert_eq!(ErrorKind::Mismatch, kind(table.request("k").fingerprint(b"a").begin()));
    let request = table.request("k").recover().fingerprint(b"a");
    assert_eq!(ErrorKind::Mismatch, kind(request.begin()));
}

#[test]
fn mismatch_comes_before_overloaded() {
    let table: Table = DedupTable::builder().max_in_flight(1).max_waiters(0).build();
    let _lead = table.begin("k").lead();
    assert_eq!(ErrorKind::Overloaded, kind(table.try_begin("k")));
    assert_eq!(ErrorKind::Mismatch, kind(table.request("k").fingerprint(b"a").try_begin()));
}

#[test]
fn a_mismatch_leaves_flight_and_line_alone() {
    let table = Table::new();
    let lead = table.request("k").fingerprint(b"a").begin().lead();
    let mut waiting = follower(table.request("k").fingerprint(b"a").try_begin());
    assert_eq!(ErrorKind::Mismatch, kind(table.begin("k")));
    lead.complete(4).unwrap();
    assert_eq!(4, waiting.wait_timeout(PATIENCE).shared());
}
