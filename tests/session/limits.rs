//! Names, responses, bytes, sessions: what doesn't fit.

use onceflight::ErrorKind::{Expired, Invalid, TooLarge};
use onceflight::session::{Builder, SessionBegin, SessionRequest};
use onceflight::{ErrorKind, SessionTable};

use crate::support::{A, B, Calls, kind, with};

#[test]
fn limits_out_of_their_range_are_refused() {
    let refused = |terms: fn(Builder) -> Builder| {
        terms(SessionTable::builder()).build().map_err(|error| error.kind()).err()
    };
    let invalid: [fn(Builder) -> Builder; 7] = [
        |builder| builder.window(0),
        |builder| builder.window(65),
        |builder| builder.max_sessions(0),
        |builder| builder.max_sessions(u32::MAX),
        |builder| builder.timeout_ms(0),
        |builder| builder.max_response_len((1 << 31) + 1),
        |builder| builder.max_session_bytes(2).max_bytes(1),
    ];
    for terms in invalid {
        assert_eq!(Some(Invalid), refused(terms));
    }
    let valid: [fn(Builder) -> Builder; 5] = [
        |builder| builder,
        |builder| builder.window(1).max_sessions(1).timeout_ms(1),
        |builder| builder.window(64).max_sessions(u32::MAX - 1).timeout_ms(u64::MAX),
        |builder| {
            builder.max_response_len(1 << 31).max_bytes(usize::MAX).max_session_bytes(usize::MAX)
        },
        |builder| builder.max_response_len(0).max_session_bytes(0).max_bytes(0),
    ];
    for terms in valid {
        assert_eq!(None, refused(terms));
    }
}

/// It was executed, and that is known: it is never executed again.
#[test]
fn a_response_too_large_to_keep_is_a_tombstone() {
    let mut table = with(|builder| builder.max_response_len(3));
    let life = table.life(A);
    let request = SessionRequest::new(A, life, 1).digest([1; 16]);
    let mut executed = 0;
    for _ in 0..3 {
        let applied = table.apply(&request, 0, || {
            executed += 1;
            (0, "four")
        });
        assert_eq!(TooLarge, kind(applied));
    }
    assert_eq!((1, 0), (executed, table.response_bytes()));
    assert_eq!(TooLarge, kind(table.peek(A, life, 1)));
    assert_eq!(ErrorKind::Conflict, table.refusal(&SessionRequest::new(A, life, 1)));
    let mut restored = SessionTable::restore(&table.bytes()).unwrap();
    assert_eq!(TooLarge, restored.refusal(&request));
    // As long as allowed.
    table.lead(&SessionRequest::new(A, life, 2), b"333");
    // It counts in the window as any other, and an ack takes it away.
    assert_eq!(2, table.sessions().next().unwrap().replies);
    table.lead(&SessionRequest::new(A, life, 3).ack(3), b"");
    assert_eq!(1, table.sessions().next().unwrap().replies);
}

#[test]
fn a_session_without_room_for_a_response_keeps_a_tombstone() {
    let mut table = with(|builder| builder.max_session_bytes(10));
    let (life, other) = (table.life(A), table.life(B));
    let request = |seq| SessionRequest::new(A, life, seq);
    table.lead(&request(1), b"sixsix");
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&request(2)));
    assert_eq!(TooLarge, kind(table.record(&request(2), 0, b"five5")));
    table.lead(&request(3), b"four");
    assert_eq!(TooLarge, table.refusal(&request(2)));
    // Each session has its own.
    table.lead(&SessionRequest::new(B, other, 1), b"ten bytes.");
    assert_eq!((2, 20), (table.len(), table.response_bytes()));
    // What is acknowledged makes room; not for what has been told already.
    table.lead(&request(4).ack(2), b"sixsix");
    assert_eq!(TooLarge, table.refusal(&request(2)));
}

/// Past the bytes of all, whole sessions go, the longest unused first.
#[test]
fn bytes_of_all_sessions_push_out_whole_sessions() {
    let mut table = with(|builder| builder.max_bytes(10).max_session_bytes(10));
    let [a, b, c] = [&b"a"[..], b"b", b"c"].map(|client| {
        let life = table.life(client);
        table.lead(&SessionRequest::new(client, life, 1), b"333");
        life
    });
    table.keep_alive(A, a, 0).unwrap();
    table.lead(&SessionRequest::new(b"c", c, 2), b"4");
    assert_eq!((3, 10), (table.len(), table.response_bytes()));
    table.lead(&SessionRequest::new(A, a, 2), b"5");
    assert_eq!(["c", "a"], *table.names());
    assert_eq!(8, table.response_bytes());
    assert_eq!(Expired, table.refusal(&SessionRequest::new(b"b", b, 1)));
    // The one that has just been recorded is the last to go, and fits alone.
    table.lead(&SessionRequest::new(A, a, 3), b"666666");
    assert_eq!((vec!["a".to_owned()], 10), (table.names(), table.response_bytes()));
    // Empty sessions have nothing to give, and go in their turn.
    table.life(B);
    table.keep_alive(A, a, 0).unwrap();
    table.life(b"d");
    table.lead(&SessionRequest::implicit(b"e", 1), b"1");
    assert_eq!(["d", "e"], *table.names());
}

/// Nothing is kept, but that it was executed.
#[test]
fn a_table_without_bytes_keeps_tombstones_and_empty_responses() {
    let mut table = with(|builder| builder.max_session_bytes(0).max_bytes(0));
    let life = table.life(A);
    table.lead(&SessionRequest::new(A, life, 1), b"");
    table.replay(&SessionRequest::new(A, life, 1));
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&SessionRequest::new(A, life, 2)));
    assert_eq!(TooLarge, kind(table.record(&SessionRequest::new(A, life, 2), 0, b"1")));
    assert_eq!(1, table.len());
}

/// Whatever is acknowledged, pushed out, expired or begun anew, the sum is that of what is kept.
#[test]
fn the_bytes_are_those_of_the_responses() {
    let mut table = with(|builder| builder.timeout_ms(100).max_sessions(2));
    let sum = |table: &SessionTable| table.sessions().map(|session| session.bytes).sum::<u64>();
    let a = table.life(A);
    for (seq, ack) in [(1, 0), (2, 0), (3, 2), (4, 0)] {
        table.lead(&SessionRequest::new(A, a, seq).ack(ack), b"seven 7");
    }
    assert_eq!((21, 21), (table.response_bytes(), sum(&table)));
    table.lead(&SessionRequest::implicit(B, 1), b"six 66");
    assert_eq!((27, 27), (table.response_bytes(), sum(&table)));
    table.lead(&SessionRequest::implicit(b"c", 1), b"five5");
    assert_eq!((11, 11), (table.response_bytes(), sum(&table)));
    table.register(B, "another", 60).unwrap();
    assert_eq!((5, 5), (table.response_bytes(), sum(&table)));
    table.expire(100).unwrap();
    assert_eq!((0, 0, 1), (table.response_bytes(), sum(&table), table.len()));
}
