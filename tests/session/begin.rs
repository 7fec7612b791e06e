//! In what order a request is looked at, and what is written by it.

use onceflight::ErrorKind::{
    Conflict, Expired, Fenced, Invalid, Malformed, SeqStale, TooLarge, WindowFull,
};
use onceflight::session::{SessionBegin, SessionRequest};
use onceflight::{ErrorKind, SessionTable};

use crate::support::{A, B, Calls, table, with};

/// A request that is wrong in two ways is told of the earlier. Each stage is wrong in its own way and
/// in all that come later, as far as they can meet.
#[test]
fn the_order_of_the_checks() {
    let mut table = with(|builder| builder.timeout_ms(100).max_response_len(3));
    let first = table.register(A, "n", 0).unwrap();
    let life = table.register(A, "m", 0).unwrap();
    let request = |seq| SessionRequest::new(A, life, seq);
    let digest = [7; 16];
    table.lead(&request(1), b"one");
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&request(2)));
    table.record(&request(2), 0, b"long").unwrap_err();

    // An entry is open: before the request is looked at.
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&request(3)));
    assert_eq!(Invalid, table.refusal(&request(0)));
    table.record(&request(3), 0, b"").unwrap();
    // It contradicts itself: before its session is looked for.
    assert_eq!(Malformed, table.refusal(&SessionRequest::new(B, 1, 0)));
    assert_eq!(Malformed, table.refusal(&SessionRequest::new(B, 1, 1).ack(2)));
    assert_eq!(Malformed, table.refusal(&SessionRequest::new(A, first, u64::MAX)));
    // The session: before the number.
    assert_eq!(Expired, table.refusal(&SessionRequest::new(B, life, 99)));
    assert_eq!(Expired, table.refusal(&SessionRequest::new(A, life + 1, 99)));
    assert_eq!(Fenced, table.refusal(&SessionRequest::new(A, first, 99)));
    // The number: before what is known of it.
    assert_eq!(WindowFull, table.refusal(&request(5).digest(digest)));
    // The digest: before the response, or its lack.
    assert_eq!(Conflict, table.refusal(&request(1).digest(digest)));
    assert_eq!(Conflict, table.refusal(&request(2).digest(digest)));
    assert_eq!(TooLarge, table.refusal(&request(2)));
    assert_eq!(b"one", table.replay(&request(1)).data());
    // The ack: before the number, whose place it decides.
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&request(5).ack(2)));
    table.record(&request(5), 0, b"").unwrap();
    assert_eq!(SeqStale, table.refusal(&request(1).digest(digest)));
    // Time: before the session is looked for.
    assert_eq!(Expired, table.begin(&request(1), 100).unwrap_err().kind());
    assert!(table.is_empty());
}

/// A request that is refused has still been applied: every replica has its time, its use, its ack.
#[test]
fn what_a_refused_request_leaves_behind() {
    let leaves = |request: fn(u64) -> SessionRequest<'static>, refused: ErrorKind| {
        let mut table = table();
        let life = table.life(A);
        let other = table.life(B);
        table.lead(&SessionRequest::new(A, life, 2), b"two");
        table.lead(&SessionRequest::new(A, life, 3).ack(2), b"three");
        table.keep_alive(B, other, 0).unwrap();
        assert_eq!(refused, table.begin(&request(life), 50).unwrap_err().kind());
        let a = table.sessions().find(|session| session.client == A).unwrap();
        (table.now_ms(), a.last_used_ms, table.names() == ["b", "a"], a.floor)
    };
    // Its time, its use; the ack too, which came before the refusal.
    assert_eq!((50, 50, true, 2), leaves(|life| SessionRequest::new(A, life, 1), SeqStale));
    assert_eq!(
        (50, 50, true, 3),
        leaves(|life| SessionRequest::new(A, life, 7).ack(3), WindowFull)
    );
    let other_payload = |life| SessionRequest::new(A, life, 3).ack(3).digest([1; 16]);
    assert_eq!((50, 50, true, 3), leaves(other_payload, Conflict));
    // Nothing of who isn't the client, but that time has passed.
    assert_eq!((50, 0, false, 2), leaves(|life| SessionRequest::new(A, life + 9, 3), Expired));
    assert_eq!((50, 0, false, 2), leaves(|_| SessionRequest::new(A, 0, 3), Fenced));
    // Nothing at all.
    assert_eq!((0, 0, false, 2), leaves(|life| SessionRequest::new(A, life, 3).ack(4), Malformed));
}

/// What a leader looks up isn't in the log of the others.
#[test]
fn a_peek_changes_nothing() {
    let mut table = with(|builder| builder.timeout_ms(100).max_response_len(3));
    let life = table.life(A);
    let other = table.life(B);
    for (seq, data) in [(1, &b"one"[..]), (2, b"two"), (3, b"long")] {
        assert_eq!(
            Ok(SessionBegin::Lead),
            table.ask(&SessionRequest::new(A, life, seq).ack(seq / 2))
        );
        let _ = table.record(&SessionRequest::new(A, life, seq), 7, data);
    }
    table.lead(&SessionRequest::new(A, life, 4).ack(2), b"");
    table.keep_alive(B, other, 0).unwrap();
    let before = (table.bytes(), table.names());

    let peek = |seq| table.peek(A, life, seq);
    assert_eq!(SeqStale, peek(1).unwrap_err().kind());
    let two = peek(2).unwrap().unwrap();
    assert_eq!((7, &b"two"[..]), (two.status(), two.data()));
    assert_eq!(TooLarge, peek(3).unwrap_err().kind());
    // Not executed; and what of the window isn't known here may be free by now.
    assert_eq!([Ok(None), Ok(None)], [peek(5), peek(6)]);
    assert_eq!(Expired, table.peek(b"c", 1, 1).unwrap_err().kind());
    assert_eq!(before, (table.bytes(), table.names()));
}

/// ... and may be called while an entry is open, and from any thread.
#[test]
fn a_peek_is_for_any_number_of_threads() {
    let mut table = table();
    let life = table.life(A);
    table.lead(&SessionRequest::new(A, life, 1), b"one");
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&SessionRequest::new(A, life, 2)));
    let table: &SessionTable = &table;
    std::thread::scope(|scope| {
        let looks = [(); 4].map(|()| {
            scope.spawn(|| {
                assert_eq!(b"one", table.peek(A, life, 1).unwrap().unwrap().data());
                assert_eq!(Ok(None), table.peek(A, life, 2));
            })
        });
        for look in looks {
            look.join().unwrap();
        }
    });
}

/// An application's error is what its request came to, and is replayed as any other response.
#[test]
fn a_status_and_an_error_are_responses() {
    let mut table = table();
    let life = table.life(A);
    for (seq, status) in [(1, i32::MIN), (2, -1), (3, 0), (4, i32::MAX)] {
        let request = SessionRequest::new(A, life, seq);
        let first = table.apply(&request, 0, || (status, "insufficient funds")).unwrap();
        let again =
            table.apply(&request, 0, || -> (i32, &str) { panic!("executed twice") }).unwrap();
        assert_eq!((false, true), (first.replayed, again.replayed));
        assert_eq!(first.response, again.response);
        assert_eq!(
            (status, &b"insufficient funds"[..]),
            (again.response.status(), again.response.data())
        );
    }
}
