//! A follower in another process: from when complete returns here until begin returns there.
//!
//! The other process is this program again. It is told a key a line, follows it on a thread of its own,
//! and says when it had the response, by the clock that both share.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use onceflight::IdempotencyTable;
use onceflight::idempotency::Begin;
use onceflight::store::Response;

use super::fresh::Fresh;
use super::{Kind, RESPONSE, STATUS, laps, ours};
use crate::keys::Short;
use crate::machine;
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

/// Followers that wait at once.
const BATCH: usize = 20;
/// How long each has waited at least: whoever looks by itself looks as seldom as it ever will.
const PATIENCE: Duration = Duration::from_secs(1);

pub fn run(plan: &Plan, report: &mut Report, kind: &Kind, fresh: &Fresh) {
    let program = std::env::current_exe().expect("the path of this program");
    let mut other = Command::new(program)
        .args(["follow", &kind.url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let mut pipes = Pipes {
        ask: other.stdin.take().expect("a pipe"),
        told: BufReader::new(other.stdout.take().expect("a pipe")).lines(),
    };
    let table = ours::table(&kind.url);
    let mut took = Vec::new();
    for number in 0..=if plan.quick { 1 } else { 11 } {
        let batch = pipes.batch(&table, fresh);
        // The first one opens connections, and starts to listen.
        took.extend(batch.into_iter().filter(|_| number > 0));
    }
    drop(pipes);
    assert!(other.wait().expect("the other process").success());
    took.sort_by(f64::total_cmp);
    let figures = vec![laps::percentile(&took, 0.5), laps::percentile(&took, 0.99)];
    let rounds = rounds::take(1, 1, vec!["onceflight"], |_| Taken {
        figures: figures.clone(),
        foreign: 0.0,
    });
    for (figure, name) in ["p50", "p99"].into_iter().enumerate() {
        let work = format!("{}-wake-{name}", kind.name);
        let title = format!("{}: to a follower in another process, {name}", kind.name);
        let (n, against) = (took.len() as u64, &[][..]);
        let table =
            Table { work: &work, title: &title, unit: "ms", threads: 1, n, figure, against };
        report.table(&rounds, &table);
    }
}

struct Pipes {
    ask: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Pipes {
    /// How long each follower's response took, in ms.
    fn batch(&mut self, table: &IdempotencyTable, fresh: &Fresh) -> Vec<f64> {
        let keys = fresh.keys(BATCH);
        let leads: Vec<_> = keys
            .iter()
            .map(|key| match table.begin(key) {
                Ok(Begin::Lead(lead)) => lead,
                other => panic!("a new key: {other:?}"),
            })
            .collect();
        for (number, key) in keys.iter().enumerate() {
            writeln!(self.ask, "{number} {}", u128::from_be_bytes(*key))
                .expect("the other process");
        }
        thread::sleep(PATIENCE);
        let completed: Vec<Duration> = leads
            .into_iter()
            .map(|lead| {
                // One at a time, and at no fixed phase of anybody's rhythm.
                thread::sleep(Duration::from_millis(40).mul_f64(1.0 + fresh.unit()));
                lead.complete(Response::new(STATUS, &RESPONSE)).expect("complete");
                machine::time(libc::CLOCK_MONOTONIC)
            })
            .collect();
        let told = self.told.by_ref().take(BATCH);
        told.map(|line| {
            let line = line.expect("the other process");
            let (number, nanos) = line.split_once(' ').expect("two numbers");
            let number: usize = number.parse().expect("a number");
            // Before complete has returned, if it is fast.
            let had = nanos.parse::<u64>().expect("a time") as f64;
            (had - completed[number].as_nanos() as f64) / 1e6
        })
        .collect()
    }
}

/// The other process.
pub fn follow(url: &str) {
    let table = &ours::table(url);
    thread::scope(|scope| {
        for line in std::io::stdin().lines() {
            let line = line.expect("a line");
            let (number, key) = line.split_once(' ').expect("two numbers");
            let key: Short = key.parse::<u128>().expect("a key").to_be_bytes();
            let number = number.to_owned();
            scope.spawn(move || match table.begin(key) {
                Ok(Begin::Shared(_)) => {
                    println!("{number} {}", machine::time(libc::CLOCK_MONOTONIC).as_nanos());
                }
                other => panic!("a key that is led elsewhere: {other:?}"),
            });
        }
    });
}
