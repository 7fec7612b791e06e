//! Who has a session, and which life of that client.

use onceflight::ErrorKind::{Expired, Fenced, Malformed, TooLarge};
use onceflight::session::{MAX_NAME, SessionRequest};

use crate::support::{A, B, Calls, kind, table, with};

#[test]
fn a_client_without_a_session_executes_nothing() {
    let mut table = table();
    assert_eq!(Expired, table.refusal(&SessionRequest::new(A, 1, 1)));
    assert_eq!(Expired, kind(table.keep_alive(A, 1, 0)));
    assert_eq!(Expired, kind(table.unregister(A)));
    assert_eq!(Expired, kind(table.peek(A, 1, 1)));
    assert!(table.is_empty());
}

/// A registration that is sent again, since its answer was lost, is the same.
#[test]
fn the_same_nonce_is_the_same_session() {
    let mut table = table();
    let life = table.register(A, "n", 10).unwrap();
    let request = SessionRequest::new(A, life, 1);
    table.lead(&request, b"one");
    assert_eq!(life, table.register(A, "n", 20).unwrap());
    assert_eq!(b"one", table.replay(&request).data());
    assert_eq!(1, table.len());
}

/// ... and keeps the session as any other use of it does.
#[test]
fn the_same_nonce_is_a_use() {
    let mut table = with(|builder| builder.timeout_ms(100));
    table.register(A, "n", 10).unwrap();
    table.register(B, "n", 10).unwrap();
    table.register(A, "n", 50).unwrap();
    assert_eq!(["b", "a"], *table.names());
    assert_eq!(50, table.sessions().last().unwrap().last_used_ms);
    assert_eq!(1, table.expire(110).unwrap());
    assert_eq!(["a"], *table.names());
}

#[test]
fn another_nonce_is_another_life_with_an_empty_window() {
    let mut table = table();
    let first = table.register(A, "n", 0).unwrap();
    table.lead(&SessionRequest::new(A, first, 1), b"of the first");
    let second = table.register(A, "m", 0).unwrap();
    assert!(second > first);
    assert_eq!((1, 0), (table.len(), table.response_bytes()));
    // The first one's words, which were still under way.
    assert_eq!(Fenced, table.refusal(&SessionRequest::new(A, first, 1)));
    assert_eq!(Fenced, table.refusal(&SessionRequest::new(A, first, 2)));
    assert_eq!(Fenced, kind(table.keep_alive(A, first, 0)));
    assert_eq!(Fenced, kind(table.peek(A, first, 1)));
    table.lead(&SessionRequest::new(A, second, 1), b"of the second");
}

/// One that this table hasn't given yet is of a client that registered elsewhere, or of a lost log.
#[test]
fn a_later_incarnation_than_the_session_has_is_expired() {
    let mut table = table();
    let life = table.life(A);
    assert_eq!(Expired, table.refusal(&SessionRequest::new(A, life + 1, 1)));
    assert_eq!(Expired, kind(table.keep_alive(A, life + 1, 0)));
    assert_eq!(Expired, kind(table.peek(A, life + 1, 1)));
    table.lead(&SessionRequest::new(A, life, 1), b"");
}

/// Whoever they belong to, and whatever has become of the sessions.
#[test]
fn no_two_registrations_have_the_same_incarnation() {
    let mut table = with(|builder| builder.max_sessions(2));
    let mut lives = vec![table.life(A), table.life(B), table.life(b"c")];
    table.unregister(b"c").unwrap();
    lives.push(table.life(b"c"));
    table.lead(&SessionRequest::implicit(b"d", 1), b"");
    lives.push(table.sessions().last().unwrap().incarnation);
    let again = onceflight::SessionTable::restore(&table.bytes());
    lives.push(again.unwrap().register(b"c", "another", 0).unwrap());
    assert_eq!([1, 2, 3, 4, 5, 6], *lives);
}

#[test]
fn unregister_ends_a_session_and_all_it_knows() {
    let mut table = table();
    let life = table.life(A);
    table.lead(&SessionRequest::new(A, life, 1), b"one");
    table.unregister(A).unwrap();
    assert_eq!((0, 0), (table.len(), table.response_bytes()));
    assert_eq!(Expired, table.refusal(&SessionRequest::new(A, life, 1)));
    assert_eq!(Expired, kind(table.unregister(A)));
    let next = table.life(A);
    assert_eq!(Fenced, table.refusal(&SessionRequest::new(A, life, 2)));
    assert!(next > life);
}

/// A registration with the nonce of a session that is gone is a new one.
#[test]
fn a_nonce_is_forgotten_with_its_session() {
    let mut table = table();
    let life = table.life(A);
    table.unregister(A).unwrap();
    assert!(table.life(A) > life);
}

#[test]
fn names_are_bytes_of_any_length_up_to_the_longest() {
    let mut table = table();
    let longest = [0xff; MAX_NAME];
    // Around the length from which they stand elsewhere.
    let names = [&longest[..0], &longest[..22], &longest[..23], &longest, b"\0", "ü".as_bytes()];
    for client in names {
        for nonce in names {
            let life = table.register(client, nonce, 0).unwrap();
            assert_eq!(life, table.register(client, nonce, 0).unwrap());
            table.lead(&SessionRequest::new(client, life, 1), b"");
        }
    }
    assert_eq!(names.len(), table.len());
    assert_eq!(table.bytes(), onceflight::SessionTable::restore(&table.bytes()).unwrap().bytes());

    let longer = [0xff; MAX_NAME + 1];
    assert_eq!(TooLarge, kind(table.register(longer, "n", 0)));
    assert_eq!(TooLarge, kind(table.register("a", longer, 0)));
    // Of a request, `TooLarge` would say that it was executed.
    assert_eq!(Malformed, table.refusal(&SessionRequest::new(&longer, 1, 1)));
    assert_eq!(Malformed, table.refusal(&SessionRequest::implicit(&longer, 1)));
    assert_eq!(names.len(), table.len());
}

#[test]
fn one_name_that_begins_with_another_is_another() {
    let mut table = table();
    let (a, ab) = (table.life(b"a"), table.life(b"ab"));
    table.lead(&SessionRequest::new(b"a", a, 1), b"a's");
    assert_eq!(Ok(None), table.peek(b"ab", ab, 1));
}
