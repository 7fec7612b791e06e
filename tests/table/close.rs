//! Closing a table, and dropping it.

use std::thread;
use std::time::Duration;

use onceflight::{DedupTable, ErrorKind};

use crate::support::*;

#[test]
fn a_closed_table_begins_nothing() {
    let table = Table::builder().completed_ttl(LONG).build();
    table.begin("done").lead().complete(1).unwrap();
    table.close();
    table.close();
    for key in ["done", "new"] {
        assert_eq!(ErrorKind::Closed, kind(table.begin(key)));
        assert_eq!(ErrorKind::Closed, kind(table.begin_timeout(key, Duration::ZERO)));
        assert_eq!(ErrorKind::Closed, kind(table.try_begin(key)));
        assert_eq!(ErrorKind::Closed, kind(table.run(key, || unreachable!())));
    }
}

#[test]
fn close_wakes_every_waiter() {
    let table = Table::new();
    let [plain, detached, cancelled] = ["a", "b", "c"].map(|key| table.begin(key).lead());
    let mut object = follower(table.try_begin("a"));
    object.receiver();
    let mut offered = follower(table.try_begin("c"));
    offered.receiver();
    thread::scope(|scope| {
        let waiters: Vec<_> = ["a", "a", "b", "c"]
            .into_iter()
            .map(|key| scope.spawn(|| kind(table.begin_timeout(key, PATIENCE))))
            .collect();
        in_line(&table, 6);
        table.forget("b").unwrap();
        cancelled.cancel().unwrap();
        table.close();
        for waiter in waiters {
            assert_eq!(ErrorKind::Closed, waiter.join().unwrap());
        }
    });
    for mut follower in [object, offered] {
        follower.receiver().recv_timeout(PATIENCE).unwrap();
        assert_eq!(ErrorKind::Closed, kind(follower.wait()));
    }
    let stats = table.stats();
    // The key on offer had no leader any more; the other two settle yet.
    assert_eq!((0, 2), (stats.waiting, stats.in_flight));
    plain.complete(1).unwrap();
    detached.complete(1).unwrap();
    assert_eq!(0, table.stats().in_flight);
}

#[test]
fn leads_still_settle() {
    let table = Table::builder().completed_ttl(LONG).build();
    let [first, second, third, fourth, fifth] =
        ["a", "b", "c", "d", "e"].map(|key| table.begin(key).lead());
    table.close();
    first.renew(LONG).unwrap();
    first.set_checkpoint(b"late").unwrap();
    first.complete(1).unwrap();
    second.cancel().unwrap();
    third.decline().unwrap();
    fourth.complete_for(1, LONG).unwrap();
    fifth.abandon().unwrap();
    // What nobody could be given any more isn't kept.
    assert_eq!(0, table.stats().completed);
    assert_eq!(0, table.stats().stale);
}

#[test]
fn close_gives_memory_back() {
    let census = Census::default();
    let table: DedupTable<Counted, Counted> = DedupTable::builder().completed_ttl(LONG).build();
    for id in 0..20 {
        table.begin(&census.member(id)).lead().complete(census.member(id)).unwrap();
    }
    drop(table.begin(&census.member(20)).lead());
    assert_eq!(41, census.alive());
    table.close();
    assert_eq!(0, census.alive());
    let stats = table.stats();
    assert_eq!((0, 0, 0), (stats.completed, stats.completed_bytes, stats.in_flight));
    assert_eq!(0, stats.evictions);
}

#[test]
fn dropping_a_table_gives_memory_back_lost_leads_too() {
    let census = Census::default();
    let table: DedupTable<Counted, Counted> = DedupTable::builder().completed_ttl(LONG).build();
    table.begin(&census.member(1)).lead().complete(census.member(1)).unwrap();
    drop(table.begin(&census.member(2)).lead());
    std::mem::forget(table.begin(&census.member(3)).lead());
    std::mem::forget(table.request(&census.member(4)).lease(LONG).begin().lead());
    assert_eq!(5, census.alive());
    drop(table);
    wait_until("the memory", || census.alive() == 0);
}

/// The last table ends the timer threads; the next one starts them again.
#[test]
fn tables_come_and_go() {
    for _ in 0..30 {
        let table = Table::builder().completed_ttl(Duration::from_millis(1)).build();
        table.begin("k").lead().complete(1).unwrap();
        let late = table.request("l").lease(Duration::from_millis(1)).begin().lead();
        let lead = table.begin_timeout("l", PATIENCE).lead();
        wait_until("the window", || table.stats().completed == 0);
        lead.complete(1).unwrap();
        drop(late);
    }
}

#[test]
fn close_races_with_begins() {
    for _ in 0..50 {
        let table = Table::new();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        match table.run("k", || 1) {
                            Ok(outcome) => assert_eq!(1, outcome.value),
                            Err(error) => break assert_eq!(ErrorKind::Closed, error.kind()),
                        }
                    }
                });
            }
            table.close();
        });
        let stats = table.stats();
        assert_eq!((0, 0), (stats.waiting, stats.in_flight));
    }
}
