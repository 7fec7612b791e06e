//! Leaders that are killed, anywhere: others finish what they left, and all see one response.
//!
//! What is judged stands in [`caller`](crate::caller).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use onceflight::IdempotencyTable;
use onceflight::store;

use crate::caller::{self, Caller, Tally};
use crate::harness::{Place, Random, on_every_store, seed};
use crate::kills::{Task, kill_many};
use crate::ledger::{self, Ledger};
use crate::mortal::{Mortal, Point};
use crate::worker::{self, Fate};

on_every_store!(killed_leaders_are_succeeded);

fn killed_leaders_are_succeeded(place: &Place) {
    let path = place.dir.path.join("ledger");
    let ledger = Ledger::open(&path);
    if let Some(task) = worker::task() {
        return lead(place, &task, &ledger);
    }
    let seed = seed();
    let kills = kill_many(place, seed, &Point::ALL);
    let last = ledger::read(&path).into_keys().max().unwrap_or(0);
    let (table, fate, tally) = (place.table(caller::terms), Fate::none(), Tally::default());
    let random = Random(seed);
    let caller = Caller { table: &table, ledger: &ledger, fate: &fate, random, tally: &tally };
    let verdict = caller::judge(caller, &path, last + 1);
    println!("{}: {kills} kills, {verdict:?}", place.store);
    let proof = verdict.taken_over > 0 && verdict.doubled > 0;
    assert!(proof, "nobody was killed where it matters: {verdict:?}");
}

/// A worker's life.
fn lead(place: &Place, task: &Task<Point>, ledger: &Ledger) {
    let fate = Arc::new(task.fate());
    let store = Mortal::new(store::open(&place.url).expect("a store"), &fate);
    let table = caller::terms(IdempotencyTable::builder()).scope(&place.scope);
    let (table, tally) = (table.over(Arc::new(store)).expect("a table"), Tally::default());
    thread::scope(|threads| {
        for thread in 0..2 {
            let mut random = Random(task.seed ^ thread);
            let own = Random(random.next());
            let (table, fate, tally) = (&table, &fate, &tally);
            threads.spawn(move || {
                let mut caller = Caller { table, ledger, fate, random: own, tally };
                task.go_through_keys(&mut random, |key, random| {
                    caller.visit(key, Duration::from_millis(random.within(0..100)))
                });
            });
        }
    });
}
