//! What the tests of others hold, held here, each under its name there.
//!
//! | whose | test |
//! |-|-|
//! | Dragonboat, `statemachine` and `session` | a duplicated update, a responded update, an unregistered client, order and eviction of the LRU, saved and restored, an old version of the snapshot |
//! | LogCabin, `Server/StateMachine` | `expireResponses`, `expireSessions`, `openSession`, a snapshot of an unknown version |
//! | Ratis, `RetryCache` | a retry on a new leader |

use onceflight::ErrorKind::{Expired, Format, SeqStale};
use onceflight::SessionTable;
use onceflight::session::SessionRequest;

use crate::support::{A, B, Calls, Random, add, kind, table, with};

/// Dragonboat: a duplicated update isn't applied twice.
#[test]
fn dragonboat_duplicated_update_will_not_be_applied_twice() {
    let (mut table, mut sum) = (table(), 0);
    let life = table.life(A);
    let request = SessionRequest::new(A, life, 1);
    let first = add(&mut table, &request, 1, &mut sum).unwrap();
    for later in 2..10 {
        let again = add(&mut table, &request, later, &mut sum).unwrap();
        assert_eq!((1, true), (sum, again.replayed));
        assert_eq!(first.response, again.response);
    }
}

/// Dragonboat: an update whose response was acknowledged isn't applied again; there it gets no answer.
#[test]
fn dragonboat_responded_update_will_not_be_applied_twice() {
    let (mut table, mut sum) = (table(), 0);
    let life = table.life(A);
    add(&mut table, &SessionRequest::new(A, life, 1), 1, &mut sum).unwrap();
    add(&mut table, &SessionRequest::new(A, life, 2).ack(2), 2, &mut sum).unwrap();
    assert_eq!(SeqStale, kind(add(&mut table, &SessionRequest::new(A, life, 1), 3, &mut sum)));
    assert_eq!(2, sum);
}

/// Dragonboat: an update of a client that didn't register is reported, and not applied.
#[test]
fn dragonboat_update_from_an_unregistered_client_is_reported() {
    let (mut table, mut sum) = (table(), 0);
    assert_eq!(Expired, kind(add(&mut table, &SessionRequest::new(A, 12, 1), 1, &mut sum)));
    let life = table.life(A);
    table.unregister(A).unwrap();
    assert_eq!(Expired, kind(add(&mut table, &SessionRequest::new(A, life, 1), 2, &mut sum)));
    assert_eq!(0, sum);
}

/// Dragonboat: registered twice with its own retry, which is rejected there.
#[test]
fn dragonboat_a_registration_that_is_retried_is_the_same() {
    let mut table = table();
    assert_eq!(table.life(A), table.life(A));
    assert_eq!(1, table.len());
}

/// Dragonboat: the oldest goes, and a look at one makes it the newest.
#[test]
fn dragonboat_lru_evicts_in_order() {
    const MOST: u32 = 64;
    let mut table = with(|builder| builder.max_sessions(MOST));
    let name = |client: u32| client.to_le_bytes();
    for client in 0..MOST {
        table.life(&name(client));
    }
    // Every second is used; so the others go first, in their order, and then these.
    for client in (0..MOST).step_by(2) {
        table.keep_alive(name(client), u64::from(client) + 1, 0).unwrap();
    }
    let order: Vec<u32> = (1..MOST).step_by(2).chain((0..MOST).step_by(2)).collect();
    for (new, gone) in (MOST..).zip(order) {
        assert!(table.peek(name(gone), u64::from(gone) + 1, 1).is_ok());
        table.life(&name(new));
        assert_eq!(Expired, kind(table.peek(name(gone), u64::from(gone) + 1, 1)));
    }
}

/// Dragonboat: the LRU is saved and restored with its order; both copies then change alike.
#[test]
fn dragonboat_lru_is_saved_and_restored_with_its_order() {
    let mut table = with(|builder| builder.max_sessions(20));
    let mut random = Random(4);
    let mut step = move || (random.within(0..40).to_le_bytes(), random.one_in(3));
    let apply = |table: &mut SessionTable, (client, anew): ([u8; 8], bool)| {
        if anew { table.register(client, "n", 0).map(drop) } else { table.keep_alive(client, 0, 0) }
    };
    for _ in 0..100 {
        let _ = apply(&mut table, step());
    }
    let mut copy = SessionTable::restore(&table.bytes()).unwrap();
    for _ in 0..200 {
        let step = step();
        assert_eq!(apply(&mut table, step), apply(&mut copy, step));
        assert_eq!(table.names(), copy.names());
        assert_eq!(table.bytes(), copy.bytes());
    }
}

/// `LogCabin` `expireResponses`: what is acknowledged is forgotten, and the floor never falls.
#[test]
fn logcabin_expire_responses() {
    let mut table = with(|builder| builder.window(8));
    let life = table.life(A);
    let request = |seq| SessionRequest::new(A, life, seq);
    for seq in [1, 2, 5] {
        table.lead(&request(seq), b"r");
    }
    table.lead(&request(6).ack(4), b"r");
    let known = |table: &SessionTable| {
        let session = table.sessions().next().unwrap();
        (session.floor, session.replies)
    };
    assert_eq!((4, 2), known(&table));
    table.lead(&request(7).ack(3), b"r");
    table.lead(&request(8), b"r");
    assert_eq!((4, 4), known(&table));
    table.replay(&request(8).ack(8));
    assert_eq!((8, 1), known(&table));
}

/// `LogCabin` `expireSessions`: those unused since before the timeout go, the others stay.
#[test]
fn logcabin_expire_sessions() {
    let mut table = with(|builder| builder.timeout_ms(3600));
    for (client, at) in [(&b"1"[..], 0), (b"2", 2), (b"3", 4)] {
        table.register(client, "n", at).unwrap();
    }
    assert_eq!(2, table.expire(3602).unwrap());
    assert_eq!(["3"], *table.names());
    assert_eq!(0, table.expire(3602).unwrap());
}

/// `LogCabin` `openSession`: each has a number of its own, and starts with nothing; there a retry leaks one.
#[test]
fn logcabin_open_session() {
    let mut table = table();
    assert_eq!([1, 1, 2, 2], [A, A, B, B].map(|client| table.life(client)));
    assert!(table.sessions().all(|session| (session.floor, session.replies) == (1, 0)));
}

/// `LogCabin`: a snapshot of a format that isn't known stops it there; here it is told.
#[test]
fn logcabin_load_snapshot_of_an_unknown_version() {
    let mut bytes = table().bytes();
    bytes[8] += 1;
    let error = SessionTable::restore(&bytes).unwrap_err();
    assert_eq!(Format, error.kind());
    assert!(error.to_string().contains("version 2"), "{error}");
}

/// Ratis `testRetryOnNewLeader`: whoever leads next answers a retry with the first execution's reply.
/// The log of both has the request twice.
#[test]
fn ratis_retry_on_a_new_leader() {
    let (mut old, mut new) = (table(), table());
    let (mut sums, mut answers) = ([0; 2], vec![]);
    for (table, sum) in [&mut old, &mut new].into_iter().zip(&mut sums) {
        let life = table.register(A, "n", 1).unwrap();
        let request = SessionRequest::new(A, life, 1);
        add(table, &SessionRequest::new(A, life, 2), 2, sum).unwrap();
        for now in [3, 4] {
            answers.push(add(table, &request, now, sum).unwrap().response);
        }
    }
    assert_eq!([2, 2], sums);
    assert!(answers.iter().all(|answer| answer.data() == b"2"));
    assert_eq!(old.bytes(), new.bytes());
}

/// Ratis: a follower that was given the snapshot instead of the log answers the same; there the cache
/// isn't part of it.
#[test]
fn ratis_retry_on_a_new_leader_that_had_a_snapshot() {
    let (mut old, mut sum) = (table(), 0);
    let life = old.life(A);
    let request = SessionRequest::new(A, life, 1);
    let first = add(&mut old, &request, 2, &mut sum).unwrap();
    let mut new = SessionTable::restore(&old.bytes()).unwrap();
    let again = add(&mut new, &request, 3, &mut sum).unwrap();
    assert_eq!((1, true, first.response), (sum, again.replayed, again.response));
}
