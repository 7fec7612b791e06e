//! Many records: they are listed and purged in pages, while others go on to claim.
//!
//! `ONCEFLIGHT_RECORDS` says how many.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{mem, thread};

use onceflight::IdempotencyTable;

use crate::harness::{AtTheEnd, Found, PATIENCE, Place, amount, on_every_store, response};

on_every_store!(many_records_are_listed_and_purged);
on_every_store!(memory: many_records_are_listed_and_purged);

const PAGE: usize = 500;
const LED: usize = 100;
const LONG: Duration = Duration::from_secs(24 * 3600);
const AT_ONCE: Duration = Duration::from_millis(1);
/// What has expired may be purged 10 seconds later. Who finds nothing for longer has purged all.
const IDLE: Duration = Duration::from_secs(12);

fn many_records_are_listed_and_purged(place: &Place) {
    let count = amount("ONCEFLIGHT_RECORDS", 10_000);
    let table = place.table(|table| table.ttl(LONG).max_lead(LONG).store_timeout(PATIENCE));
    // Those in progress are spared, however little their responses will be kept.
    let mut leads: Vec<_> =
        (0..LED).map(|key| table.request(&led(key)).ttl(AT_ONCE).begin().lead()).collect();
    let mut since = Instant::now();
    let mut lap = || mem::replace(&mut since, Instant::now()).elapsed();
    let add = |key: &str, ttl| {
        table.request(key).ttl(ttl).begin().lead().complete(response(key)).expect("room");
    };
    // Every second one is gone at once.
    for_each(count, |number| match number % 2 {
        0 => add(&kept(number), LONG),
        _ => add(&format!("gone {number}"), AT_ONCE),
    });
    let filled = lap();
    // Redis has no index: each page is a walk over all that it has.
    let page = if place.store.starts_with("redis") { count.div_ceil(4) } else { PAGE };
    let mut there: BTreeSet<String> = (0..LED).map(led).collect();
    there.extend((0..count).step_by(2).map(kept));
    assert_listed(&table, place, page, &there);
    let listed = lap();

    // The table itself may have purged all the others meanwhile.
    for_each(PAGE, |number| add(&format!("gone late {number}"), AT_ONCE));
    let over = AtomicBool::new(false);
    let (purged, new) = thread::scope(|scope| {
        let end = AtTheEnd(&over);
        let claims = scope.spawn(|| {
            let new = (0..count).map(|number| format!("new {number}"));
            let new = new.take_while(|_| !over.load(Ordering::Relaxed));
            new.inspect(|key| add(key, LONG)).collect::<Vec<_>>()
        });
        let purged = purge(&table, place, count / 2 + PAGE);
        drop(end);
        (purged, claims.join().expect("leads"))
    });
    let (purging, claimed) = (lap(), new.len());
    there.extend(new);
    assert_listed(&table, place, page, &there);
    if place.store == "sqlite" {
        assert_eq!(rows(place), there.len(), "what isn't listed is in the file");
    }
    for_each(count.div_ceil(2), |half| {
        let key = kept(2 * half);
        assert_eq!(table.begin(&key).response().data(), key.as_bytes());
    });
    leads.drain(..).for_each(|lead| lead.complete(response("led")).expect("it was spared"));
    println!(
        "{}: {count} records in {filled:.1?}, listed in {listed:.1?}; {purged} purged and {claimed} \
         claimed in {purging:.1?}; all looked at again in {:.1?}",
        place.store,
        lap()
    );
}

fn led(number: usize) -> String {
    format!("led {number}")
}

fn kept(number: usize) -> String {
    format!("kept {number}")
}

/// By several threads, since each waits for the store most of the time.
fn for_each(count: usize, act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let numbers = || Some(next.fetch_add(1, Ordering::Relaxed));
                std::iter::from_fn(numbers).take_while(|number| *number < count).for_each(&act);
            });
        }
    });
}

/// All of the scope, page by page, is what is there.
fn assert_listed(table: &IdempotencyTable, place: &Place, page: usize, there: &BTreeSet<String>) {
    if place.store == "memcached" {
        return; // which can't list
    }
    let (mut after, mut listed) = (None, BTreeSet::new());
    loop {
        let page = table.list(after, page).expect("a page");
        assert!(page.is_sorted_by_key(|record| record.key.id()));
        let Some(last) = page.last() else { break };
        assert!(after < Some(last.key.id()));
        after = Some(last.key.id());
        for record in page {
            let key = String::from_utf8(record.key.key().to_vec()).expect("a key of ours");
            // Of those that go at once, the last ones may have a moment left.
            if !key.starts_with("gone") {
                assert!(listed.insert(key), "listed twice");
            }
        }
    }
    assert_eq!(listed.len(), there.len());
    assert!(listed == *there, "others are listed than are there");
}

/// Until all that expired is gone, by us or by the table, another test or the server itself. Answers how
/// many went by us.
fn purge(table: &IdempotencyTable, place: &Place, expired: usize) -> usize {
    if place.store.starts_with("redis") || place.store == "memcached" {
        assert_eq!(table.purge(PAGE).expect("an answer"), 0, "they do that by themselves");
        return 0;
    }
    let (mut purged, mut last) = (0, Instant::now());
    while purged < expired && last.elapsed() < IDLE {
        let batch = table.purge(PAGE).expect("a purge");
        assert!(batch <= PAGE);
        purged += batch;
        if batch > 0 {
            last = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(5)); // until more may go
        }
    }
    assert!(purged > 0, "nothing may go");
    purged
}

/// How many records there are, expired ones too.
fn rows(place: &Place) -> usize {
    let file = rusqlite::Connection::open(place.file()).expect("a file");
    let count = "SELECT count(*) FROM onceflight_records";
    file.query_row(count, [], |row| row.get::<_, u32>(0)).expect("a number") as usize
}
