//! What a request costs beside ever more keys that are held, and while a million of them expire.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::{Bench, Contestant, Entry, Keep, response};
use crate::crowd;
use crate::keys::{Key, Short, uniform};
use crate::machine::{self, Watch};
use crate::ours::{FromC, Typed};
use crate::plan::Plan;
use crate::replay::{self, Made, TTL};
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

const BATCH: u64 = 256;

/// Keys that stay while the others expire: enough that every shard has one.
const HOT: u64 = 256;

pub fn run(plan: &Plan, report: &mut Report) {
    let most = match (plan.huge, plan.quick) {
        (true, _) => 7,
        (_, true) => 5,
        _ => 6,
    };
    for power in 3..=most {
        beside(plan, report, 10u64.pow(power));
    }
    expiry(plan, report);
}

/// A cycle of a new key, replays of a thousand of the keys held, and of all of them.
fn beside(plan: &Plan, report: &mut Report, held: u64) {
    let mut entries = replay::entries(held);
    entries.retain(|entry| entry.name == "qc" || entry.name.starts_with("onceflight"));
    let made = fitting(entries, held);
    let names: Vec<_> = made.iter().map(|(name, _)| *name).collect();
    let any = uniform::<Short>(held, 1 << 20, 6);
    let hot = uniform::<Short>(1000, 1 << 14, 7);
    let rounds = rounds::take(plan.rounds, 1, names, |contestant| {
        three(&made, contestant, &hot, &any, plan.time(30))
    });
    let rows = [
        ("grow-cycle", "cycle of a new key"),
        ("grow-hot", "replay of 1,000 hot keys"),
        ("grow-any", "replay of any key"),
    ];
    for (figure, (work, title)) in rows.into_iter().enumerate() {
        let title = format!("{title}, {held} keys held");
        let against = &["qc"];
        let table = Table { work, title: &title, unit: "ns", threads: 1, n: held, figure, against };
        report.table(&rounds, &table);
    }
}

/// The contestants, filled, as many as the machine has memory for: they stand side by side.
fn fitting(entries: Vec<Entry<Short>>, held: u64) -> Made {
    let mut made = Made::new();
    let mut largest = 0;
    for entry in entries {
        let name = entry.name;
        let before = machine::resident();
        if machine::available() < largest + largest / 2 {
            println!("\n{name} beside {held} keys is left out: there is too little memory");
            continue;
        }
        made.extend(replay::filled(vec![entry], held));
        largest = largest.max(machine::resident().saturating_sub(before));
    }
    made
}

fn three(
    made: &Made,
    contestant: usize,
    hot: &Vec<Short>,
    any: &Vec<Short>,
    time: Duration,
) -> Taken {
    /// Above every key that is held.
    const NEW: u64 = 1 << 40;
    let contestant = &*made[contestant].1;
    let cycles = crowd::measure(1, time, |_, batch| {
        thread_local!(static VALUE: crate::contestant::Value = response());
        VALUE.with(|value| contestant.passes(NEW + batch * BATCH, BATCH, value));
        BATCH
    });
    let hot = replay::replays(contestant, &[hot], time);
    let any = replay::replays(contestant, &[any], time);
    let all = [cycles, hot, any];
    Taken {
        figures: all.iter().map(|taken| taken.figures[0]).collect(),
        foreign: all.iter().map(|taken| taken.foreign).fold(0.0, f64::max),
    }
}

/// What keeps a response for a ttl of its own.
trait Expiring: Bench<Short> {
    fn keep_for(&self, key: &Short, ttl: Duration);
}

impl<S: BuildHasher + Sync> Expiring for Typed<Short, S> {
    fn keep_for(&self, key: &Short, ttl: Duration) {
        Typed::keep_for(self, key, response(), ttl);
    }
}

impl Expiring for FromC {
    fn keep_for(&self, key: &Short, ttl: Duration) {
        FromC::keep_for(self, key, &response(), ttl);
    }
}

fn expiry(plan: &Plan, report: &mut Report) {
    let count: u64 = if plan.quick { 100_000 } else { 1_000_000 };
    let names = vec!["nothing expires", "onceflight", "onceflight fold", "onceflight C"];
    let rounds = rounds::take(plan.rounds.min(5), 1, names, |contestant| match contestant {
        0 => quiet(&Typed::new(Keep::For(TTL))),
        1 => expire(|| Typed::new(Keep::For(TTL)), count),
        2 => expire(|| Typed::fold(Keep::For(TTL)), count),
        _ => expire(|| FromC::new(Keep::For(TTL)), count),
    });
    let table = Table {
        work: "expiry-longest",
        title: "the longest begin of a hot key while as many entries expire as were held",
        unit: "us",
        threads: 1,
        n: count,
        figure: 0,
        against: &[],
    };
    report.table(&rounds, &table);
    let (work, title) = ("expiry-late", "the same: begins that took over 100 us");
    report.table(&rounds, &Table { work, title, unit: "begins", figure: 1, ..table });
    let (work, title) = ("expiry-time", "the same: until all were gone");
    report.table(&rounds, &Table { work, title, unit: "ms", figure: 2, ..table });
}

/// Lets `count` entries expire at one instant while a thread begins hot keys of all shards.
fn expire<T: Expiring + Contestant<Short>>(make: impl Fn() -> T, count: u64) -> Taken {
    // Where filling takes longer than was thought, once more with more time.
    let paces = [2, 4, 8, 16, 32].map(|us| Duration::from_micros(us * count));
    let filled = paces.iter().find_map(|pace| fill(make(), count, Instant::now() + *pace));
    let (table, instant) = filled.expect("this machine fills too slowly");
    let table = &table;
    let gone = AtomicBool::new(false);
    let held = || Bench::held(table).expect("a count") as u64;
    let start = instant - LEAD_IN / 4;
    thread::sleep(start.saturating_duration_since(Instant::now()));
    assert!(held() > count, "some expired before their time");
    thread::scope(|scope| {
        let watcher = scope.spawn(|| longest(table, &gone));
        let patience = instant + Duration::from_secs(60);
        while held() > HOT && Instant::now() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        let took = (Instant::now() - instant).as_secs_f64() * 1e3;
        gone.store(true, Ordering::Relaxed);
        assert_eq!(held(), HOT, "expired entries are still held after a minute");
        let Longest { us, late, foreign } = watcher.join().expect("the watcher panicked");
        Taken { figures: vec![us, late as f64, took], foreign }
    })
}

/// What the machine itself makes of it, while nothing expires.
fn quiet<T: Expiring + Contestant<Short>>(table: &T) -> Taken {
    table.fill(0, HOT, &[7; 64]);
    let over = AtomicBool::new(false);
    let Longest { us, late, foreign } = thread::scope(|scope| {
        let watcher = scope.spawn(|| longest(table, &over));
        thread::sleep(LEAD_IN / 2);
        over.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher panicked")
    });
    Taken { figures: vec![us, late as f64, 0.0], foreign }
}

/// `count` entries that expire at `instant` and some hot keys that don't; unless that came too near.
fn fill<T: Expiring>(table: T, count: u64, instant: Instant) -> Option<(T, Instant)> {
    let instant = instant + LEAD_IN;
    table.fill(0, HOT, &[7; 64]);
    for n in HOT..HOT + count {
        let ttl = instant.saturating_duration_since(Instant::now());
        if ttl < LEAD_IN / 2 {
            return None;
        }
        table.keep_for(&Short::nth(n), ttl);
    }
    Some((table, instant))
}

/// Between the last entry and the instant when they expire.
const LEAD_IN: Duration = Duration::from_millis(400);

struct Longest {
    us: f64,
    late: u64,
    foreign: f64,
}

/// A begin during which this thread was put off its core, be it by the library's own threads, says
/// nothing about the table's locks, and isn't counted.
fn longest(table: &impl Contestant<Short>, gone: &AtomicBool) -> Longest {
    const SUSPECT: Duration = Duration::from_micros(15);
    machine::pin(machine::cores()[0]);
    let watch = Watch::start();
    let (mut longest, mut late) = (Duration::ZERO, 0);
    let (_, mut put_off) = machine::switches();
    let mut n = 0;
    while !gone.load(Ordering::Relaxed) {
        n += 1;
        let key = Short::nth(n % HOT);
        let before = Instant::now();
        let got = table.run(&key, || panic!("a hot key isn't held"));
        let took = before.elapsed();
        drop(got);
        if took > SUSPECT {
            let (_, now) = machine::switches();
            if now != put_off {
                put_off = now;
                continue;
            }
            late += u64::from(took > Duration::from_micros(100));
        }
        longest = longest.max(took);
    }
    Longest { us: longest.as_secs_f64() * 1e6, late, foreign: watch.foreign() }
}
