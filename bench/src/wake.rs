//! From complete to the last of n blocked followers: how long, and how many switches each takes.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::{Entry, Keep, response};
use crate::floors::Futex;
use crate::keys::{Key, Short};
use crate::machine::{self, Watch};
use crate::peers::{DashCell, Moka, Once, QuickCache};
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

/// A follower calls little; thousands of default stacks would be a measurement of their own.
const STACK: usize = 128 << 10;

pub fn run(plan: &Plan, report: &mut Report) {
    let entries = entries();
    for followers in [64, 512, 4096] {
        if plan.quick && followers > 512 {
            continue;
        }
        let names = entries.iter().map(|entry| entry.name).collect();
        let rounds = rounds::take(plan.rounds, 2, names, |contestant| {
            // Of the small ones several a round, since each is over within a fraction of a ms.
            let flights = (512 / followers).clamp(1, 5);
            wake(&entries[contestant], followers, flights)
        });
        let title = format!("from complete to the last of {followers} followers, a follower");
        let table = Table {
            work: "wake",
            title: &title,
            unit: "us",
            threads: followers,
            n: followers as u64,
            figure: 0,
            against: &["qc", "futex"],
        };
        report.table(&rounds, &table);
        let title = format!("voluntary switches a follower, {followers} followers");
        let against = &["futex"];
        let (work, unit) = ("wake-switches", "switches");
        report.table(&rounds, &Table { work, title: &title, unit, figure: 1, against, ..table });
    }
}

fn entries() -> Vec<Entry<Short>> {
    let mut entries = vec![
        Entry::new("futex", Futex::new),
        Entry::new("qc", || QuickCache::new(Keep::Nothing, 10_000)),
        Entry::new("moka", || Moka::new(Keep::Nothing, 10_000)),
        Entry::new("dashmap", || DashCell::new(Keep::Nothing)),
        Entry::new("once_map", Once::new),
    ];
    entries.extend(crate::ours::entries(Keep::Nothing));
    entries.retain(|entry| entry.name != "onceflight fold");
    entries
}

/// The medians of some flights: µs a follower, and its voluntary switches.
fn wake(entry: &Entry<Short>, followers: usize, flights: usize) -> Taken {
    let all: Vec<Taken> = (0..flights).map(|_| flight(entry, followers)).collect();
    let figure = |at: usize| rounds::median(all.iter().map(|taken| taken.figures[at]).collect());
    Taken {
        figures: vec![figure(0), figure(1)],
        foreign: all.iter().map(|taken| taken.foreign).fold(0.0, f64::max),
    }
}

fn flight(entry: &Entry<Short>, followers: usize) -> Taken {
    let contestant = (entry.make)();
    let contestant = &*contestant;
    let cores = machine::cores();
    let key = &Short::nth(1);
    let start = Instant::now();
    let since = || start.elapsed().as_nanos() as u64;
    let (last, switches) = (AtomicU64::new(0), AtomicU64::new(0));
    let arrived = AtomicUsize::new(0);
    let home = Barrier::new(followers + 1);
    let ids: Vec<AtomicUsize> = (0..followers).map(|_| AtomicUsize::new(0)).collect();
    let follow = |number: usize| {
        machine::pin(cores[number % cores.len()]);
        let value = response();
        ids[number].store(machine::thread_id() as usize, Ordering::Relaxed);
        let (before, _) = machine::switches();
        arrived.fetch_add(1, Ordering::Release);
        let led = contestant.request(key, &mut || {}, &value);
        last.fetch_max(since(), Ordering::Relaxed);
        switches.fetch_add(machine::switches().0 - before, Ordering::Relaxed);
        assert!(!led, "a follower led");
        // Ending a thread takes longer than waking one: nobody does before all are awake.
        home.wait();
    };
    let watch = Watch::start();
    let (completed, crowd) = thread::scope(|scope| {
        let (follow, since, arrived, ids, home) = (&follow, &since, &arrived, &ids, &home);
        // On a thread of its own too: this one stays untied.
        let leader = scope.spawn(move || {
            machine::pin(cores[0]);
            let value = response();
            let (mut completed, mut crowd) = (0, 0);
            let mut work = || {
                for number in 0..followers {
                    let thread = thread::Builder::new().stack_size(STACK);
                    thread.spawn_scoped(scope, move || follow(number)).expect("a thread");
                }
                all_asleep(arrived, ids);
                // Besides this thread nobody should be at work now.
                crowd = machine::runnable().saturating_sub(1);
                completed = since();
            };
            assert!(contestant.request(key, &mut work, &value), "the leader didn't lead");
            home.wait();
            (completed, crowd)
        });
        leader.join().expect("the leader panicked")
    });
    let us = (last.into_inner() - completed) as f64 / 1e3;
    let foreign = watch.foreign().max(crowd as f64);
    let each = |total: f64| total / followers as f64;
    Taken { figures: vec![each(us), each(switches.into_inner() as f64)], foreign }
}

/// Returns once all followers have called and are blocked, twice in a row.
fn all_asleep(arrived: &AtomicUsize, ids: &[AtomicUsize]) {
    while arrived.load(Ordering::Acquire) < ids.len() {
        thread::sleep(Duration::from_micros(200));
    }
    let mut seen = 0;
    while seen < 2 {
        let asleep = |id: &AtomicUsize| machine::sleeps(id.load(Ordering::Relaxed) as i32);
        seen = if ids.iter().all(asleep) { seen + 1 } else { 0 };
        thread::sleep(Duration::from_millis(1));
    }
}
