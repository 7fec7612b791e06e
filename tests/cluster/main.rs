//! A Raft cluster that carries the session table in its replicated state, simulated: the nodes of
//! `examples/replicated_kv` in virtual time, without sockets, threads and files.
//!
//! | file | its one idea |
//! |-|-|
//! | `world` | nodes, network, clients, and what goes wrong with them, in one queue of events |
//! | `plan` | what a seed decides beforehand: how many, how large, how bad the weather |
//! | `client` | a client that keeps the rules, retries anywhere, and dies and comes back |
//! | `platter` | a disk that outlives its node, and tears what was being written |
//! | `watch` | all replicas say the same, and are the same, byte by byte |
//! | `history`, `linear` | one order of all calls explains all answers |
//! | `controls` | tables done wrong, which must be caught |
//! | `logs` | what the log recovers, and what it refuses |
//!
//! | variable | says | |
//! |-|-|-|
//! | `ONCEFLIGHT_SEEDS` | how many runs | 1000 |
//! | `ONCEFLIGHT_SEED` | the first one's seed; each next one's is 1 more | 1 |
//!
//! A failure says how to run its seed again.

mod client;
mod controls;
#[path = "../../examples/replicated_kv/disk.rs"]
mod disk;
mod history;
#[path = "../../examples/replicated_kv/kv.rs"]
mod kv;
mod linear;
#[path = "../../examples/replicated_kv/log.rs"]
mod log;
mod logs;
#[path = "../../examples/replicated_kv/node.rs"]
#[allow(dead_code, reason = "shared with the processes")]
mod node;
#[path = "../../examples/replicated_kv/op.rs"]
mod op;
#[path = "../../examples/replicated_kv/packet.rs"]
mod packet;
mod plan;
mod platter;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
mod watch;
mod world;

use world::Counts;

/// What must have happened in as many runs, or they prove little.
const ENOUGH_SEEDS: u64 = 50;
const EVENTS: [&str; 20] = [
    "answered alike again",
    "answered without the log",
    "clients reborn",
    "clocks set",
    "crashes",
    "deafened",
    "expired",
    "fenced",
    "isolated",
    "leaders deposed",
    "messages doubled",
    "messages lost",
    "parted",
    "registrations logged again",
    "requests logged again",
    "snapshots installed",
    "stale",
    "updates executed",
    "window full",
    "writes torn",
];

#[test]
fn histories_are_linearizable_and_replicas_equal() {
    let (first, runs) = (number("ONCEFLIGHT_SEED", 1), number("ONCEFLIGHT_SEEDS", 1_000));
    let mut all = Counts::default();
    for seed in first..first + runs {
        let told = Told(seed);
        let (counts, end) = run(seed);
        if let Err(violation) = end {
            panic!("{violation}\n{counts:?}");
        }
        drop(told);
        all.add(&counts);
    }
    println!("{all:#?}");
    for event in EVENTS {
        let times = all.0.get(event).copied().unwrap_or_default();
        assert!(runs < ENOUGH_SEEDS || times > 0, "{event}: never");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    assert_eq!(run(7), run(7));
}

fn run(seed: u64) -> (Counts, Result<(), world::Violation>) {
    world::run(seed, |plan, _| watch::sessions(plan))
}

/// Says which seed it was, however its run ends.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: ONCEFLIGHT_SEED={} ONCEFLIGHT_SEEDS=1", self.0);
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}
