//! A scope is part of the key: whose it is.

use std::time::Duration;

use onceflight::ErrorKind;
use onceflight::store::MemoryStore;

use crate::support::*;

/// Catches a replay across principals.
#[test]
fn the_same_key_in_two_scopes_is_two_keys() {
    let [one, two] = processes(usual);
    let ada = one.request("k").scope("ada").fingerprint("a").begin().lead();
    let bob = two.request("k").scope("bob").fingerprint("b").begin().lead();
    let nobody = one.begin("k").lead();
    ada.complete(response(1)).unwrap();
    bob.complete(response(2)).unwrap();
    nobody.complete(response(3)).unwrap();
    for process in [&one, &two] {
        let replay = |scope: &str, fingerprint: &str| {
            process.request("k").scope(scope).fingerprint(fingerprint).begin().replayed()
        };
        assert_eq!((1, 2), (replay("ada", "a"), replay("bob", "b")));
        assert_eq!(3, process.begin("k").replayed());
    }
}

/// Catches scope and key that are run together: in the store's name of a record, and in this
/// process's of a flight.
#[test]
fn where_a_scope_ends_and_its_key_begins_is_told_apart() {
    let [one, two] = processes(usual);
    let names =
        [("ab", "c", ""), ("a", "bc", ""), ("", "abc", ""), ("abc", "", ""), ("a", "b", "c")];
    let leads = names.map(|(scope, key, fingerprint)| {
        one.request(key).scope(scope).fingerprint(fingerprint).begin().lead()
    });
    for (lead, status) in leads.into_iter().zip(0..) {
        lead.complete(response(status)).unwrap();
    }
    for ((scope, key, fingerprint), status) in names.into_iter().zip(0..) {
        let replay = two.request(key).scope(scope).fingerprint(fingerprint).begin().replayed();
        assert_eq!(status, replay);
    }
}

/// Catches a table's scope that is the default of its requests only, or of its operators only.
#[test]
fn a_tables_scope_is_that_of_its_requests_and_its_operators() {
    let store = MemoryStore::new();
    let ada = Process::new(&store, |table| table.scope("ada"));
    let bob = Process::new(&store, |table| table.scope("bob"));
    ada.begin("k").lead().complete(response(1)).unwrap();
    bob.begin("k").lead().complete(response(2)).unwrap();
    assert_eq!(1, bob.request("k").scope("ada").begin().replayed());
    assert_eq!(b"ada", ada.record("k").key.scope());
    let listed = ada.list(None, 10).unwrap();
    assert_eq!(vec![&b"ada"[..]], listed.iter().map(|r| r.key.scope()).collect::<Vec<_>>());
    assert!(ada.forget("k").unwrap());
    assert_eq!(2, bob.begin("k").replayed());
    ada.begin("k").lead().cancel().unwrap();
}

/// Catches a scope that is cut short instead of refused.
#[test]
fn a_scope_that_is_too_long_is_refused() {
    let [one] = processes(usual);
    let (most, more) = ([7; 1024], [7; 1025]);
    one.request("k").scope(&most).begin().lead().cancel().unwrap();
    let refused = error(one.request("k").scope(&more).timeout(Duration::ZERO).begin());
    assert_eq!(ErrorKind::TooLarge, refused.kind());
    assert!(refused.to_string().contains("1025") && refused.to_string().contains("1024"));
    let table = onceflight::IdempotencyTable::builder().scope(more);
    assert_eq!(ErrorKind::TooLarge, kind(table.over(one.wire.clone())));
}
