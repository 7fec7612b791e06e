//! 64 threads that ask for keys by Zipf's law, each with 50 µs of work behind it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::{Bench, Entry, Keep, response};
use crate::floors::{NoDedup, Words};
use crate::keys::{Short, Zipf};
use crate::machine::{self, Watch};
use crate::peers::{DashCell, Moka, QuickCache};
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

const THREADS: usize = 64;
const KEYS: usize = 10_000;
const WORK: Duration = Duration::from_micros(50);

pub fn run(plan: &Plan, report: &mut Report) {
    let law = Zipf::new(KEYS, 0.99);
    let sequences: Vec<Vec<Short>> =
        (0..THREADS).map(|thread| law.keys(1 << 14, thread as u64)).collect();
    let entries = entries();
    let made: Vec<_> = entries.iter().map(|entry| (entry.make)()).collect();
    let names = entries.iter().map(|entry| entry.name).collect();
    let rounds = rounds::take(plan.rounds, 2, names, |contestant| {
        load(&*made[contestant], &sequences, plan.time(600))
    });
    let table = Table {
        work: "load",
        title: "64 threads, zipf 0.99 over 10,000 keys, 50 us of work: throughput",
        unit: "k/s",
        threads: THREADS,
        n: KEYS as u64,
        figure: 0,
        against: &["qc", "no dedup"],
    };
    report.table(&rounds, &table);
    let title = "the same: the 99th percentile of how long a request takes";
    report.table(&rounds, &Table { work: "load-p99", title, unit: "us", figure: 1, ..table });
    let title = "the same: the share of requests that worked themselves";
    report.table(&rounds, &Table { work: "load-led", title, unit: "share", figure: 2, ..table });
}

fn entries() -> Vec<Entry<Short>> {
    let mut entries = vec![
        Entry::new("no dedup", || NoDedup),
        Entry::new("a word a key", || Words::new(KEYS, 8)),
        Entry::new("qc", || QuickCache::new(Keep::Nothing, 2 * KEYS)),
        Entry::new("moka", || Moka::new(Keep::Nothing, 2 * KEYS)),
        Entry::new("dashmap", || DashCell::new(Keep::Nothing)),
    ];
    entries.extend(crate::ours::entries(Keep::Nothing));
    entries
}

/// Thousands of requests a second, the 99th percentile in µs, and the share that led.
fn load(contestant: &dyn Bench<Short>, sequences: &[Vec<Short>], time: Duration) -> Taken {
    let cores = machine::cores();
    let gate = Barrier::new(sequences.len());
    let stop = AtomicBool::new(false);
    let watch = Watch::start();
    let ask = |thread: usize| {
        machine::pin(cores[thread % cores.len()]);
        machine::exact_sleeps();
        let value = response();
        let mut took: Vec<u32> = Vec::with_capacity(1 << 17);
        let mut led = 0u64;
        gate.wait();
        let start = Instant::now();
        let mut before = start;
        for key in sequences[thread].iter().cycle() {
            led += u64::from(contestant.request(key, &mut || thread::sleep(WORK), &value));
            let now = Instant::now();
            took.push(u32::try_from((now - before).as_nanos()).unwrap_or(u32::MAX));
            before = now;
            if stop.load(Ordering::Relaxed) || now - start >= time {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        (start, before, led, took)
    };
    let stints: Vec<_> = thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> =
            (0..sequences.len()).map(|thread| scope.spawn(move || ask(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).collect()
    });
    let start = stints.iter().map(|stint| stint.0).min().expect("a thread");
    let end = stints.iter().map(|stint| stint.1).max().expect("a thread");
    let led: u64 = stints.iter().map(|stint| stint.2).sum();
    let mut took: Vec<u32> = stints.into_iter().flat_map(|stint| stint.3).collect();
    let place = took.len() * 99 / 100;
    let (_, p99, _) = took.select_nth_unstable(place);
    let p99 = f64::from(*p99) / 1e3;
    let rate = took.len() as f64 / (end - start).as_secs_f64() / 1e3;
    Taken { figures: vec![rate, p99, led as f64 / took.len() as f64], foreign: watch.foreign() }
}
