//! Each row of the table of states, twice: within one process, and between two.

use std::thread::{self, Scope};

use onceflight::ErrorKind;
use onceflight::idempotency::Builder;

use crate::support::*;

/// Where a leader is and where another caller; and how the latter waits for the former.
struct Places<'p> {
    leader: &'p Process,
    other: &'p Process,
}

impl Places<'_> {
    fn together(&self) -> bool {
        std::ptr::eq(self.leader, self.other)
    }

    fn wait<'scope, 't: 'scope>(&'t self, scope: &'scope Scope<'scope, '_>) -> Waiting<'scope, 't> {
        let wait = if self.together() { follow } else { watch };
        wait(scope, self.other, "k")
    }
}

fn everywhere(setup: impl Fn(Builder) -> Builder, test: impl Fn(&Places<'_>)) {
    let [one] = processes(&setup);
    test(&Places { leader: &one, other: &one });
    let [one, two] = processes(&setup);
    test(&Places { leader: &one, other: &two });
}

/// Catches a claim that isn't granted, or not as a first one.
#[test]
fn a_vacant_key_is_led() {
    everywhere(usual, |at| {
        let lead = at.leader.begin("k").lead();
        assert_eq!((1, None), (lead.attempt(), lead.checkpoint()));
        let other = at.other.begin("l").lead();
        assert!(other.fence() > lead.fence());
    });
}

/// Catches a second leader beside a live one.
#[test]
fn in_progress_is_waited_for() {
    everywhere(usual, |at| {
        let lead = at.leader.begin("k").lead();
        assert_eq!(ErrorKind::Timeout, kind(at.other.look("k")));
        assert_eq!(ErrorKind::Timeout, kind(at.other.begin_timeout("k", SHORT)));
        lead.complete(response(1)).unwrap();
    });
}

/// Catches a waiter that isn't told, or told as if it hadn't waited; and a response that isn't kept.
#[test]
fn complete_is_shared_with_those_who_wait_and_replayed_to_those_who_come() {
    everywhere(usual, |at| {
        let lead = at.leader.begin("k").lead();
        thread::scope(|scope| {
            let waiting = at.wait(scope);
            lead.complete(response(1)).unwrap();
            assert_eq!(1, waiting.join().unwrap().shared());
        });
        for process in [at.leader, at.other] {
            assert_eq!(1, process.begin("k").replayed());
            assert_eq!(1, process.look("k").replayed());
        }
    });
}

/// Catches a cancelled key that stays taken, and a waiter that is forgotten.
#[test]
fn cancel_hands_the_lead_to_the_next_in_line_or_frees_the_key() {
    everywhere(usual, |at| {
        let lead = at.leader.begin("k").lead();
        let fence = lead.fence();
        thread::scope(|scope| {
            let waiting = at.wait(scope);
            lead.cancel().unwrap();
            let next = waiting.join().unwrap().lead();
            assert!(next.fence() > fence);
            if at.together() {
                assert_eq!(2, next.attempt());
            }
            next.cancel().unwrap();
        });
        assert!(at.other.look_up("k").unwrap().is_none());
        assert_eq!(1, at.other.look("k").lead().attempt());
    });
}

/// Catches an abandoned key that waits for its lease, and a successor that thinks it is the first.
#[test]
fn abandon_hands_the_lead_to_the_next_in_line_or_the_next_begin() {
    everywhere(
        |table| table.lease(LONG),
        |at| {
            let lead = at.leader.begin("k").lead();
            let first = lead.fence();
            thread::scope(|scope| {
                let waiting = at.wait(scope);
                lead.abandon().unwrap();
                let second = waiting.join().unwrap().lead();
                assert_eq!(2, second.attempt());
                assert!(second.fence() > first);
                // A guard that is dropped abandons.
                drop(second);
            });
            assert_eq!(3, at.leader.look("k").lead().attempt());
        },
    );
}

/// Catches a lost leader that is waited for for ever, with and without somebody waiting.
#[test]
fn a_passed_lease_hands_the_lead_to_the_next_in_line_or_the_next_begin() {
    everywhere(fleeting, |at| {
        let first = at.leader.begin("k").lead();
        thread::scope(|scope| {
            let second = scope.spawn(|| at.other.begin_patiently("k")).join().unwrap().lead();
            assert_eq!(2, second.attempt());
            assert!(second.fence() > first.fence());
            let third = at.other.begin_patiently("k").lead();
            assert_eq!(3, third.attempt());
            assert_eq!(ErrorKind::Stale, kind(second.cancel()));
        });
    });
}

/// Catches followers that wait for what they won't be given.
#[test]
fn decline_sends_followers_here_away_and_has_others_lead() {
    everywhere(usual, |at| {
        let lead = at.leader.begin("k").lead();
        thread::scope(|scope| {
            let waiting = at.wait(scope);
            lead.decline().unwrap();
            if at.together() {
                waiting.join().unwrap().bypassed();
            } else {
                waiting.join().unwrap().lead().decline().unwrap();
            }
        });
        assert!(at.leader.look_up("k").unwrap().is_none());
        assert_eq!(1, at.other.look("k").lead().attempt());
    });
}

/// Catches a replay past its ttl.
#[test]
fn a_completed_key_is_vacant_once_its_ttl_has_passed() {
    everywhere(
        |table| table.ttl(SHORT),
        |at| {
            let lead = at.leader.begin("k").lead();
            lead.complete(response(1)).unwrap();
            pass(SHORT);
            let lead = at.other.look("k").lead();
            assert_eq!(1, lead.attempt());
            lead.complete(response(2)).unwrap();
        },
    );
}

/// Catches a takeover that the policy forbids, a recovery that is refused, and an old lead that is
/// refused though nobody has recovered.
#[test]
fn unknown_is_told_until_somebody_recovers_or_the_old_lead_completes() {
    use onceflight::OnLeaseExpired::Hold;
    everywhere(
        |table| fleeting(table).on_lease_expired(Hold),
        |at| {
            let late = at.leader.begin("k").lead();
            assert_eq!(ErrorKind::Unknown, kind(at.other.begin_patiently("k")));
            assert_eq!(ErrorKind::Unknown, kind(at.other.look("k")));
            late.complete(response(1)).unwrap();
            assert_eq!(1, at.other.begin("k").replayed());

            let late = at.leader.begin("l").lead();
            assert_eq!(ErrorKind::Unknown, kind(at.other.begin_patiently("l")));
            let successor = at.other.request("l").recover().begin().lead();
            assert_eq!(2, successor.attempt());
            assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
            successor.complete(response(2)).unwrap();
            // Shared, if the table is about to pass on the flight that was lost.
            assert_eq!(2, at.leader.begin("l").status());
        },
    );
}

/// Catches a table or a lead that belongs to one thread.
#[test]
fn a_table_is_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let [one] = processes(usual);
    shared(&*one);
    shared(&one.begin("k").lead());
}
