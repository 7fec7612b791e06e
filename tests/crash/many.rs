//! Many records: they are listed and purged in pages, while others go on to claim.
//!
//! `ONCEFLIGHT_RECORDS` says how many.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use onceflight::IdempotencyTable;

use crate::harness::{
    AtTheEnd, Found, PATIENCE, Place, amount, eventually, on_every_store, response,
};

on_every_store!(many_records_are_listed_and_purged);

const PAGE: usize = 500;
const LONG: Duration = Duration::from_secs(24 * 3600);

fn many_records_are_listed_and_purged(place: &Place) {
    let count = amount("ONCEFLIGHT_RECORDS", 10_000);
    let table = place.table(|table| table.ttl(LONG).store_timeout(PATIENCE));
    // Those in progress are spared, however little their responses will be kept.
    let mut leads = (0..100)
        .map(|key| {
            table.request(&format!("led {key}")).ttl(Duration::from_millis(1)).begin().lead()
        })
        .collect::<Vec<_>>();
    fill(&table, count);
    if place.store != "memcached" {
        // Redis has no index: each page is a walk over all that it has.
        let page = if place.store.starts_with("redis") { count.div_ceil(4) } else { PAGE };
        let listed = list(&table, page);
        assert_eq!(listed.len(), count / 2 + leads.len());
    }
    let (over, new) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let key = format!("new {}", new.fetch_add(1, Ordering::Relaxed));
                table.begin(&key).lead().complete(response(&key)).unwrap();
            }
        });
        purge(&table, place, count.div_ceil(2));
    });
    println!("{}: {count} records, {} claims during the purge", place.store, new.into_inner());
    let key = |number: usize| format!("kept {number}");
    for number in (0..count).step_by(2).step_by(97) {
        assert_eq!(table.begin(key(number)).response().data(), key(number).as_bytes());
    }
    leads.drain(..).for_each(|lead| lead.complete(response("led")).expect("it was spared"));
}

/// Every second one is gone at once.
fn fill(table: &IdempotencyTable, count: usize) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (kept, ttl) = match number {
                        number if number >= count => return,
                        number if number % 2 == 0 => ("kept", LONG),
                        _ => ("gone", Duration::from_millis(1)),
                    };
                    let key = format!("{kept} {number}");
                    table.request(&key).ttl(ttl).begin().lead().complete(response(&key)).unwrap();
                }
            });
        }
    });
}

/// All of the scope, page by page.
fn list(table: &IdempotencyTable, max: usize) -> BTreeSet<Vec<u8>> {
    let (mut after, mut all) = (None, BTreeSet::new());
    loop {
        let page = table.list(after, max).expect("a page");
        assert!(page.is_sorted_by_key(|record| record.key.id()));
        let Some(last) = page.last() else { return all };
        assert!(after < Some(last.key.id()));
        after = Some(last.key.id());
        for record in page {
            assert!(all.insert(record.key.key().to_vec()), "listed twice");
        }
    }
}

/// Until all that expired is gone, by us or by the table or the server itself.
fn purge(table: &IdempotencyTable, place: &Place, expired: usize) {
    if place.store.starts_with("redis") || place.store == "memcached" {
        assert_eq!(table.purge(PAGE).expect("an answer"), 0, "they do that by themselves");
        return;
    }
    let (mut purged, mut idle) = (0, 0);
    eventually("the end of the purge", || {
        let batch = table.purge(PAGE).expect("a purge");
        assert!(batch <= PAGE);
        purged += batch;
        // They expire some seconds before they may go; other tests of a server leave some too.
        idle = if batch == 0 && purged > 0 { idle + 1 } else { 0 };
        (purged >= expired || idle > 1000).then_some(())
    });
}
