//! Leases: what a passed one permits, and what it doesn't do by itself.

use std::thread;
use std::time::{Duration, Instant};

use onceflight::{ErrorKind, Lead};

use crate::support::*;

/// A lead that has been overtaken, and the one that overtook it.
fn overtaken<'t>(table: &'t Table, key: &str) -> [Lead<'t, String, u64>; 2] {
    let late = table.request(key).lease(Duration::ZERO).begin().lead();
    let successor = table.request(key).lease(LONG).begin().lead();
    assert_eq!(2, successor.attempt());
    assert!(successor.fence() > late.fence());
    [late, successor]
}

#[test]
fn the_next_begin_takes_over_a_passed_lease() {
    let table = Table::builder().lease(SHORT).build();
    let late = table.begin("k").lead();
    pass(SHORT);
    assert_eq!(2, table.begin_timeout("k", Duration::ZERO).lead().attempt());
    assert_eq!(1, table.stats().takeovers);
    drop(late);
}

#[test]
fn a_waiting_follower_takes_over_a_passed_lease_and_nobody_has_to_call() {
    let table = Table::builder().lease(SHORT).build();
    let start = Instant::now();
    let late = table.begin("k").lead();
    let lead = table.request("k").lease(LONG).timeout(PATIENCE).begin().lead();
    assert!(start.elapsed() >= SHORT);
    assert_eq!(2, lead.attempt());
    lead.complete(2).unwrap();
    assert_eq!(ErrorKind::Stale, late.complete(1).unwrap_err().error.kind());
}

#[test]
fn a_lease_that_has_not_passed_permits_nothing() {
    let table = Table::builder().lease(LONG).build();
    let lead = table.begin("k").lead();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", SHORT)));
    lead.complete(1).unwrap();
}

#[test]
fn an_overtaken_lead_settles_nothing_and_gets_its_value_back() {
    let table = Table::builder().completed_ttl(LONG).build();
    let [late, successor] = overtaken(&table, "k");
    let refused = late.complete(13).unwrap_err();
    assert_eq!((ErrorKind::Stale, 13), (refused.error.kind(), refused.value));
    assert!(refused.lead.is_none());
    successor.complete(42).unwrap();
    assert_eq!(42, table.begin("k").replayed());
}

#[test]
fn every_verb_of_an_overtaken_lead_is_stale() {
    let table = Table::new();
    let [late, successor] = overtaken(&table, "k");
    assert_eq!(ErrorKind::Stale, kind(late.renew(LONG)));
    assert_eq!(ErrorKind::Stale, kind(late.checkpoint()));
    assert_eq!(ErrorKind::Stale, kind(late.set_checkpoint(b"late")));
    assert_eq!(None, successor.checkpoint().unwrap());
    assert_eq!(ErrorKind::Stale, kind(late.cancel()));
    let [late, _second] = overtaken(&table, "l");
    assert_eq!(ErrorKind::Stale, kind(late.abandon()));
    let [late, _third] = overtaken(&table, "m");
    assert_eq!(ErrorKind::Stale, kind(late.decline()));
    assert_eq!(6, table.stats().stale);
    successor.complete(1).unwrap();
}

#[test]
fn an_overtaken_lead_that_is_dropped_leaves_the_successor_alone() {
    let table = Table::new();
    let [late, successor] = overtaken(&table, "k");
    thread::scope(|scope| {
        let follower = scope.spawn(|| table.begin_timeout("k", PATIENCE).shared());
        in_line(&table, 1);
        drop(late);
        successor.complete(42).unwrap();
        assert_eq!(42, follower.join().unwrap());
    });
}

#[test]
fn a_passed_lease_that_nobody_took_over_still_completes() {
    let table = Table::builder().lease(SHORT).completed_ttl(LONG).build();
    let late = table.begin("k").lead();
    pass(SHORT);
    late.complete(1).unwrap();
    assert_eq!(1, table.begin("k").replayed());
}

#[test]
fn a_passed_lease_that_nobody_took_over_can_be_renewed() {
    let table = Table::builder().lease(SHORT).build();
    let late = table.begin("k").lead();
    pass(SHORT);
    late.renew(LONG).unwrap();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    late.complete(1).unwrap();
}

#[test]
fn renewal_keeps_a_waiting_follower_waiting() {
    let lease = Duration::from_millis(100);
    let table = Table::new();
    // On a machine that stalls for a whole lease there was nothing left to renew: once more.
    wait_until("a renewal in time", || {
        let lead = table.request("k").lease(LONG).begin().lead();
        let mut waiting = follower(table.try_begin("k"));
        let start = Instant::now();
        lead.renew(lease).unwrap();
        let renewed = lead.renew(LONG);
        if start.elapsed() >= lease {
            return false;
        }
        renewed.unwrap();
        pass(lease);
        assert_eq!(ErrorKind::Timeout, kind(waiting.wait_timeout(SHORT)));
        lead.complete(1).unwrap();
        waiting.wait_timeout(PATIENCE).shared() == 1
    });
}

#[test]
fn renewal_to_a_shorter_lease_wakes_the_follower_sooner() {
    let table = Table::new();
    let late = table.request("k").lease(LONG).begin().lead();
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            table.request("k").timeout(PATIENCE).begin().lead().complete(2).unwrap();
        });
        in_line(&table, 1);
        late.renew(SHORT).unwrap();
        follower.join().unwrap();
    });
    assert_eq!(ErrorKind::Stale, late.complete(1).unwrap_err().error.kind());
}

#[test]
fn a_promoted_follower_leads_under_its_own_requests_lease() {
    let table = Table::new();
    let first = table.begin("k").lead();
    let mut second = follower(table.request("k").lease(SHORT).try_begin());
    first.cancel().unwrap();
    let late = second.wait_timeout(PATIENCE).lead();
    assert_eq!(3, table.begin_timeout("k", PATIENCE).lead().attempt());
    drop(late);
}

/// The one before had a lease and followers, so an alarm was set for it: the successor's own lease
/// must be watched all the same.
#[test]
fn the_lease_of_a_promoted_leader_is_watched_for_those_behind_it() {
    let table = Table::builder().lease(LONG).build();
    let first = table.begin("k").lead();
    let mut second = follower(table.request("k").lease(SHORT).try_begin());
    let mut third = follower(table.try_begin("k"));
    first.cancel().unwrap();
    let late = second.wait_timeout(PATIENCE).lead();
    assert_eq!(3, third.wait_timeout(PATIENCE).lead().attempt());
    drop(late);
}

#[test]
fn the_lease_of_a_successor_to_an_abandoned_lead_is_watched() {
    let table = Table::builder().lease(LONG).build();
    let first = table.begin("k").lead();
    let mut second = follower(table.request("k").lease(SHORT).try_begin());
    let mut third = follower(table.try_begin("k"));
    drop(first);
    let late = second.wait_timeout(PATIENCE).lead();
    assert_eq!(3, third.wait_timeout(PATIENCE).lead().attempt());
    drop(late);
}

#[test]
fn leases_that_pass_one_after_the_other_are_each_taken_over() {
    let table = Table::builder().lease(SHORT).build();
    let first = table.request("k").lease(LONG).begin().lead();
    let mut followers: Vec<_> = (0..4).map(|_| follower(table.try_begin("k"))).collect();
    first.renew(SHORT).unwrap();
    let mut late = vec![first];
    for (number, follower) in followers.iter_mut().enumerate() {
        let lead = follower.wait_timeout(PATIENCE).lead();
        assert_eq!(number + 2, lead.attempt() as usize);
        late.push(lead);
    }
    late.pop().unwrap().complete(1).unwrap();
    for lead in late {
        assert_eq!(ErrorKind::Stale, kind(lead.cancel()));
    }
}

/// A begin that finds the lease passed and a follower in line promotes that one. It asks all the
/// time, so that it mostly is there before the alarm.
#[test]
fn a_begin_never_overtakes_those_in_line() {
    let lease = Duration::from_millis(1);
    let table = Table::new();
    for _ in 0..50 {
        let late = table.request("k").lease(LONG).begin().lead();
        let mut first = follower(table.request("k").lease(LONG).try_begin());
        late.renew(lease).unwrap();
        let start = Instant::now();
        while start.elapsed() < lease * 2 {
            assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
        }
        let lead = first.wait_timeout(PATIENCE).lead();
        assert_eq!(2, lead.attempt());
        lead.complete(1).unwrap();
        drop(late);
    }
}

#[test]
fn a_heartbeat_holds_the_lease_up_to_max_lead() {
    let table = Table::builder().lease(SHORT).heartbeat(true).max_lead(LONG).build();
    let lead = table.begin("k").lead();
    pass(SHORT);
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    lead.complete(1).unwrap();

    let bounded = Duration::from_millis(60);
    let table = Table::builder().lease(SHORT).heartbeat(true).max_lead(bounded).build();
    let start = Instant::now();
    let late = table.begin("k").lead();
    assert_eq!(2, table.begin_timeout("k", PATIENCE).lead().attempt());
    assert!(start.elapsed() >= bounded);
    drop(late);
}
