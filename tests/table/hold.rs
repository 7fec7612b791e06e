//! The unknown state: policy HOLD forbids taking over what may have happened.

use std::thread;
use std::time::Duration;

use onceflight::{DedupTable, ErrorKind, OnLeaseExpired};

use crate::support::*;

fn hold() -> Table {
    DedupTable::builder().on_lease_expired(OnLeaseExpired::Hold).completed_ttl(LONG).build()
}

#[test]
fn an_abandoned_flight_is_unknown() {
    let table = hold();
    drop(table.begin("k").lead());
    assert_eq!(ErrorKind::Unknown, kind(table.begin("k")));
    assert_eq!(ErrorKind::Unknown, kind(table.begin_timeout("k", Duration::ZERO)));
    assert_eq!(ErrorKind::Unknown, kind(table.try_begin("k")));
    assert_eq!(ErrorKind::Unknown, kind(table.run("k", || unreachable!())));
    assert_eq!(1, table.stats().in_flight);
}

#[test]
fn a_passed_lease_is_unknown_to_a_begin() {
    let table = hold();
    let _lead = table.request("k").lease(SHORT).begin().lead();
    pass(SHORT);
    assert_eq!(ErrorKind::Unknown, kind(table.begin("k")));
}

#[test]
fn followers_learn_that_the_lead_was_abandoned() {
    let table = hold();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| kind(table.begin_timeout("k", PATIENCE)))).collect();
        in_line(&table, 3);
        drop(lead);
        for follower in followers {
            assert_eq!(ErrorKind::Unknown, follower.join().unwrap());
        }
    });
    assert_eq!(0, table.stats().waiting);
}

#[test]
fn followers_learn_that_the_lease_has_passed_and_nobody_has_to_call() {
    let table = hold();
    let lead = table.request("k").lease(SHORT).begin().lead();
    assert_eq!(ErrorKind::Unknown, kind(table.begin_timeout("k", PATIENCE)));
    // The lead goes on: nobody has recovered.
    lead.complete(1).unwrap();
    assert_eq!(1, table.begin("k").replayed());
}

#[test]
fn a_request_that_recovers_leads_the_next_attempt() {
    let table = hold();
    let first = table.begin("k").lead();
    first.set_checkpoint(b"half").unwrap();
    let fence = first.fence();
    drop(first);
    let lead = table.request("k").recover().begin().lead();
    assert_eq!(2, lead.attempt());
    assert!(lead.fence() > fence);
    assert_eq!(b"half", &*lead.checkpoint().unwrap().unwrap());
    // While it recovers the key is simply in flight.
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    lead.complete(7).unwrap();
    assert_eq!(7, table.begin("k").replayed());
}

#[test]
fn a_follower_that_recovers_leads_and_the_others_wait_on() {
    let table = hold();
    let lead = table.begin("k").lead();
    let mut plain = follower(table.try_begin("k"));
    let mut recovering = follower(table.request("k").recover().try_begin());
    drop(lead);
    assert_eq!(ErrorKind::Timeout, kind(plain.wait_timeout(Duration::ZERO)));
    let second = recovering.wait_timeout(PATIENCE).lead();
    assert_eq!(2, second.attempt());
    second.complete(3).unwrap();
    assert_eq!(3, plain.wait_timeout(PATIENCE).shared());
}

#[test]
fn a_follower_that_recovers_leads_once_the_lease_has_passed() {
    let table = hold();
    let late = table.request("k").lease(SHORT).begin().lead();
    let lead = table.request("k").recover().lease(LONG).timeout(PATIENCE).begin().lead();
    assert_eq!(2, lead.attempt());
    assert_eq!(ErrorKind::Stale, late.complete(1).unwrap_err().error.kind());
    lead.complete(2).unwrap();
}

#[test]
fn the_old_lead_settles_until_somebody_recovers() {
    let table = hold();
    let old = table.request("k").lease(Duration::ZERO).begin().lead();
    assert_eq!(ErrorKind::Unknown, kind(table.begin("k")));
    old.complete(1).unwrap();
    assert_eq!(1, table.begin("k").replayed());

    let old = table.request("l").lease(Duration::ZERO).begin().lead();
    let lead = table.request("l").recover().lease(LONG).begin().lead();
    let refused = old.complete(1).unwrap_err();
    assert_eq!((ErrorKind::Stale, 1), (refused.error.kind(), refused.value));
    lead.complete(2).unwrap();
}

#[test]
fn the_old_lead_may_say_that_nothing_happened() {
    let table = hold();
    let old = table.request("k").lease(Duration::ZERO).begin().lead();
    assert_eq!(ErrorKind::Unknown, kind(table.begin("k")));
    old.cancel().unwrap();
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn renewal_ends_the_unknown_state() {
    let table = hold();
    let lead = table.request("k").lease(Duration::ZERO).begin().lead();
    assert_eq!(ErrorKind::Unknown, kind(table.begin("k")));
    lead.renew(LONG).unwrap();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    lead.complete(1).unwrap();
}

#[test]
fn forget_ends_the_unknown_state() {
    let table = hold();
    drop(table.begin("k").lead());
    assert!(table.forget("k").unwrap());
    assert_eq!(0, table.stats().in_flight);
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn cancel_promotes_under_hold_too() {
    let table = hold();
    let lead = table.begin("k").lead();
    let mut next = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    let lead = next.wait_timeout(PATIENCE).lead();
    assert_eq!(2, lead.attempt());
    lead.cancel().unwrap();
    assert_eq!(1, table.begin("k").lead().attempt());
}

/// The lead was on offer to a follower that may recover, and lapsed. What may have happened still
/// may have: a begin that may not recover doesn't get it, one that may does.
#[test]
fn a_lapsed_recovery_is_not_for_those_who_may_not_recover() {
    let offer = Duration::from_millis(1);
    let table: Table =
        DedupTable::builder().on_lease_expired(OnLeaseExpired::Hold).offer(offer).build();
    let lead = table.begin("k").lead();
    let recovering = follower(table.request("k").recover().try_begin());
    drop(lead);
    wait_until("the offer lapses", || {
        match kind(table.begin_timeout("k", Duration::ZERO)) {
            // Still on offer.
            ErrorKind::Timeout => false,
            kind => kind == ErrorKind::Unknown,
        }
    });
    assert_eq!(2, table.request("k").recover().begin().lead().attempt());
    drop(recovering);
}

/// The leader cancelled: nothing happened. That the follower it was offered to has not come for it
/// within its lease changes nothing about that.
#[test]
fn a_lead_on_offer_after_a_cancel_is_not_unknown() {
    let table = hold();
    let lead = table.begin("k").lead();
    let mut offered = follower(table.request("k").lease(SHORT).try_begin());
    lead.cancel().unwrap();
    pass(SHORT);
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    assert_eq!(2, offered.wait_timeout(PATIENCE).lead().attempt());
}
