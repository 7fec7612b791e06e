//! What a completed entry and a key in flight take of the heap, everything included; and how much
//! of the machine's memory a process that holds them has, with what the heap can't use again.

use std::process::Command;

use crate::contestant::{Entry, Keep, RESPONSE};
use crate::heap;
use crate::keys::{Key, Short};
use crate::machine;
use crate::peers::{DashCell, QuickCache, QuickCacheBytes};
use crate::plan::Plan;
use crate::replay;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

pub fn run(plan: &Plan, report: &mut Report) {
    let count = if plan.quick { 100_000 } else { 1_000_000 };
    let entries = keepers(count);
    let rounds =
        rounds::take(1, 1, names(&entries), |contestant| completed(&entries[contestant], count));
    let table = Table {
        work: "memory-completed",
        title: "a completed entry, 16-byte key, 64-byte response",
        unit: "bytes",
        threads: 1,
        n: count,
        figure: 0,
        against: &["qc", "qc byte keys"],
    };
    report.table(&rounds, &table);
    let rounds = rounds::take(1, 1, names(&entries), |contestant| {
        let figures = vec![in_a_process(entries[contestant].name, count)];
        Taken { figures, foreign: 0.0 }
    });
    let title = "the same, resident in a process of its own";
    report.table(&rounds, &Table { work: "memory-resident", title, ..table });

    let count = 100_000;
    let mut entries = vec![
        Entry::new("qc", move || QuickCache::new(Keep::Nothing, room(count))),
        Entry::new("qc byte keys", move || QuickCacheBytes::new(room(count))),
        Entry::new("dashmap", || DashCell::new(Keep::Nothing)),
    ];
    entries.extend(crate::ours::entries(Keep::Nothing));
    let keys: Vec<Short> = (0..count).map(Short::nth).collect();
    let rounds =
        rounds::take(1, 1, names(&entries), |contestant| in_flight(&entries[contestant], &keys));
    let (work, title) = ("memory-flight", "a key in flight, 16 bytes");
    report.table(&rounds, &Table { work, title, n: count, ..table });
}

fn room(count: u64) -> usize {
    (count + count / 16) as usize
}

fn names(entries: &[Entry<Short>]) -> Vec<&'static str> {
    entries.iter().map(|entry| entry.name).collect()
}

/// Bytes an entry, the table's own and a response of its own included.
fn completed(entry: &Entry<Short>, count: u64) -> Taken {
    heap::count();
    let contestant = (entry.make)();
    contestant.fill(0, count, &[7; RESPONSE]);
    let held = contestant.held();
    let (bytes, _) = heap::counted();
    heap::stop();
    if let Some(held) = held {
        assert_eq!(held as u64, count, "{} evicted some", entry.name);
    }
    Taken { figures: vec![bytes as f64 / count as f64], foreign: 0.0 }
}

fn keepers(count: u64) -> Vec<Entry<Short>> {
    let mut entries = replay::entries(count);
    // Sized for what they hold, with a little room for what their shards get more than others.
    entries[0] = Entry::new("qc", move || QuickCache::new(Keep::Always, room(count)));
    entries.insert(1, Entry::new("qc byte keys", move || QuickCacheBytes::new(room(count))));
    entries
}

fn in_a_process(name: &str, count: u64) -> f64 {
    let program = std::env::current_exe().expect("this program");
    let told = Command::new(program).args(["resident", name, &count.to_string()]).output();
    let told = String::from_utf8(told.expect("a process").stdout).unwrap_or_default();
    told.trim().parse().expect("resident bytes")
}

/// What that process does: it prints how many bytes an entry it grew by.
pub fn resident(name: &str, count: u64) -> Result<(), String> {
    let entry = keepers(count).into_iter().find(|entry| entry.name == name);
    let entry = entry.ok_or("no such contestant")?;
    // What comes with the first table of a process isn't an entry's.
    (entry.make)().fill(0, 1, &[7; RESPONSE]);
    let before = machine::resident();
    let contestant = (entry.make)();
    contestant.fill(0, count, &[7; RESPONSE]);
    contestant.held();
    println!("{}", (machine::resident() - before) as f64 / count as f64);
    Ok(())
}

fn in_flight(entry: &Entry<Short>, keys: &[Short]) -> Taken {
    let mut bytes = 0;
    heap::count();
    let contestant = (entry.make)();
    let can = contestant.hold(keys, &mut || bytes = heap::counted().0);
    heap::stop();
    assert!(can, "{} can't hold leads", entry.name);
    Taken { figures: vec![bytes as f64 / keys.len() as f64], foreign: 0.0 }
}
