//! A store that fails: nobody executes on its word, nobody waits for it past a deadline, nothing that
//! was done is lost, and once it is back everything goes on by itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::{ErrorKind, Role};

use crate::support::*;

/// Catches a caller that leads though the store failed, and followers that are left to try one by one.
#[test]
fn a_claim_that_fails_fails_all_who_joined_it() {
    let [one] = processes(usual);
    let executed = AtomicUsize::new(0);
    let run = || {
        one.request("k").timeout(PATIENCE).run(|| {
            executed.fetch_add(1, Ordering::Relaxed);
            response(1)
        })
    };
    let gate = one.wire.hold_next(Verb::Claim);
    thread::scope(|scope| {
        let first = scope.spawn(run);
        gate.wait_arrived(1);
        let others: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        in_line(&one, 8);
        gate.send_back();
        assert_eq!(ErrorKind::Store, kind(first.join().unwrap()));
        for other in others {
            assert_eq!(ErrorKind::Store, kind(other.join().unwrap()));
        }
    });
    assert_eq!((0, 1), (executed.load(Ordering::Relaxed), one.wire.begun(Verb::Claim)));
    // Nothing is left of it: the next caller asks again.
    assert_eq!(Role::Led, one.run("k", || response(1)).unwrap().role);
}

/// Catches an error that says nothing of its cause.
#[test]
fn the_stores_own_words_reach_the_caller() {
    let [one] = processes(usual);
    one.wire.next(Verb::Claim, Fault::Fail);
    assert_eq!("told to fail", error(one.begin("k")).to_string());
}

/// Catches a claim that was made and lost, and holds its key until its lease has passed.
#[test]
fn a_claim_whose_answer_is_lost_is_withdrawn() {
    let [one, two] = processes(|table| table.lease(Duration::MAX));
    for (process, key) in [(&one, "k"), (&two, "l")] {
        one.wire.next(Verb::Claim, Fault::LoseAnswer);
        assert_eq!(ErrorKind::Store, kind(one.begin(key)));
        let lead = process.begin_patiently(key).lead();
        assert_eq!(1, lead.attempt());
        lead.complete(response(1)).unwrap();
    }
}

/// Catches a withdrawal that is tried once and then given up, and one that takes another's record.
#[test]
fn a_withdrawal_is_tried_until_it_is_done() {
    let [one, two] = processes(|table| table.lease(Duration::MAX));
    one.wire.next(Verb::Claim, Fault::LoseAnswer);
    one.wire.next(Verb::Withdraw, Fault::Fail);
    one.wire.next(Verb::Withdraw, Fault::LoseAnswer);
    assert_eq!(ErrorKind::Store, kind(one.begin("k")));
    let lead = two.begin_patiently("k").lead();
    // The second was done, and is sent again as nobody said so: to no effect on another's claim.
    one.wire.wait_ended(Verb::Withdraw, 3);
    assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
    lead.complete(response(1)).unwrap();
}

/// Catches a withdrawal of a claim that was refused, which would take the key from under its leader.
#[test]
fn a_withdrawal_leaves_what_was_never_claimed() {
    let [one, two] = processes(usual);
    let lead = two.begin("k").lead();
    two.begin("l").lead().complete(response(1)).unwrap();
    for key in ["k", "l"] {
        let withdrawn = one.wire.ended(Verb::Withdraw);
        one.wire.next(Verb::Claim, Fault::LoseAnswer);
        assert_eq!(ErrorKind::Store, kind(one.begin(key)));
        one.wire.wait_ended(Verb::Withdraw, withdrawn + 1);
    }
    lead.complete(response(1)).unwrap();
    for key in ["k", "l"] {
        assert_eq!(1, one.begin(key).replayed());
    }
}

/// Catches a response that is lost because the store was away for a moment.
#[test]
fn a_complete_is_tried_again_for_a_while() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    for _ in 0..3 {
        one.wire.next(Verb::Complete, Fault::Fail);
    }
    lead.complete(response(1)).unwrap();
    assert_eq!(4, one.wire.ended(Verb::Complete));
    assert_eq!(1, two.begin("k").replayed());
}

/// Catches a settle that is done and whose answer is lost, and that then finds itself stale.
#[test]
fn a_settle_whose_answer_is_lost_is_done() {
    let [one, two] = processes(usual);
    one.wire.next(Verb::Complete, Fault::LoseAnswer);
    let lead = one.begin("k").lead();
    lead.complete(response(1)).unwrap();
    assert_eq!(1, two.look("k").replayed());
    for key in ["cancel", "abandon", "decline"] {
        one.wire.next(Verb::Release, Fault::LoseAnswer);
        let lead = one.begin(key).lead();
        match key {
            "cancel" => lead.cancel().unwrap(),
            "abandon" => lead.abandon().unwrap(),
            _ => lead.decline().unwrap(),
        }
        let attempt = if key == "abandon" { 2 } else { 1 };
        assert_eq!(attempt, two.look(key).lead().attempt(), "{key}");
    }
    one.wire.next(Verb::Renew, Fault::LoseAnswer);
    let lead = one.begin("renew").lead();
    lead.renew(LONG).unwrap();
    lead.cancel().unwrap();
    assert_eq!(0, one.stats().stale);
}

/// Catches a response that is dropped with the error, a lead that is lost with it, and followers
/// that are told before the store was.
#[test]
fn a_complete_that_fails_leaves_response_lead_and_followers() {
    let [one, two] = processes(|table| table.store_timeout(SHORT * 5));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        one.wire.every(Verb::Complete, Fault::Fail);
        let refused = lead.complete(response(1)).unwrap_err();
        assert_eq!((ErrorKind::Store, response(1)), (refused.error.kind(), refused.response));
        assert!(one.wire.ended(Verb::Complete) > 1);
        assert_eq!((1, false), (one.stats().waiting, follower.is_finished()));
        one.wire.mend();
        refused.lead.expect("it is live").complete(response(2)).unwrap();
        assert_eq!(2, follower.join().unwrap().shared());
    });
    assert_eq!(2, two.begin("k").replayed());
}

/// Catches the same for cancel, which takes the lead with it: what couldn't be told at once is told
/// later, as an abandon.
#[test]
fn a_lead_that_could_not_settle_is_given_up_later() {
    let [one, two] = processes(|table| table.store_timeout(SHORT * 2).lease(Duration::MAX));
    for (key, settle) in [("cancel", true), ("drop", false)] {
        let lead = one.begin(key).lead();
        one.wire.every(Verb::Release, Fault::Fail);
        if settle {
            assert_eq!(ErrorKind::Store, kind(lead.cancel()));
        } else {
            drop(lead);
        }
        assert_eq!(ErrorKind::Timeout, kind(two.look(key)));
        one.wire.mend();
        assert_eq!(2, two.begin_patiently(key).lead().attempt(), "{key}");
    }
}

/// Catches a complete that was done though nobody said so, and that, tried again by its leader, is
/// called stale: its own heartbeat must not take the completed record for another's.
#[test]
fn a_complete_that_was_done_unheard_can_be_repeated() {
    let [one, two] = processes(|table| table.lease(BEAT).store_timeout(SHORT));
    one.wire.every(Verb::Complete, Fault::LoseAnswer);
    let lead = one.begin("k").lead();
    let refused = lead.complete(response(1)).unwrap_err();
    assert_eq!(ErrorKind::Store, refused.error.kind());
    let lead = refused.lead.expect("for all it knows it is live");
    one.wire.wait_ended(Verb::Renew, 1);
    pass(SHORT);
    one.wire.mend();
    lead.complete(response(1)).unwrap();
    assert_eq!(1, two.begin("k").replayed());
}

/// Catches a store that hangs and holds its callers past their deadlines.
#[test]
fn while_the_store_is_frozen_callers_leave_at_their_deadlines() {
    let [one] = processes(|table| table.store_timeout(LONG));
    let gate = one.wire.freeze();
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| kind(one.begin_timeout("k", SHORT)))).collect();
        for caller in callers {
            let left = caller.join().unwrap();
            // Whoever asked, and whoever waited for that.
            assert!(matches!(left, ErrorKind::Store | ErrorKind::Timeout), "{left:?}");
        }
        assert_eq!(ErrorKind::Store, kind(one.begin_timeout("l", SHORT)));
    });
    gate.open();
    one.begin_patiently("k").lead().complete(response(1)).unwrap();
}

/// Catches a caller with time to spare that is held by the store beyond what the store is given.
#[test]
fn while_the_store_is_frozen_no_call_lasts_longer_than_its_timeout() {
    let [one] = processes(|table| table.store_timeout(SHORT * 5));
    let lead = one.begin("led").lead();
    let _gate = one.wire.freeze();
    let start = Instant::now();
    assert_eq!(ErrorKind::Store, kind(one.begin("k")));
    assert_eq!(ErrorKind::Store, kind(one.look("l")));
    assert_eq!(ErrorKind::Store, kind(one.look("led")));
    let refused = lead.complete(response(1)).unwrap_err();
    assert_eq!(ErrorKind::Store, refused.error.kind());
    assert!(start.elapsed() >= SHORT * 20);
    let lead = refused.lead.unwrap();
    assert_eq!(ErrorKind::Store, kind(lead.renew(LONG)));
    assert_eq!(ErrorKind::Store, kind(lead.set_checkpoint(b"half")));
    one.wire.mend();
    lead.complete(response(2)).unwrap();
    assert_eq!(2, one.begin("led").replayed());
}

/// Catches a table that stays down: watchers, followers, heartbeats and begins go on by themselves.
#[test]
fn a_store_that_comes_back_is_used_again() {
    let [one, two] = processes(|table| table.lease(BEAT).store_timeout(SHORT * 2));
    let lead = one.begin("k").lead();
    for process in [&one, &two] {
        let gate = process.wire.freeze();
        assert_eq!(ErrorKind::Store, kind(process.begin("l")));
        assert_eq!(ErrorKind::Store, kind(process.look("k")));
        process.wire.mend();
        gate.open();
    }
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        lead.complete(response(1)).unwrap();
        assert_eq!(1, watcher.join().unwrap().shared());
    });
    two.begin_patiently("l").lead().complete(response(2)).unwrap();
    assert_eq!(2, one.begin("l").replayed());
}

/// Catches something that hangs behind the callers' backs, and with it the heartbeats of all leads.
#[test]
fn a_withdrawal_that_hangs_costs_no_lead_its_lease() {
    let [one, two] = processes(|table| table.lease(BEAT));
    let lead = one.begin("k").lead();
    let gate = one.wire.hold_next(Verb::Withdraw);
    one.wire.next(Verb::Claim, Fault::LoseAnswer);
    assert_eq!(ErrorKind::Store, kind(one.begin("l")));
    gate.wait_arrived(1);
    pass(BEAT + BEAT / 4);
    assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
    lead.complete(response(1)).unwrap();
}

/// Catches watchers that hide a store that is down behind a wait without end.
#[test]
fn a_watcher_is_told_that_the_store_is_down() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        let behind = follow(scope, &two, "k");
        two.wire.every(Verb::Claim, Fault::Fail);
        for waiting in [watcher, behind] {
            assert_eq!(ErrorKind::Store, kind(waiting.join().unwrap()));
        }
    });
    two.wire.mend();
    lead.complete(response(1)).unwrap();
    assert_eq!(1, two.begin("k").replayed());
}
