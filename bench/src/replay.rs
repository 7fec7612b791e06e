//! Replays of what is held: a thousand hot keys, and Zipf's law over a million.

use std::time::Duration;

use crate::contestant::{Bench, Entry, Keep, RESPONSE};
use crate::crowd;
use crate::keys::{Key, Short, Zipf, uniform};
use crate::ours::FromC;
use crate::peers::{DashCell, Moka, Once, QuickCache, QuickCacheTtl};
use crate::plan::{self, Plan};
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

/// Longer than any run.
pub const TTL: Duration = Duration::from_secs(6 * 3600);

/// Look-ups between two looks at the clock.
const BATCH: usize = 256;

pub fn run(plan: &Plan, report: &mut Report) {
    hot(plan, report);
    zipf(plan, report);
    size(plan, report);
}

fn hot(plan: &Plan, report: &mut Report) {
    const KEYS: u64 = 1000;
    let sequences = [uniform::<Short>(KEYS, 1 << 14, 1), uniform(KEYS, 1 << 14, 2)];
    let made = filled(entries(KEYS), KEYS);
    for threads in [1, 2] {
        let title = format!("replay, 1,000 hot keys, {}", plan::threads(threads));
        both(plan, report, &made, &sequences, ("replay-hot", &title, threads, KEYS, 20));
    }
}

fn zipf(plan: &Plan, report: &mut Report) {
    let keys: u64 = if plan.quick { 100_000 } else { 1_000_000 };
    let law = Zipf::new(keys as usize, 0.99);
    let sequences = [law.keys::<Short>(1 << 21, 3), law.keys(1 << 21, 4)];
    let made = filled(entries(keys), keys);
    for threads in [1, 2] {
        let title = format!("replay, zipf 0.99 over {keys} keys, {}", plan::threads(threads));
        both(plan, report, &made, &sequences, ("replay-zipf", &title, threads, keys, 150));
    }
}

/// Through the C ABI a replay hands out a hold, whatever its size.
fn size(plan: &Plan, report: &mut Report) {
    const KEYS: u64 = 16;
    let keys = uniform::<Short>(KEYS, 1 << 12, 5);
    let sizes = [("64 B", 64), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10)];
    let made: Vec<(&str, Box<dyn Bench<Short>>)> = sizes
        .map(|(name, size)| {
            let table: Box<dyn Bench<Short>> = Box::new(FromC::new(Keep::For(TTL)));
            table.fill(0, KEYS, &vec![7; size]);
            (name, table)
        })
        .into();
    let names = made.iter().map(|(name, _)| *name).collect();
    let rounds = rounds::take(plan.rounds, 1, names, |contestant| {
        replays(&*made[contestant].1, &[&keys], plan.time(20))
    });
    let table = Table {
        work: "replay-size",
        title: "replay through the C ABI by the response's size, 1 thread",
        unit: "ns",
        threads: 1,
        n: KEYS,
        figure: 0,
        against: &["64 B"],
    };
    report.table(&rounds, &table);
}

/// Who can keep, with and without a ttl where they can do both.
pub fn entries(keys: u64) -> Vec<Entry<Short>> {
    // The caches split their room over shards that don't fill evenly.
    let room = keys as usize * 2 + 4096;
    let mut entries = vec![
        Entry::new("qc", move || QuickCache::new(Keep::Always, room)),
        Entry::new("qc ttl", move || QuickCacheTtl::new(TTL, room)),
        Entry::new("moka", move || Moka::new(Keep::Always, room)),
        Entry::new("moka ttl", move || Moka::new(Keep::For(TTL), room)),
        Entry::new("dashmap", || DashCell::new(Keep::Always)),
        Entry::new("once_map", Once::new),
    ];
    entries.extend(crate::ours::entries(Keep::For(TTL)));
    entries
}

pub type Made = Vec<(&'static str, Box<dyn Bench<Short>>)>;

/// Contestants that hold the keys `0..keys`, all of them.
pub fn filled(entries: Vec<Entry<Short>>, keys: u64) -> Made {
    let made: Made = entries.into_iter().map(|entry| (entry.name, (entry.make)())).collect();
    for (name, contestant) in &made {
        contestant.fill(0, keys, &[7; RESPONSE]);
        if let Some(held) = contestant.held() {
            assert_eq!(held as u64, keys, "{name} evicted some");
        }
    }
    made
}

/// ns a replay as each thread sees it; a thread a sequence, which it goes through again and again.
pub fn replays<K: Key>(contestant: &dyn Bench<K>, sequences: &[&Vec<K>], time: Duration) -> Taken {
    crowd::measure(sequences.len(), time, |thread, batch| {
        let keys = sequences[thread];
        let first = batch as usize * BATCH % keys.len();
        contestant.replays(&keys[first..first + BATCH]);
        BATCH as u64
    })
}

fn both(
    plan: &Plan,
    report: &mut Report,
    made: &Made,
    sequences: &[Vec<Short>; 2],
    (work, title, threads, n, time): (&str, &str, usize, u64, u64),
) {
    let names = made.iter().map(|(name, _)| *name).collect();
    let sequences: Vec<&Vec<Short>> = sequences.iter().take(threads).collect();
    let rounds = rounds::take(plan.rounds, threads, names, |contestant| {
        replays(&*made[contestant].1, &sequences, plan.time(time))
    });
    let against = &["qc", "qc ttl", "once_map"];
    report.table(&rounds, &Table { work, title, unit: "ns", threads, n, figure: 0, against });
}
