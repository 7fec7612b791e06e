//! The policy HOLD: what may have happened isn't done again unless somebody says so.

use std::thread;

use onceflight::idempotency::{Builder, Lead};
use onceflight::store::RecordState;
use onceflight::{ErrorKind, OnLeaseExpired};

use crate::support::*;

fn holding(table: Builder) -> Builder {
    table.on_lease_expired(OnLeaseExpired::Hold)
}

/// Catches a takeover of what was abandoned, and a follower that waits for what nobody leads.
#[test]
fn an_abandoned_lead_is_unknown_to_all() {
    let [one, two] = processes(holding);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        let watcher = watch(scope, &two, "k");
        let behind = follow(scope, &two, "k");
        drop(lead);
        for waiting in [follower, watcher, behind] {
            assert_eq!(ErrorKind::Unknown, kind(waiting.join().unwrap()));
        }
    });
    for process in [&one, &two] {
        assert_eq!(ErrorKind::Unknown, kind(process.look("k")));
        assert_eq!(RecordState::InProgress, process.record("k").state);
    }
}

/// Catches a cancelled lead that is held: nothing happened, so the next may lead.
#[test]
fn a_cancelled_lead_is_not_held() {
    let [one, two] = processes(holding);
    one.begin("k").lead().cancel().unwrap();
    let second = two.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &two, "k");
        second.cancel().unwrap();
        assert_eq!(2, follower.join().unwrap().lead().attempt());
    });
}

/// Catches a recovery that is refused because a follower that may not recover asked for both.
#[test]
fn a_follower_that_may_recover_leads_though_another_asked() {
    let [one] = processes(holding);
    drop(one.begin("k").lead());
    let gate = one.wire.hold_next(Verb::Claim);
    thread::scope(|scope| {
        let timid = scope.spawn(|| one.begin_patiently("k"));
        gate.wait_arrived(1);
        let bold = scope.spawn(|| one.request("k").timeout(PATIENCE).recover().begin());
        in_line(&one, 1);
        gate.open();
        assert_eq!(ErrorKind::Unknown, kind(timid.join().unwrap()));
        let lead = bold.join().unwrap().lead();
        assert_eq!(2, lead.attempt());
        lead.complete(response(2)).unwrap();
    });
    assert_eq!(2, one.begin("k").replayed());
}

/// Catches two recoveries at once that both lead, and a recovery of what is alive.
#[test]
fn of_many_who_recover_one_leads() {
    let [one, two] = processes(holding);
    drop(one.begin("k").lead());
    let recover = |process: &Process| {
        let work = || response(7);
        process.request("k").timeout(PATIENCE).recover().run(work).unwrap().role
    };
    thread::scope(|scope| {
        let callers: Vec<_> =
            [&one, &two].repeat(8).into_iter().map(|p| scope.spawn(move || recover(p))).collect();
        let led = |role| usize::from(role == onceflight::Role::Led);
        let leads: usize = callers.into_iter().map(|caller| led(caller.join().unwrap())).sum();
        assert_eq!(1, leads);
    });
}

/// Catches a late response that doesn't resolve what is unknown; those who ask then have it.
#[test]
fn a_late_response_resolves_the_unknown_until_somebody_recovers() {
    let [one, two] = processes(|table| holding(fleeting(table)));
    let late = one.begin("k").lead();
    assert_eq!(ErrorKind::Unknown, kind(two.begin_patiently("k")));
    late.complete(response(1)).unwrap();
    assert_eq!(1, two.begin("k").replayed());

    let late = one.begin("l").lead();
    assert_eq!(ErrorKind::Unknown, kind(two.begin_patiently("l")));
    let successor = two.request("l").recover().lease(LONG).begin().lead();
    assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
    assert_eq!(ErrorKind::Timeout, kind(one.look("l")));
    successor.complete(response(2)).unwrap();
}

/// Catches an unknown outcome that is forgotten as if it were done, or can't be got rid of.
#[test]
fn an_operator_evicts_what_is_unknown() {
    let [one] = processes(holding);
    drop(one.begin("k").lead());
    assert!(!one.forget("k").unwrap());
    assert_eq!(ErrorKind::Unknown, kind(one.look("k")));
    assert!(one.evict("k").unwrap());
    assert_eq!(1, one.look("k").lead().attempt());
}

/// Catches a claim whose answer was lost and that, withdrawn, takes with it what it had recovered:
/// the next caller would do again what may have happened.
#[test]
fn a_recovery_whose_answer_is_lost_leaves_the_unknown_unknown() {
    let [one, two] = processes(holding);
    drop(one.begin("k").lead());
    two.wire.next(Verb::Claim, Fault::LoseAnswer);
    assert_eq!(ErrorKind::Store, kind(two.request("k").recover().begin()));
    two.wire.wait_ended(Verb::Withdraw, 1);
    assert_eq!(ErrorKind::Unknown, kind(one.look("k")));
}

/// Catches a policy that binds a lead's holder: it may renew what only it knows to be going on.
#[test]
fn the_old_lead_may_renew_while_nobody_has_recovered() {
    let [one, two] = processes(|table| holding(fleeting(table)));
    let late: Lead<'_> = one.begin("k").lead();
    assert_eq!(ErrorKind::Unknown, kind(two.begin_patiently("k")));
    late.renew(LONG).unwrap();
    assert_eq!(ErrorKind::Timeout, kind(two.look("k")));
    late.complete(response(1)).unwrap();
}
