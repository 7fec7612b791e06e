//! Each counter counts its own thing, once.

use std::time::Duration;

use onceflight::{Begin, DedupTable, ErrorKind, OnCancel, Stats};

use crate::support::*;

/// What has changed since.
fn assert_counts(table: &Table, expected: impl FnOnce(&mut Stats)) {
    let mut stats = Stats::default();
    expected(&mut stats);
    assert_eq!(stats, table.stats());
}

#[test]
fn a_new_table_has_counted_nothing() {
    assert_counts(&Table::new(), |_| {});
}

#[test]
fn leads_and_in_flight() {
    let table = Table::new();
    let leads = ["a", "b", "c"].map(|key| table.begin(key).lead());
    assert_counts(&table, |stats| (stats.leads, stats.in_flight) = (3, 3));
    for lead in leads {
        lead.complete(1).unwrap();
    }
    assert_counts(&table, |stats| stats.leads = 3);
}

#[test]
fn waiting_and_shared() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let waiting = [(); 3].map(|()| follower(table.try_begin("k")));
    assert_counts(&table, |stats| {
        (stats.leads, stats.in_flight, stats.waiting) = (1, 1, 3);
    });
    lead.complete(1).unwrap();
    // An outcome is counted when it is given.
    assert_counts(&table, |stats| stats.leads = 1);
    for waiting in waiting {
        waiting.wait().shared();
    }
    assert_counts(&table, |stats| (stats.leads, stats.shared) = (1, 3));
}

#[test]
fn replayed_completed_and_bytes() {
    let table = Table::builder().completed_ttl(LONG).weigher(|_, _| 7).build();
    for key in ["a", "b"] {
        table.begin(key).lead().complete(1).unwrap();
    }
    table.begin("a").replayed();
    assert_counts(&table, |stats| {
        (stats.leads, stats.replayed) = (2, 1);
        (stats.completed, stats.completed_bytes) = (2, 14);
    });
}

#[test]
fn bypassed() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let waiting = [(); 2].map(|()| follower(table.try_begin("k")));
    lead.decline().unwrap();
    for waiting in waiting {
        assert!(matches!(waiting.wait(), Ok(Begin::Bypass)));
    }
    assert_counts(&table, |stats| (stats.leads, stats.bypassed) = (1, 2));
}

#[test]
fn timeouts_of_those_who_would_not_wait_too() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::from_millis(1))));
    // That one only looked, and left without a complaint.
    let mut waiting = follower(table.try_begin("k"));
    assert_eq!(ErrorKind::Timeout, kind(waiting.wait_timeout(Duration::ZERO)));
    drop(waiting);
    lead.complete(1).unwrap();
    assert_counts(&table, |stats| (stats.leads, stats.timeouts) = (1, 2));
}

#[test]
fn cancels_and_promotions() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    // A promotion is counted when the lead is taken up.
    assert_counts(&table, |stats| (stats.leads, stats.cancels, stats.in_flight) = (1, 1, 1));
    waiting.wait_timeout(PATIENCE).lead().cancel().unwrap();
    assert_counts(&table, |stats| {
        (stats.leads, stats.cancels, stats.promotions) = (2, 2, 1);
    });
}

#[test]
fn cancels_that_fail_all() {
    let table: Table = DedupTable::builder().on_cancel(OnCancel::FailAll).build();
    let lead = table.begin("k").lead();
    let waiting = follower(table.try_begin("k"));
    lead.cancel().unwrap();
    assert_eq!(ErrorKind::Cancelled, kind(waiting.wait()));
    assert_counts(&table, |stats| (stats.leads, stats.cancels) = (1, 1));
}

#[test]
fn takeovers_by_begin_and_from_the_line() {
    let table = Table::new();
    drop(table.begin("k").lead());
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    lead.abandon().unwrap();
    waiting.wait_timeout(PATIENCE).lead().complete(1).unwrap();
    assert_counts(&table, |stats| (stats.leads, stats.takeovers) = (3, 2));
}

#[test]
fn stale_leads() {
    let table = Table::new();
    let late = table.request("k").lease(Duration::ZERO).begin().lead();
    table.begin("k").lead().complete(1).unwrap();
    late.complete(2).unwrap_err();
    assert_counts(&table, |stats| {
        (stats.leads, stats.takeovers, stats.stale) = (2, 1, 1);
    });
}

#[test]
fn evictions() {
    let table = Table::builder().completed_ttl(LONG).max_completed(1).build();
    for key in ["a", "b", "c"] {
        table.begin(key).lead().complete(1).unwrap();
    }
    assert_counts(&table, |stats| {
        (stats.leads, stats.evictions, stats.completed) = (3, 2, 1);
    });
}

#[test]
fn what_expired_or_was_forgotten_is_no_eviction() {
    let table = Table::new();
    table.begin("a").lead().complete_for(1, LONG).unwrap();
    table.begin("b").lead().complete_for(1, SHORT).unwrap();
    table.forget("a").unwrap();
    wait_until("the window", || table.stats().completed == 0);
    assert_counts(&table, |stats| stats.leads = 2);
}
