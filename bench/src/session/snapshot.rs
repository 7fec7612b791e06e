//! Snapshots: how long applies stop for one, what they cost while it is alive, and the way back.

use std::hint::black_box;
use std::time::Instant;

use onceflight::SessionTable;

use super::clients::Clients;
use crate::machine::{self, Watch};
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

/// What one measurement of a table finds, in the order of the figures.
const WORKS: [(&str, &str, &str); 7] = [
    ("session-freeze", "freeze: what applies stop for", "us"),
    ("session-in-place", "the same snapshot written in place", "us"),
    ("session-before", "an apply before a snapshot, mean", "ns"),
    (
        "session-during",
        "an apply while a snapshot is alive, mean of the first to each session",
        "ns",
    ),
    ("session-worst", "the slowest one before", "us"),
    ("session-slowest", "the slowest one while a snapshot is alive", "us"),
    ("session-restore", "restore", "ms"),
];

pub fn run(plan: &Plan, report: &mut Report) {
    let sizes = [
        ("10,000 sessions", 10_000),
        ("100,000 sessions", 100_000),
        ("1,000,000 sessions", 1_000_000),
    ];
    for (name, count) in &sizes[..if plan.quick { 2 } else { 3 }] {
        let mut clients = Clients::new(*count, 1);
        clients.fill(&[7; 32]);
        let rounds =
            rounds::take(plan.rounds.min(5), 1, vec![*name], |_| one(&mut clients, *count));
        for (figure, (work, title, unit)) in WORKS.into_iter().enumerate() {
            let table = Table { work, title, unit, threads: 1, n: 0, figure, against: &[] };
            report.table(&rounds, &table);
        }
    }
}

fn one(clients: &mut Clients, count: u64) -> Taken {
    let watch = Watch::start();
    let (before, worst) = (mean(clients, count), longest(clients, count));
    let start = Instant::now();
    let snapshot = clients.table.freeze().expect("no entry is open");
    let freeze = micros(start);
    let during = mean(clients, count);
    drop(snapshot);
    let snapshot = clients.table.freeze().expect("no entry is open");
    let slowest = longest(clients, count);
    drop(snapshot);
    let start = Instant::now();
    let bytes = clients.table.freeze().expect("no entry is open").to_bytes();
    let in_place = micros(start);
    let start = Instant::now();
    let restored = black_box(SessionTable::restore(&bytes).expect("its own snapshot"));
    let restore = micros(start) / 1e3;
    assert_eq!(restored.len() as u64, count);
    let figures = vec![freeze, in_place, before, during, worst, slowest, restore];
    Taken { figures, foreign: watch.foreign() }
}

/// An apply, in ns, over one request of each client.
fn mean(clients: &mut Clients, count: u64) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        black_box(clients.apply(|| &[7; 32]));
    }
    micros(start) * 1e3 / count as f64
}

/// The longest one, in us. One during which the scheduler took the thread off its core isn't counted.
fn longest(clients: &mut Clients, count: u64) -> f64 {
    const SUSPECT: f64 = 15.0;
    let (_, mut put_off) = machine::switches();
    let mut longest = 0.0;
    for _ in 0..count {
        let start = Instant::now();
        black_box(clients.apply(|| &[7; 32]));
        let took = micros(start);
        let before = put_off;
        if took > SUSPECT {
            (_, put_off) = machine::switches();
        }
        if put_off == before {
            longest = f64::max(longest, took);
        }
    }
    longest
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
