//! Allocations and instructions a cycle: they repeat exactly, where times don't.
//!
//! Instructions are callgrind's: this program runs itself under it twice, with more cycles the
//! second time, and the difference is what the cycles took.

use std::process::Command;

use crate::contestant::{Entry, response};
use crate::heap;
use crate::keys::{Key, Long, Short};
use crate::peers::SingleFlight;
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

pub fn run(_: &Plan, report: &mut Report) {
    one_size::<Short>(report, "16", short());
    one_size::<Long>(report, "64", long());
}

fn short() -> Vec<Entry<Short>> {
    let mut entries = crate::cycle::entries();
    entries.push(Entry::new("singleflight", SingleFlight::new));
    entries
}

fn long() -> Vec<Entry<Long>> {
    let mut entries = crate::cycle::entries();
    entries.push(Entry::new("singleflight", SingleFlight::new));
    entries
}

fn one_size<K: Key>(report: &mut Report, size: &str, entries: Vec<Entry<K>>) {
    let names = entries.iter().map(|entry| entry.name).collect();
    let rounds = rounds::take(1, 1, names, |contestant| {
        let entry = &entries[contestant];
        let figures = vec![allocations(entry), instructions(entry.name, size)];
        Taken { figures, foreign: 0.0 }
    });
    let table = Table {
        work: &format!("count-allocations{size}"),
        title: &format!("a cycle, {size}-byte keys"),
        unit: "allocations",
        threads: 1,
        n: size_of::<K>() as u64,
        figure: 0,
        against: &[],
    };
    report.table(&rounds, &table);
    let work = &format!("count-instructions{size}");
    let (unit, against) = ("instructions", &["qc"]);
    report.table(&rounds, &Table { work, unit, figure: 1, against, ..table });
}

fn allocations<K: Key>(entry: &Entry<K>) -> f64 {
    const CYCLES: u64 = 10_000;
    let contestant = (entry.make)();
    let value = response();
    contestant.cycles(0, CYCLES, &value);
    heap::count();
    contestant.cycles(CYCLES, CYCLES, &value);
    let (_, calls) = heap::counted();
    heap::stop();
    calls as f64 / CYCLES as f64
}

/// NaN where there is no valgrind.
fn instructions(name: &str, size: &str) -> f64 {
    const FEW: u64 = 5_000;
    const MANY: u64 = 25_000;
    let counts = total(name, size, FEW).zip(total(name, size, MANY));
    counts.map_or(f64::NAN, |(few, many)| (many - few) / (MANY - FEW) as f64)
}

fn total(name: &str, size: &str, cycles: u64) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args(["spin", name, size, &cycles.to_string()])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let line = told.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

/// What runs under callgrind: a number of cycles and nothing else.
pub fn spin(name: &str, size: &str, cycles: u64) -> Result<(), String> {
    fn go<K: Key>(entries: Vec<Entry<K>>, name: &str, cycles: u64) -> Result<(), String> {
        let entry = entries.into_iter().find(|entry| entry.name == name);
        let contestant = (entry.ok_or("no such contestant")?.make)();
        contestant.cycles(0, cycles, &response());
        Ok(())
    }
    match size {
        "16" => go(short(), name, cycles),
        "64" => go(long(), name, cycles),
        _ => Err("a size is 16 or 64".to_owned()),
    }
}
