//! Uncontended cycles on unique keys, nothing kept: begin, complete, gone.

use std::time::Duration;

use crate::contestant::{Bench, Entry, Keep, response};
use crate::crowd;
use crate::keys::{Key, Long, Short};
use crate::peers::{DashCell, Moka, QuickCache, SingleFlight};
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds;

/// Cycles between two looks at the clock.
const BATCH: u64 = 256;

/// Every contestant that can forget. What a cache may hold makes no difference to an empty one.
pub fn entries<K: Key>() -> Vec<Entry<K>> {
    const ROOM: usize = 100_000;
    let mut entries = vec![
        Entry::new("qc", || QuickCache::new(Keep::Nothing, ROOM)),
        Entry::new("moka", || Moka::new(Keep::Nothing, ROOM)),
        Entry::new("dashmap", || DashCell::new(Keep::Nothing)),
    ];
    entries.extend(crate::ours::entries(Keep::Nothing));
    entries
}

/// ns a cycle as each of `threads` threads sees it.
pub fn measure<K: Key>(contestant: &dyn Bench<K>, threads: usize, time: Duration) -> rounds::Taken {
    crowd::measure(threads, time, |thread, batch| {
        thread_local!(static VALUE: crate::contestant::Value = response());
        let first = ((thread as u64) << 48) + batch * BATCH;
        VALUE.with(|value| contestant.cycles(first, BATCH, value));
        BATCH
    })
}

pub fn run(plan: &Plan, report: &mut Report) {
    let mut short = entries::<Short>();
    short.insert(3, Entry::new("singleflight", SingleFlight::new));
    one_size("cycle16", "cycle, 16-byte keys, 1 thread", plan, report, short);
    let mut long = entries::<Long>();
    long.insert(3, Entry::new("singleflight", SingleFlight::new));
    one_size("cycle64", "cycle, 64-byte keys, 1 thread", plan, report, long);
}

fn one_size<K: Key>(
    work: &str,
    title: &str,
    plan: &Plan,
    report: &mut Report,
    entries: Vec<Entry<K>>,
) {
    let made: Vec<_> = entries.iter().map(|entry| (entry.make)()).collect();
    let names = entries.iter().map(|entry| entry.name).collect();
    let rounds = rounds::take(plan.rounds, 1, names, |contestant| {
        measure(&*made[contestant], 1, plan.time(30))
    });
    let table = Table {
        work,
        title,
        unit: "ns",
        threads: 1,
        n: size_of::<K>() as u64,
        figure: 0,
        against: &["qc", "onceflight"],
    };
    report.table(&rounds, &table);
}
