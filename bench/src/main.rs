//! onceflight against its peers. `onceflight-bench --help`; README.md says how to read it.

mod contestant;
mod count;
mod crowd;
mod cycle;
mod floors;
mod growth;
mod heap;
mod keys;
mod load;
mod machine;
mod memory;
mod ours;
mod peers;
mod plan;
mod replay;
mod report;
mod rounds;
mod session;
#[cfg(feature = "store")]
mod store;
mod threads;
mod wake;

use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, ValueExt};

use plan::Plan;
use report::Report;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

const HELP: &str = "\
onceflight-bench [--rounds N] [--quick] [--huge] [--json FILE] WORK...

Measures onceflight and its peers in interleaved rounds. WORK is any of
  cycle    begin, complete, gone: one thread, 16- and 64-byte keys
  threads  the same on 1, 2 and 4 threads
  replay   from the window: 1,000 hot keys; zipf over 10^6; by size through C
  wake     from complete to the last of 64, 512 and 4096 followers
  load     64 threads, zipf over 10,000 keys, 50 us of work
  memory   bytes a completed entry and a key in flight
  growth   10^3 to 10^6 keys held; a begin while 10^6 expire
  count    allocations and instructions a cycle (with valgrind)
  session  a write with and without sessions; their memory; snapshots
  store    flights, replays and followers over stores (built with --features stores)
  all      all of them

  --rounds N   quiet rounds to take of each (9)
  --quick      short measurements of fewer keys
  --huge       growth to 10^7 keys: some 10 GB of memory
  --json FILE  adds a line a figure, for plot.py
";

type Work = fn(&Plan, &mut Report);

const WORKS: &[(&str, Work)] = &[
    ("cycle", cycle::run),
    ("threads", threads::run),
    ("replay", replay::run),
    ("wake", wake::run),
    ("load", load::run),
    ("memory", memory::run),
    ("growth", growth::run),
    ("count", count::run),
    ("session", session::run),
    #[cfg(feature = "store")]
    ("store", store::run),
];

fn main() -> ExitCode {
    match parse().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onceflight-bench: {error}");
            ExitCode::from(2)
        }
    }
}

struct Asked {
    plan: Plan,
    json: Option<String>,
    works: Vec<Work>,
}

fn parse() -> Result<Asked, lexopt::Error> {
    let mut asked = Asked {
        plan: Plan { rounds: 0, quick: false, huge: false },
        json: None,
        works: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("rounds") => asked.plan.rounds = parser.value()?.parse()?,
            Arg::Long("quick") => asked.plan.quick = true,
            Arg::Long("huge") => asked.plan.huge = true,
            Arg::Long("json") => asked.json = Some(parser.value()?.string()?),
            Arg::Long("help") | Arg::Short('h') => {
                print!("{HELP}");
                std::process::exit(0);
            }
            // Under callgrind, for `count`.
            Arg::Value(name) if name == "spin" => {
                let (name, size) = (parser.value()?.string()?, parser.value()?.string()?);
                count::spin(&name, &size, parser.value()?.parse()?)?;
                std::process::exit(0);
            }
            // A process of its own, for `memory`.
            Arg::Value(name) if name == "resident" => {
                let name = parser.value()?.string()?;
                memory::resident(&name, parser.value()?.parse()?)?;
                std::process::exit(0);
            }
            // A process of its own, for `store`.
            #[cfg(feature = "store")]
            Arg::Value(name) if name == "follow" => {
                store::follow(&parser.value()?.string()?);
                std::process::exit(0);
            }
            Arg::Value(name) if name == "all" => {
                asked.works.extend(WORKS.iter().map(|(_, work)| work))
            }
            Arg::Value(name) => {
                let known = WORKS.iter().find(|(known, _)| name == *known);
                let (_, work) = known.ok_or_else(|| format!("no such work: {name:?}"))?;
                asked.works.push(*work);
            }
            _ => return Err(arg.unexpected()),
        }
    }
    if asked.works.is_empty() {
        return Err("say what to measure, or --help".into());
    }
    if asked.plan.rounds == 0 {
        asked.plan.rounds = if asked.plan.quick { 3 } else { 9 };
    }
    Ok(asked)
}

fn run(asked: Asked) -> Result<(), lexopt::Error> {
    let mut report = Report::new(asked.json.as_deref())
        .map_err(|error| format!("{}: {error}", asked.json.unwrap_or_default()))?;
    machine::cores();
    start_timers();
    report.fact("machine", &machine::name());
    for work in asked.works {
        work(&asked.plan, &mut report);
    }
    Ok(())
}

/// The library's own threads start with its first alarm, and inherit the cores of who sets it: so
/// that is done here, where no thread is tied to a core.
fn start_timers() {
    let table: onceflight::DedupTable<u8, u8> =
        onceflight::DedupTable::builder().completed_ttl(Duration::from_secs(1)).build();
    table.run(&1, || 1).expect("run");
}
