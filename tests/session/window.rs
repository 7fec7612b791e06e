//! Sequence numbers, acknowledgements, digests.

use onceflight::ErrorKind::{Conflict, Malformed, SeqStale, WindowFull};
use onceflight::session::{SessionBegin, SessionRequest};
use onceflight::{Fingerprint, SessionTable};

use crate::support::{A, B, Calls, add, table, with};

/// Of every width: each number of it in turn, from either end, is executed once.
#[test]
fn gaps_and_any_order_are_fine_inside_the_window() {
    for window in 1..=64 {
        let width = u64::from(window);
        for backwards in [false, true] {
            let mut table = with(|builder| builder.window(window));
            let life = table.life(A);
            let request = |seq| SessionRequest::new(A, life, seq).ack(1);
            let numbers = |step: u64| if backwards { width + 1 - step } else { step };
            for seq in (1..=width).map(numbers) {
                table.lead(&request(seq), &seq.to_le_bytes());
            }
            assert_eq!(WindowFull, table.refusal(&request(width + 1)));
            for seq in 1..=width {
                assert_eq!(seq.to_le_bytes(), table.replay(&request(seq)).data());
            }
        }
    }
}

/// Of every width: the window moves on by acks alone, and what stands in it moves with it.
#[test]
fn the_window_moves_on_by_acks() {
    for window in 1..=64 {
        let mut table = with(|builder| builder.window(window));
        let width = u64::from(window);
        let life = table.life(A);
        let request = |seq| SessionRequest::new(A, life, seq);
        table.lead(&request(1), b"1");
        for seq in 2..3 * width {
            let floor = seq.saturating_sub(width - 1).max(1);
            if floor > 1 {
                assert_eq!(WindowFull, table.refusal(&request(seq).ack(floor - 1)));
            }
            table.lead(&request(seq).ack(floor), seq.to_string().as_bytes());
            assert_eq!(floor, table.sessions().next().unwrap().floor);
            for seq in floor..=seq {
                assert_eq!(seq.to_string().as_bytes(), table.replay(&request(seq)).data());
            }
            if floor > 1 {
                assert_eq!(SeqStale, table.refusal(&request(floor - 1)));
            }
        }
    }
}

/// A client that uses little of its window first, and more later: what is kept stays.
#[test]
fn a_window_that_is_used_more_and_more_keeps_what_it_has() {
    let mut table = with(|builder| builder.window(63));
    let life = table.life(A);
    let request = |seq| SessionRequest::new(A, life, seq);
    table.lead(&request(60).ack(58), b"60");
    for (known, seq) in [(60, 61), (61, 62), (62, 66), (66, 75), (75, 91), (91, 120)] {
        table.lead(&request(seq), seq.to_string().as_bytes());
        assert_eq!(known.to_string().as_bytes(), table.replay(&request(known)).data());
    }
    let session = table.sessions().next().unwrap();
    assert_eq!((58, 7, 15), (session.floor, session.replies, session.bytes));
    assert_eq!(WindowFull, table.refusal(&request(121)));
}

#[test]
fn the_floor_never_falls() {
    let mut table = table();
    let life = table.life(A);
    let request = |seq| SessionRequest::new(A, life, seq);
    table.lead(&request(4).ack(4), b"four");
    // An older request, which was long under way.
    for ack in [0, 1, 2, 3] {
        assert_eq!(SeqStale, table.refusal(&request(3).ack(ack)));
        assert_eq!(b"four", table.replay(&request(4).ack(ack)).data());
        assert_eq!(4, table.sessions().next().unwrap().floor);
    }
}

/// It acknowledges what is below it, and not itself; and no more than was sent.
#[test]
fn an_ack_is_the_lowest_number_that_is_not_acknowledged() {
    let mut table = table();
    let life = table.life(A);
    let request = |seq| SessionRequest::new(A, life, seq);
    for seq in 1..=3 {
        table.lead(&request(seq), b"kept");
    }
    assert_eq!(Malformed, table.refusal(&request(3).ack(4)));
    assert_eq!(3, table.sessions().next().unwrap().replies);
    assert_eq!(b"kept", table.replay(&request(3).ack(3)).data());
    let session = table.sessions().next().unwrap();
    assert_eq!((3, 1, 4), (session.floor, session.replies, session.bytes));
    assert_eq!(4, table.response_bytes());
}

/// It skips as far as it says: numbers that were never sent are acknowledged too.
#[test]
fn an_ack_past_the_window_empties_it() {
    let mut table = table();
    let life = table.life(A);
    for seq in 1..=4 {
        table.lead(&SessionRequest::new(A, life, seq), b"kept");
    }
    table.lead(&SessionRequest::new(A, life, 1 << 40).ack((1 << 40) - 3), b"far");
    let session = table.sessions().next().unwrap();
    assert_eq!(((1 << 40) - 3, 1, 3), (session.floor, session.replies, session.bytes));
    for seq in [1, 4, 5, (1 << 40) - 4] {
        assert_eq!(SeqStale, table.refusal(&SessionRequest::new(A, life, seq)));
    }
}

#[test]
fn numbers_go_from_one_to_the_last_but_one() {
    let mut table = table();
    let life = table.life(A);
    let request = |seq| SessionRequest::new(A, life, seq);
    let last = u64::MAX - 1;
    assert_eq!(Malformed, table.refusal(&request(0)));
    assert_eq!(Malformed, table.refusal(&request(u64::MAX)));
    assert_eq!(Malformed, table.refusal(&request(u64::MAX).ack(u64::MAX)));
    table.lead(&request(1), b"first");
    table.lead(&request(last).ack(last), b"last");
    assert_eq!(b"last", table.replay(&request(last)).data());
    let again = SessionTable::restore(&table.bytes()).unwrap().bytes();
    assert_eq!(table.bytes(), again);
    // Of a client that doesn't say an ack either.
    table.lead(&SessionRequest::implicit(B, 1), b"first");
    table.lead(&SessionRequest::implicit(B, last), b"last");
    table.lead(&SessionRequest::implicit(B, last - 3), b"last of the window");
    assert_eq!(SeqStale, table.refusal(&SessionRequest::implicit(B, last - 4)));
}

/// The naive form answers an older number with the latest response.
#[test]
fn an_older_number_never_gets_a_later_ones_response() {
    let mut table = with(|builder| builder.window(1));
    let life = table.life(A);
    table.lead(&SessionRequest::new(A, life, 1), b"one");
    table.lead(&SessionRequest::new(A, life, 2).ack(2), b"two");
    assert_eq!(SeqStale, table.refusal(&SessionRequest::new(A, life, 1)));
    assert_eq!(b"two", table.replay(&SessionRequest::new(A, life, 2)).data());
}

#[test]
fn what_is_refused_by_the_window_is_executed_once_there_is_room() {
    let mut table = table();
    let life = table.life(A);
    let (mut sum, request) = (0, |seq| SessionRequest::new(A, life, seq));
    assert_eq!(WindowFull, add(&mut table, &request(5), 0, &mut sum).unwrap_err().kind());
    assert_eq!(0, sum);
    assert_eq!(Ok(None), table.peek(A, life, 5));
    add(&mut table, &request(5).ack(2), 0, &mut sum).unwrap();
    assert_eq!(1, sum);
}

/// An absent one equals only an absent one.
#[test]
fn the_same_number_with_another_digest_is_a_conflict() {
    let mut table = table();
    let life = table.life(A);
    let digests = [None, Some([0; 16]), Some([1; 16]), Some(*b"sixteen bytes it")];
    for (seq, of_first) in (1..).zip(digests) {
        let request = |digest: Option<[u8; 16]>| {
            let request = SessionRequest::new(A, life, seq);
            digest.map_or(request, |digest| request.digest(digest))
        };
        table.lead(&request(of_first), b"");
        for digest in digests {
            let answer = table.ask(&request(digest)).map_err(|error| error.kind());
            if digest == of_first {
                assert!(matches!(answer, Ok(SessionBegin::Replayed(_))));
            } else {
                assert_eq!(Err(Conflict), answer);
            }
        }
    }
}

#[test]
fn a_fingerprint_is_a_digest() {
    let mut table = table();
    let life = table.life(A);
    let of = |payload| Fingerprint::of([payload]);
    let request = SessionRequest::new(A, life, 1);
    table.lead(&request.digest(of("pay 5")), b"");
    table.replay(&request.digest(of("pay 5")));
    assert_eq!(Conflict, table.refusal(&request.digest(of("pay 6"))));
}

/// A digest is of one number: the next one has its own.
#[test]
fn a_number_that_is_acknowledged_takes_its_digest_along() {
    let mut table = with(|builder| builder.window(1));
    let life = table.life(A);
    table.lead(&SessionRequest::new(A, life, 1).digest([1; 16]), b"");
    table.lead(&SessionRequest::new(A, life, 2).ack(2).digest([2; 16]), b"");
    table.replay(&SessionRequest::new(A, life, 2).digest([2; 16]));
}
