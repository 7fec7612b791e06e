//! The states of a key, row by row, under the default policies. HOLD has a module of its own.

use std::thread;
use std::time::Duration;

use onceflight::{Begin, DedupTable, ErrorKind, OnCancel, TryBegin};

use crate::support::*;

// ---- vacant ----

#[test]
fn begin_of_a_vacant_key_leads() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    assert_eq!(1, lead.attempt());
    assert_eq!(1, table.stats().in_flight);
    lead.complete(1).unwrap();
}

#[test]
fn every_form_of_begin_leads_a_vacant_key_even_one_that_may_not_wait() {
    let table = Table::new();
    table.begin("k").lead().complete(1).unwrap();
    table.begin_timeout("k", Duration::ZERO).lead().complete(1).unwrap();
    let Ok(TryBegin::Lead(lead)) = table.try_begin("k") else { panic!() };
    lead.complete(1).unwrap();
    assert_eq!(7, table.run("k", || 7).unwrap().value);
}

// ---- in flight ----

#[test]
fn begin_of_a_key_in_flight_waits_and_shares() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| table.begin_timeout("k", PATIENCE).shared())).collect();
        in_line(&table, 4);
        lead.complete(42).unwrap();
        for follower in followers {
            assert_eq!(42, follower.join().unwrap());
        }
    });
    assert_eq!(1, table.stats().leads);
}

#[test]
fn begin_that_may_not_wait_is_told_at_once() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    lead.complete(1).unwrap();
}

#[test]
fn completion_without_a_ttl_leaves_the_key_vacant() {
    let table = Table::new();
    table.begin("k").lead().complete(1).unwrap();
    let stats = table.stats();
    assert_eq!((0, 0), (stats.in_flight, stats.completed));
    let again = table.begin("k").lead();
    assert_eq!(1, again.attempt());
    again.complete(2).unwrap();
}

#[test]
fn completion_with_a_ttl_is_replayed() {
    let table = Table::builder().completed_ttl(LONG).build();
    table.begin("k").lead().complete(1).unwrap();
    assert_eq!(1, table.begin("k").replayed());
    let Ok(TryBegin::Replayed(1)) = table.try_begin("k") else { panic!() };
    let stats = table.stats();
    assert_eq!((0, 1), (stats.in_flight, stats.completed));
}

#[test]
fn the_settling_call_may_set_a_ttl_of_its_own() {
    let table = Table::builder().completed_ttl(LONG).build();
    table.begin("k").lead().complete_for(1, Duration::ZERO).unwrap();
    table.begin("k").lead().cancel().unwrap();

    let table = Table::new();
    table.begin("k").lead().complete_for(1, LONG).unwrap();
    assert_eq!(1, table.begin("k").replayed());
}

#[test]
fn a_request_may_set_a_ttl_of_its_own() {
    let table = Table::new();
    table.request("k").ttl(LONG).begin().lead().complete(1).unwrap();
    assert_eq!(1, table.begin("k").replayed());
}

#[test]
fn retention_is_the_settling_leaders_ttl() {
    let table = Table::new();
    let first = table.request("k").ttl(LONG).begin().lead();
    let mut second = follower(table.try_begin("k"));
    first.cancel().unwrap();
    second.wait_timeout(PATIENCE).lead().complete(1).unwrap();
    assert_eq!(0, table.stats().completed);
}

#[test]
fn cancel_promotes_the_first_in_line() {
    let table = Table::new();
    let first = table.begin("k").lead();
    let fence = first.fence();
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let lead = table.begin_timeout("k", PATIENCE).lead();
            assert_eq!(2, lead.attempt());
            assert!(lead.fence() > fence);
            lead.complete(1).unwrap();
        });
        in_line(&table, 1);
        first.cancel().unwrap();
        follower.join().unwrap();
    });
    assert_eq!(1, table.stats().promotions);
}

#[test]
fn cancel_with_nobody_waiting_leaves_the_key_vacant() {
    let table = Table::new();
    table.begin("k").lead().cancel().unwrap();
    assert_eq!(0, table.stats().in_flight);
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn cancel_may_fail_all_followers() {
    let table: Table = DedupTable::builder().on_cancel(OnCancel::FailAll).build();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| kind(table.begin_timeout("k", PATIENCE)))).collect();
        in_line(&table, 3);
        lead.cancel().unwrap();
        for follower in followers {
            assert_eq!(ErrorKind::Cancelled, follower.join().unwrap());
        }
    });
    assert_eq!(1, table.begin("k").lead().attempt());
}

/// So that what isn't to be kept reaches those who wait for it.
#[test]
fn cancel_and_abandon_can_have_a_value_for_those_who_wait() {
    for (cancels, attempt) in [(true, 1), (false, 2)] {
        let table: Table = DedupTable::builder().completed_ttl(LONG).build();
        let lead = table.begin("k").lead();
        thread::scope(|scope| {
            let followers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| table.begin_timeout("k", PATIENCE).shared()))
                .collect();
            in_line(&table, 3);
            if cancels { lead.cancel_with(7) } else { lead.abandon_with(7) }.unwrap();
            for follower in followers {
                assert_eq!(7, follower.join().unwrap());
            }
        });
        assert_eq!(0, table.stats().completed);
        assert_eq!(attempt, table.begin("k").lead().attempt());
    }
}

#[test]
fn abandon_lets_the_first_in_line_take_over() {
    let table = Table::new();
    let first = table.begin("k").lead();
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let lead = table.begin_timeout("k", PATIENCE).lead();
            assert_eq!(2, lead.attempt());
            lead.complete(1).unwrap();
        });
        in_line(&table, 1);
        first.abandon().unwrap();
        follower.join().unwrap();
    });
    let stats = table.stats();
    assert_eq!((1, 0), (stats.takeovers, stats.promotions));
}

#[test]
fn abandon_with_nobody_waiting_lets_the_next_begin_take_over() {
    let table = Table::new();
    let first = table.begin("k").lead();
    let fence = first.fence();
    first.abandon().unwrap();
    assert_eq!(1, table.stats().in_flight);
    let second = table.begin("k").lead();
    assert_eq!(2, second.attempt());
    assert!(second.fence() > fence);
    second.complete(1).unwrap();
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn a_dropped_lead_abandons() {
    let table = Table::new();
    drop(table.begin("k").lead());
    assert_eq!(2, table.begin("k").lead().attempt());
}

#[test]
fn a_leader_thread_that_panics_abandons() {
    let table = Table::new();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let _lead = table.begin("k").lead();
            std::panic::resume_unwind(Box::new("lost"));
        });
        leader.join().unwrap_err();
    });
    assert_eq!(2, table.begin("k").lead().attempt());
}

#[test]
fn decline_sends_every_follower_to_its_own_work() {
    let table = Table::builder().completed_ttl(LONG).build();
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| table.begin_timeout("k", PATIENCE))).collect();
        in_line(&table, 3);
        lead.decline().unwrap();
        for follower in followers {
            assert!(matches!(follower.join().unwrap(), Ok(Begin::Bypass)));
        }
    });
    let stats = table.stats();
    assert_eq!((3, 0, 0), (stats.bypassed, stats.in_flight, stats.completed));
    assert_eq!(1, table.begin("k").lead().attempt());
}

// ---- completed ----

#[test]
fn a_response_past_its_ttl_leaves_the_key_vacant() {
    let table = Table::builder().completed_ttl(SHORT).build();
    table.begin("k").lead().complete(1).unwrap();
    pass(SHORT);
    assert_eq!(1, table.begin("k").lead().attempt());
}

// ---- fences ----

#[test]
fn a_fence_grows_with_every_leader_of_a_key_across_vacancy_too() {
    let table: Table = DedupTable::builder().lease(Duration::ZERO).build();
    let mut last = 0;
    for round in 0..500 {
        let lead = table.begin("k").lead();
        assert!(lead.fence() > last, "round {round}");
        last = lead.fence();
        match round % 6 {
            0 => lead.complete(1).unwrap(),
            1 => lead.cancel().unwrap(),
            2 => lead.abandon().unwrap(),
            3 => lead.decline().unwrap(),
            // Its lease has passed, so the next begin takes over while it lives.
            4 => std::mem::forget(lead),
            _ => {
                table.forget("k").unwrap();
                lead.complete(1).unwrap();
            }
        }
    }
}

#[test]
fn no_two_leads_of_a_process_have_the_same_id() {
    let tables = [Table::new(), Table::new()];
    let mut ids: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let table = &tables[number % 2];
                scope.spawn(move || {
                    (0..2_000)
                        .map(|i| {
                            let lead = table.begin(&format!("{number}-{}", i % 50)).lead();
                            let id = lead.fence();
                            lead.cancel().unwrap();
                            id
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(count, ids.len());
}
