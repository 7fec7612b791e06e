//! What each kind of call costs, against the bounds recorded in `bounds.txt`.
//!
//! Run as a test, it counts allocations: those are exact on every machine. `scripts/cost.sh` runs
//! the same workloads under callgrind and counts their instructions too. Times are never checked.
//!
//! A program without the test harness, so that a workload runs on the main thread and nothing else
//! does.

#[cfg(feature = "capi")]
mod c_abi;
mod meter;
mod sessions;
mod typed;

use std::process::ExitCode;
use std::{env, fs};

use meter::ROUNDS;

/// Read when it is needed, so that recording new bounds builds nothing anew.
const BOUNDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cost/bounds.txt");

/// A piece of work that is repeated. `run` repeats it that often, and answers how often it allocated.
struct Workload {
    name: &'static str,
    /// The instructions an iteration that we want it to get down to.
    goal: Option<u32>,
    run: fn(rounds: usize) -> usize,
}

const fn workload(name: &'static str, run: fn(usize) -> usize) -> Workload {
    Workload { name, goal: None, run }
}

const fn with_goal(goal: u32, name: &'static str, run: fn(usize) -> usize) -> Workload {
    Workload { name, goal: Some(goal), run }
}

fn workloads() -> impl Iterator<Item = &'static Workload> {
    #[cfg(feature = "capi")]
    let c_abi = c_abi::WORKLOADS;
    #[cfg(not(feature = "capi"))]
    let c_abi: &[Workload] = &[];
    typed::WORKLOADS.iter().chain(sessions::WORKLOADS).chain(c_abi)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["workloads"] => {
            for Workload { name, goal, .. } in workloads() {
                println!("{name} {}", goal.map_or("-".to_owned(), |goal| goal.to_string()));
            }
            ExitCode::SUCCESS
        }
        ["measure", name, rounds] => {
            let rounds = rounds.parse().expect("a number of rounds");
            println!("{}", measure(name, rounds));
            ExitCode::SUCCESS
        }
        ref others => check(&Chosen::by(others)),
    }
}

fn measure(name: &str, rounds: usize) -> usize {
    if name == "planted" {
        return meter::planted(rounds);
    }
    let workload = workloads().find(|workload| workload.name == name);
    (workload.unwrap_or_else(|| panic!("no workload is called {name}")).run)(rounds)
}

/// Every chosen workload against its bound, told as the test harness tells it.
fn check(chosen: &Chosen) -> ExitCode {
    let chosen: Vec<_> = workloads().filter(|workload| chosen.has(workload.name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut failed) = (0, 0);
    for Workload { name, run, .. } in chosen {
        let count = run(ROUNDS);
        let wrong = match bound(name) {
            None => Some("it has no bound: scripts/cost.sh --record".to_owned()),
            Some(bound) if per_round(count) > bound => {
                Some(format!("{} allocations an iteration, {bound} at most", per_round(count)))
            }
            Some(_) => None,
        };
        match wrong {
            None => passed += 1,
            Some(_) => failed += 1,
        }
        println!("test {name} ... {}", wrong.map_or("ok".into(), |why| format!("FAILED: {why}")));
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn per_round(count: usize) -> f64 {
    let whole = |count| f64::from(u32::try_from(count).expect("a few a round"));
    whole(count) / whole(ROUNDS)
}

/// The allocations an iteration that are recorded for a workload.
fn bound(name: &str) -> Option<f64> {
    let bounds = fs::read_to_string(BOUNDS).expect("tests/cost/bounds.txt can be read");
    let mut lines = bounds.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    Some(line.nth(2).and_then(|bound| bound.parse().ok()).expect("bounds.txt has a third column"))
}

/// Which workloads cargo's arguments choose, read as the test harness reads them; what concerns
/// neither names nor their choice is nothing to us.
#[derive(Default)]
struct Chosen<'a> {
    named: Vec<&'a str>,
    skipped: Vec<&'a str>,
    exact: bool,
}

impl<'a> Chosen<'a> {
    fn by(arguments: &[&'a str]) -> Self {
        let mut chosen = Self::default();
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            match argument {
                "--exact" => chosen.exact = true,
                "--skip" => chosen.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    arguments.next();
                }
                option if option.starts_with('-') => {}
                name => chosen.named.push(name),
            }
        }
        chosen
    }

    fn has(&self, name: &str) -> bool {
        let fits = |asked: &&str| if self.exact { name == *asked } else { name.contains(asked) };
        (self.named.is_empty() || self.named.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}
