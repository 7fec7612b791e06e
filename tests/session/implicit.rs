//! Clients that don't register: their request number 1 does.

use onceflight::ErrorKind::{Conflict, Expired, Fenced, SeqStale};
use onceflight::session::{SessionBegin, SessionRequest};

use crate::support::{A, B, Calls, add, kind, table, with};

fn request(seq: u64) -> SessionRequest<'static> {
    SessionRequest::implicit(A, seq)
}

/// The three calls of a table that knows only client, number and time.
#[test]
fn register_request_record_response_expire() {
    let mut table = with(|builder| builder.timeout_ms(300));
    assert_eq!(Ok(SessionBegin::Lead), table.begin(&request(1), 0));
    table.record(&request(1), 0, b"one").unwrap();
    assert_eq!(b"one", table.replay(&request(1)).data());
    assert_eq!(1, table.expire(300).unwrap());
}

#[test]
fn only_number_one_begins_a_session() {
    let mut table = table();
    assert_eq!(Expired, table.refusal(&request(2)));
    assert_eq!(Expired, table.refusal(&request(u64::MAX - 1)));
    assert!(table.is_empty());
    table.lead(&request(1), b"");
    table.lead(&request(2), b"");
}

/// A session that was cut off in the middle doesn't begin again there.
#[test]
fn after_expiry_only_number_one_begins_anew() {
    let mut table = with(|builder| builder.timeout_ms(100));
    let mut sum = 0;
    add(&mut table, &request(1), 0, &mut sum).unwrap();
    assert_eq!(Expired, kind(add(&mut table, &request(2), 100, &mut sum)));
    assert_eq!(1, sum);
    // Weaker than a registered one, and said so.
    assert!(!add(&mut table, &request(1), 100, &mut sum).unwrap().replayed);
    assert_eq!((2, 2), (sum, table.sessions().next().unwrap().incarnation));
}

/// Without acks, a client that waits for each reply never fills its window.
#[test]
fn the_window_follows_the_highest_number() {
    for window in [1, 4, 64] {
        let mut table = with(|builder| builder.window(window));
        let width = u64::from(window);
        for seq in 1..=3 * width {
            table.lead(&request(seq), &seq.to_le_bytes());
            let floor = (seq + 1).saturating_sub(width).max(1);
            assert_eq!(floor, table.sessions().next().unwrap().floor);
            assert_eq!(floor.to_le_bytes(), table.replay(&request(floor)).data());
        }
        assert_eq!(SeqStale, table.refusal(&request(2 * width)));
        // Ahead by more than the window: what is behind is given up.
        table.lead(&request(1000), b"far");
        assert_eq!(1, table.sessions().next().unwrap().replies);
    }
}

/// One that says its acks is taken at its word.
#[test]
fn an_ack_of_its_own_counts_instead() {
    let mut table = table();
    table.lead(&request(1), b"one");
    table.lead(&request(4).ack(1), b"four");
    assert_eq!(b"one", table.replay(&request(1)).data());
    assert_eq!(onceflight::ErrorKind::WindowFull, table.refusal(&request(5).ack(1)));
    table.lead(&request(5).ack(4), b"five");
    assert_eq!(SeqStale, table.refusal(&request(3)));
}

#[test]
fn it_has_digests() {
    let mut table = table();
    table.lead(&request(1).digest([1; 16]), b"");
    assert_eq!(Conflict, table.refusal(&request(1).digest([2; 16])));
    assert_eq!(Conflict, table.refusal(&request(1)));
}

/// It has an incarnation as any other; the implicit form means whichever there is.
#[test]
fn its_session_can_be_asked_for_by_incarnation_too() {
    let mut table = table();
    // A first request would make it: that nobody has one is nothing to refuse it by.
    assert_eq!(Ok(None), table.peek(A, 0, 1));
    assert_eq!(Expired, kind(table.peek(A, 0, 2)));
    table.lead(&request(1), b"one");
    let life = table.sessions().next().unwrap().incarnation;
    assert_eq!(b"one", table.replay(&SessionRequest::new(A, life, 1)).data());
    table.keep_alive(A, 0, 0).unwrap();
    table.keep_alive(A, life, 0).unwrap();
    assert_eq!(b"one", table.peek(A, 0, 1).unwrap().unwrap().data());
    assert_eq!(Expired, table.refusal(&SessionRequest::new(A, life + 1, 1)));
}

#[test]
fn a_registration_fences_it_and_is_not_answered_by_it() {
    let mut table = table();
    table.lead(&request(1), b"of the implicit one");
    let life = table.register(A, "", 0).unwrap();
    assert_eq!(2, life, "an empty nonce isn't none");
    for seq in [1, 2] {
        assert_eq!(Fenced, table.refusal(&request(seq)));
    }
    assert_eq!(Fenced, kind(table.peek(A, 0, 1)));
    table.lead(&SessionRequest::new(A, life, 1), b"of the registered one");
}

/// The window of a registered session doesn't follow.
#[test]
fn a_registered_one_acknowledges_by_itself_alone() {
    let mut table = with(|builder| builder.window(1));
    let life = table.life(B);
    table.lead(&SessionRequest::new(B, life, 1), b"");
    assert_eq!(onceflight::ErrorKind::WindowFull, table.refusal(&SessionRequest::new(B, life, 2)));
}
