//! The same key with another payload is refused, always and before anything else; and it is the
//! store's first payload that counts.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use onceflight::idempotency::Begin;
use onceflight::store::RecordState;
use onceflight::{Error, ErrorKind, OnLeaseExpired};

use crate::support::*;

fn begin<'t>(process: &'t Process, fingerprint: &str) -> Result<Begin<'t>, Error> {
    process.request("k").fingerprint(fingerprint).timeout(PATIENCE).begin()
}

fn look<'t>(process: &'t Process, fingerprint: &str) -> Result<Begin<'t>, Error> {
    process.request("k").fingerprint(fingerprint).timeout(Duration::ZERO).begin()
}

/// Catches a mismatch that is told as a timeout, or waits.
#[test]
fn mismatch_comes_before_timeout() {
    let [one, two] = processes(usual);
    let lead = begin(&one, "a").lead();
    for process in [&one, &two] {
        assert_eq!(ErrorKind::Mismatch, kind(look(process, "b")));
        assert_eq!(ErrorKind::Mismatch, kind(begin(process, "b")));
        assert_eq!(ErrorKind::Timeout, kind(look(process, "a")));
    }
    lead.complete(response(1)).unwrap();
}

/// Catches a fingerprint that is dropped on completion.
#[test]
fn the_fingerprint_survives_completion() {
    let [one, two] = processes(usual);
    begin(&one, "a").lead().complete(response(1)).unwrap();
    for process in [&one, &two] {
        assert_eq!(ErrorKind::Mismatch, kind(begin(process, "b")));
        assert_eq!(1, begin(process, "a").replayed());
    }
}

/// Catches a refused duplicate that changes what it was refused by.
#[test]
fn a_refused_duplicate_leaves_the_record_as_it_was() {
    let [one, two] = processes(usual);
    let lead = begin(&one, "a").lead();
    let before = one.record("k");
    assert_eq!(ErrorKind::Mismatch, kind(begin(&one, "b")));
    assert_eq!(ErrorKind::Mismatch, kind(look(&two, "b")));
    let after = one.record("k");
    assert_eq!((before.epoch, before.attempt), (after.epoch, after.attempt));
    assert_eq!((RecordState::InProgress, before.fingerprint), (after.state, after.fingerprint));
    lead.complete(response(1)).unwrap();
    assert_eq!(1, begin(&two, "a").replayed());
}

/// Catches an absent fingerprint that equals an empty one, in the process or in the store.
#[test]
fn an_absent_fingerprint_equals_only_an_absent_one() {
    fn ask<'t>(
        process: &'t Process,
        fingerprint: Option<&str>,
        timeout: Duration,
    ) -> Result<Begin<'t>, Error> {
        let request = process.request("k").timeout(timeout);
        match fingerprint {
            Some(fingerprint) => request.fingerprint(fingerprint).begin(),
            None => request.begin(),
        }
    }
    for (mine, other) in [(None, Some("")), (Some(""), None)] {
        let [one, two] = processes(usual);
        let lead = ask(&one, mine, PATIENCE).lead();
        for process in [&one, &two] {
            assert_eq!(ErrorKind::Mismatch, kind(ask(process, other, PATIENCE)));
            assert_eq!(ErrorKind::Timeout, kind(ask(process, mine, Duration::ZERO)));
        }
        lead.complete(response(1)).unwrap();
        for process in [&one, &two] {
            assert_eq!(ErrorKind::Mismatch, kind(ask(process, other, PATIENCE)));
            assert_eq!(1, ask(process, mine, PATIENCE).replayed());
        }
    }
}

/// Catches a process that decides by who came first here: the store does, by whose claim it took.
#[test]
fn of_two_fingerprints_at_once_the_one_that_the_store_took_wins() {
    let [one] = processes(usual);
    let gate = one.wire.hold_next(Verb::Claim);
    thread::scope(|scope| {
        let slow = scope.spawn(|| begin(&one, "a"));
        gate.wait_arrived(1);
        let follower = scope.spawn(|| begin(&one, "a"));
        in_line(&one, 1);
        let lead = begin(&one, "b").lead();
        gate.open();
        assert_eq!(ErrorKind::Mismatch, kind(slow.join().unwrap()));
        assert_eq!(ErrorKind::Mismatch, kind(follower.join().unwrap()));
        lead.complete(response(2)).unwrap();
    });
    assert_eq!(2, one.wire.begun(Verb::Claim));
    assert_eq!(2, begin(&one, "b").replayed());
}

/// Catches a race in which both lead, or both are refused.
#[test]
fn of_two_fingerprints_at_once_exactly_one_leads() {
    for round in 0..100 {
        let [one, two] = processes(usual);
        let (one, two) = if round % 2 == 0 { (&one, &one) } else { (&one, &two) };
        let both = Barrier::new(2);
        thread::scope(|scope| {
            let (both, mut leads) = (&both, 0);
            let callers = [(one, "a"), (two, "b")].map(|(process, fingerprint)| {
                scope.spawn(move || {
                    both.wait();
                    begin(process, fingerprint)
                })
            });
            // Kept until both have an outcome: a lead that is dropped wouldn't free the fingerprint.
            let outcomes = callers.map(|caller| caller.join().unwrap());
            for outcome in outcomes {
                match outcome {
                    Ok(Begin::Lead(lead)) => {
                        leads += 1;
                        lead.complete(response(1)).unwrap();
                    }
                    other => assert_eq!(ErrorKind::Mismatch, kind(other)),
                }
            }
            assert_eq!(1, leads);
        });
    }
}

/// Catches a passed lease that lets another payload in, and a mismatch that is told as unknown.
#[test]
fn a_passed_lease_does_not_free_the_fingerprint() {
    for policy in [OnLeaseExpired::TakeOver, OnLeaseExpired::Hold] {
        let [one, two] = processes(|table| fleeting(table).on_lease_expired(policy));
        let late = begin(&one, "a").lead();
        pass(SHORT);
        for process in [&one, &two] {
            assert_eq!(ErrorKind::Mismatch, kind(look(process, "b")));
            let recovering = process.request("k").fingerprint("b").recover().begin();
            assert_eq!(ErrorKind::Mismatch, kind(recovering));
        }
        late.complete(response(1)).unwrap();
    }
}

/// Catches the same, for a record that isn't kept: with a ttl of 0 too, a lead that was lost is.
#[test]
fn a_passed_lease_does_not_free_the_fingerprint_of_what_is_not_kept() {
    let [one, two] = processes(|table| fleeting(table).lease(SHORT * 10).ttl(Duration::ZERO));
    let late = begin(&one, "a").lead();
    pass(SHORT * 10);
    assert_eq!(ErrorKind::Mismatch, kind(look(&two, "b")));
    drop(late);
}

/// Catches a cancelled payload that still binds: nothing happened, so another may be tried.
#[test]
fn a_cancelled_lead_frees_the_fingerprint() {
    let [one, two] = processes(usual);
    begin(&one, "a").lead().cancel().unwrap();
    begin(&two, "b").lead().cancel().unwrap();
    let first = begin(&one, "a").lead();
    thread::scope(|scope| {
        let follower = scope.spawn(|| begin(&one, "a"));
        in_line(&one, 1);
        // What is left for the follower binds nobody until that has claimed it.
        let gate = one.wire.hold_next(Verb::Claim);
        first.cancel().unwrap();
        gate.wait_arrived(1);
        let other = begin(&two, "b").lead();
        assert_eq!(1, other.attempt());
        gate.open();
        assert_eq!(ErrorKind::Mismatch, kind(follower.join().unwrap()));
        other.complete(response(2)).unwrap();
    });
}
