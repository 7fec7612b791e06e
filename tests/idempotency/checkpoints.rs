//! What a lead leaves for its successor.

use std::thread;
use std::time::Duration;

use onceflight::ErrorKind;
use onceflight::store::RecordState;

use crate::support::*;

/// Catches a checkpoint that doesn't outlive its leader, in this process or in another.
#[test]
fn a_successor_finds_the_last_checkpoint() {
    let [one, two] = processes(fleeting);
    let first = one.request("k").lease(LONG).begin().lead();
    first.set_checkpoint(b"ordered").unwrap();
    first.set_checkpoint(b"ordered, paid").unwrap();
    assert_eq!(None, first.checkpoint());
    assert_eq!(b"ordered, paid", &*one.record("k").checkpoint.unwrap());
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        first.abandon().unwrap();
        let second = follower.join().unwrap().lead();
        assert_eq!((2, Some(&b"ordered, paid"[..])), (second.attempt(), second.checkpoint()));
        second.set_checkpoint(b"").unwrap();
        drop(second);
    });
    let third = two.begin("k").lead();
    assert_eq!((3, Some(&b""[..])), (third.attempt(), third.checkpoint()));
    // This one is lost with its lease, and leaves nothing of its own.
    let fourth = one.begin_patiently("k").lead();
    assert_eq!((4, Some(&b""[..])), (fourth.attempt(), fourth.checkpoint()));
    fourth.complete(response(1)).unwrap();
    assert_eq!(None, one.record("k").checkpoint);
    drop(third);
}

/// Catches a cancel that forgets what its checkpoint says has happened.
#[test]
fn a_cancel_after_a_checkpoint_keeps_attempt_checkpoint_and_fingerprint() {
    let [one, two] = processes(usual);
    let first = one.request("k").fingerprint("a").begin().lead();
    first.set_checkpoint(b"ordered").unwrap();
    first.cancel().unwrap();
    let record = two.record("k");
    assert_eq!((RecordState::Released, 1), (record.state, record.attempt));
    for process in [&one, &two] {
        let other = process.request("k").fingerprint("b").timeout(Duration::ZERO).begin();
        assert_eq!(ErrorKind::Mismatch, kind(other));
    }
    let second = two.request("k").fingerprint("a").begin().lead();
    assert_eq!((2, Some(&b"ordered"[..])), (second.attempt(), second.checkpoint()));
    second.complete(response(1)).unwrap();
}

/// Catches what a cancel has left that is never forgotten.
#[test]
fn what_a_cancel_leaves_is_forgotten_after_the_ttl() {
    let [one, two] = processes(|table| table.ttl(SHORT).lease(SHORT));
    let first = one.request("k").fingerprint("a").begin().lead();
    first.set_checkpoint(b"ordered").unwrap();
    first.cancel().unwrap();
    pass(SHORT);
    assert!(two.look_up("k").unwrap().is_none());
    let other = two.request("k").fingerprint("b").begin().lead();
    assert_eq!((1, None), (other.attempt(), other.checkpoint()));
    other.complete(response(1)).unwrap();
}

/// Catches a cancel that forgets so for a lead whose response wouldn't be kept: the followers here go on where it
/// stopped.
#[test]
fn a_ttl_of_zero_keeps_attempt_and_checkpoint_for_the_next_in_line() {
    let [one] = processes(|table| table.ttl(Duration::ZERO));
    let first = one.begin("k").lead();
    first.set_checkpoint(b"ordered").unwrap();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        first.cancel().unwrap();
        let second = follower.join().unwrap().lead();
        assert_eq!((2, Some(&b"ordered"[..])), (second.attempt(), second.checkpoint()));
        second.complete(response(1)).unwrap();
    });
}

/// Catches a lost lead whose checkpoint goes with its lease, where responses aren't kept.
#[test]
fn a_ttl_of_zero_keeps_the_checkpoint_of_a_lost_lead() {
    // As long as its lease, say, it should be remembered: long enough for a machine that stalls.
    let [one, two] = processes(|table| fleeting(table).lease(SHORT * 10).ttl(Duration::ZERO));
    let late = one.begin("k").lead();
    late.set_checkpoint(b"ordered").unwrap();
    let second = two.begin_patiently("k").lead();
    assert_eq!((2, Some(&b"ordered"[..])), (second.attempt(), second.checkpoint()));
    drop(late);
}

/// Catches a claim whose answer was lost and that, withdrawn, takes the checkpoint with it that it
/// would have gone on from.
#[test]
fn a_takeover_whose_answer_is_lost_leaves_the_checkpoint() {
    let [one, two] = processes(usual);
    let first = one.request("k").fingerprint("a").begin().lead();
    first.set_checkpoint(b"ordered").unwrap();
    first.abandon().unwrap();
    one.wire.next(Verb::Claim, Fault::LoseAnswer);
    assert_eq!(ErrorKind::Store, kind(one.request("k").fingerprint("a").begin()));
    one.wire.wait_ended(Verb::Withdraw, 1);
    let other = two.request("k").fingerprint("b").timeout(Duration::ZERO).begin();
    assert_eq!(ErrorKind::Mismatch, kind(other));
    let next = two.request("k").fingerprint("a").begin().lead();
    assert_eq!(Some(&b"ordered"[..]), next.checkpoint());
    assert!(next.attempt() > 1);
}

/// Catches a checkpoint that costs the lead when the store fails it for a moment.
#[test]
fn a_checkpoint_is_tried_again() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    one.wire.next(Verb::Checkpoint, Fault::Fail);
    one.wire.next(Verb::Checkpoint, Fault::LoseAnswer);
    lead.set_checkpoint(b"ordered").unwrap();
    assert_eq!(3, one.wire.ended(Verb::Checkpoint));
    drop(lead);
    assert_eq!(Some(&b"ordered"[..]), two.begin("k").lead().checkpoint());
}

/// Catches a checkpoint without bound, and a lead that is lost by trying.
#[test]
fn a_checkpoint_that_is_too_large_is_refused() {
    let [one] = processes(|table| table.max_response_len(8));
    let lead = one.begin("k").lead();
    lead.set_checkpoint(b"12345678").unwrap();
    let refused = error(lead.set_checkpoint(b"123456789"));
    assert_eq!(ErrorKind::TooLarge, refused.kind());
    assert!(refused.to_string().contains("max_response_len is 8"), "{refused}");
    drop(lead);
    assert_eq!(Some(&b"12345678"[..]), one.begin("k").lead().checkpoint());
}
