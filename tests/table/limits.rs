//! Limits: what a full table says, and that it gets room again.

use std::time::Duration;

use onceflight::{DedupTable, ErrorKind, OnLeaseExpired};

use crate::support::*;

#[test]
fn keys_in_flight_are_bounded() {
    let table = Table::builder().max_in_flight(2).completed_ttl(LONG).build();
    let first = table.begin("a").lead();
    let second = table.begin("b").lead();
    assert_eq!(ErrorKind::Overloaded, kind(table.begin("c")));
    assert_eq!(ErrorKind::Overloaded, kind(table.run("c", || unreachable!())));
    // A key in flight takes no more room for another follower, a completed one none at all.
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("a", Duration::ZERO)));
    first.complete(1).unwrap();
    assert_eq!(1, table.begin("a").replayed());
    let third = table.begin("c").lead();
    assert_eq!(ErrorKind::Overloaded, kind(table.begin("d")));
    second.complete(2).unwrap();
    third.complete(3).unwrap();
}

/// Every way a flight ends gives its place back: many more flights than there is room for.
#[test]
fn every_end_of_a_flight_makes_room() {
    let table = Table::builder().max_in_flight(1).build();
    for round in 0..3 {
        table.begin(&format!("a{round}")).lead().complete(1).unwrap();
        table.begin(&format!("b{round}")).lead().complete_for(1, LONG).unwrap();
        table.begin(&format!("c{round}")).lead().cancel().unwrap();
        table.begin(&format!("d{round}")).lead().decline().unwrap();
        let key = format!("e{round}");
        drop(table.begin(&key).lead());
        table.forget(&key).unwrap();
        let detached = table.begin(&key).lead();
        table.forget(&key).unwrap();
        detached.abandon().unwrap();
        let detached = table.begin(&key).lead();
        table.forget(&key).unwrap();
        detached.complete(1).unwrap();
        table.run(&key, || 1).unwrap();
    }
    assert_eq!(0, table.stats().in_flight);
}

#[test]
fn a_refused_begin_takes_no_room() {
    let table = Table::builder().max_in_flight(1).build();
    let lead = table.begin("a").lead();
    for _ in 0..3 {
        assert_eq!(ErrorKind::Overloaded, kind(table.begin("b")));
    }
    lead.complete(1).unwrap();
    table.begin("b").lead().complete(1).unwrap();
}

/// Abandoned flights that nobody asks for again don't fill the table for good.
#[test]
fn abandoned_flights_make_room() {
    let table = Table::builder().max_in_flight(2).build();
    for key in 0..10 {
        drop(table.begin(&format!("{key}")).lead());
    }
    assert_eq!(2, table.stats().in_flight);
}

#[test]
fn but_not_where_their_outcome_is_unknown() {
    let table: Table =
        DedupTable::builder().max_in_flight(1).on_lease_expired(OnLeaseExpired::Hold).build();
    drop(table.begin("a").lead());
    assert_eq!(ErrorKind::Overloaded, kind(table.begin("b")));
    assert_eq!(ErrorKind::Unknown, kind(table.begin("a")));
}

#[test]
fn nor_where_somebody_leads_or_waits() {
    let table = Table::builder().max_in_flight(1).build();
    let lead = table.begin("a").lead();
    let mut offered = follower(table.try_begin("a"));
    drop(lead);
    assert_eq!(ErrorKind::Overloaded, kind(table.begin("b")));
    assert_eq!(2, offered.wait_timeout(PATIENCE).lead().attempt());
}

#[test]
fn followers_of_a_key_are_bounded() {
    let table = Table::builder().max_waiters(2).build();
    let lead = table.begin("k").lead();
    let other = table.begin("l").lead();
    let first = follower(table.try_begin("k"));
    let second = follower(table.try_begin("k"));
    assert_eq!(ErrorKind::Overloaded, kind(table.begin("k")));
    assert_eq!(ErrorKind::Overloaded, kind(table.try_begin("k")));
    // Another key has a line of its own; who would not wait doesn't need one.
    let third = follower(table.try_begin("l"));
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    drop(first);
    drop(follower(table.try_begin("k")));
    drop((second, third));
    lead.complete(1).unwrap();
    other.complete(1).unwrap();
}

#[test]
fn the_default_line_is_at_least_4096_long() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let line: Vec<_> = (0..4096).map(|_| follower(table.try_begin("k"))).collect();
    assert_eq!(4096, table.stats().waiting);
    lead.complete(1).unwrap();
    for waiting in line {
        assert_eq!(1, waiting.wait().shared());
    }
}

#[test]
fn a_response_too_large_is_refused_and_its_lead_stays_live() {
    let table: DedupTable<String, String> = DedupTable::builder()
        .completed_ttl(LONG)
        .max_weight(3)
        .weigher(|_, value: &String| value.len())
        .build();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    let refused = lead.complete("four".into()).unwrap_err();
    assert_eq!((ErrorKind::TooLarge, "four"), (refused.error.kind(), &*refused.value));
    assert_eq!(ErrorKind::Timeout, kind(waiting.wait_timeout(Duration::ZERO)));
    let lead = refused.lead.unwrap();
    lead.renew(LONG).unwrap();
    lead.complete("two".into()).unwrap();
    assert_eq!("two", waiting.wait_timeout(PATIENCE).shared());
    assert_eq!("two", table.begin("k").replayed());
}

#[test]
fn a_refusal_that_is_dropped_abandons() {
    fn fails(table: &Table) -> Result<(), onceflight::Error> {
        table.begin("k").lead().complete(1)?;
        Ok(())
    }
    let table: Table = DedupTable::builder().max_weight(0).weigher(|_, _| 1).build();
    assert_eq!(ErrorKind::TooLarge, kind(fails(&table)));
    assert_eq!(2, table.begin("k").lead().attempt());
}
