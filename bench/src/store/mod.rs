//! Flights over stores, beside the least that the same store must do for one: its floor.
//!
//! | contestant | a flight | a replay |
//! |-|-|-|
//! | `floor` | the two bare statements or scripts, on the same client and with the same durability | one read by the key |
//! | `store` | claim and complete of the store alone, without a table | a claim |
//! | `onceflight` | begin and complete of a table over the store | begin |
//!
//! A store is measured if its feature is on and its server's URL stands in the environment, as
//! `scripts/servers.sh` says it.

#[cfg(feature = "sqlite")]
mod disk;
mod fresh;
mod laps;
mod ours;
mod trips;
mod wake;

#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use crate::keys::Short;
use crate::plan::{self, Plan};
use crate::report::{Report, Table};
use crate::rounds;

use fresh::Fresh;
pub use wake::follow;

/// The most threads, each with a client of its own.
const CLIENTS: usize = 8;
/// What the floors write, and what ours are asked to.
const STATUS: i32 = 200;
const RESPONSE: [u8; crate::contestant::RESPONSE] = [7; crate::contestant::RESPONSE];
const FINGERPRINT: [u8; 16] = [9; 16];
/// Keys that are replayed: so many that two threads seldom ask for the same one at once, and follow.
const HELD: usize = 512;
/// Longer than any run.
const TTL_SECONDS: u64 = 3600;

/// One thread's way to a store.
trait Client: Send {
    /// Claims a key that nobody has, and completes it.
    fn flight(&mut self, key: &Short);
    /// Reads the response of a key that this contestant has completed.
    fn replay(&mut self, key: &Short);
}

type Clients = Vec<Box<dyn Client>>;

/// The floor of the store at a URL, so many clients of it.
type Floor = fn(&str, usize) -> Clients;

/// By name.
type Contestants = Vec<(&'static str, Clients)>;

/// A store that is there.
struct Kind {
    /// What its works' names begin with.
    name: &'static str,
    url: String,
    floor: Floor,
    /// Whether there are round trips to count.
    served: bool,
}

impl Kind {
    fn contestants(&self, clients: usize) -> Contestants {
        let mut all = vec![("floor", (self.floor)(&self.url, clients))];
        all.extend(ours::contestants(&self.url, clients));
        all
    }
}

/// Name, variable with the URL, floor.
const SERVERS: &[(&str, &str, Floor)] = &[
    #[cfg(feature = "postgres")]
    ("postgres", "ONCEFLIGHT_TEST_POSTGRES", postgres::floor),
    #[cfg(feature = "redis")]
    ("redis", "ONCEFLIGHT_TEST_REDIS", redis::floor),
    #[cfg(feature = "memcached")]
    ("memcached", "ONCEFLIGHT_TEST_MEMCACHED", memcached::floor),
];

pub fn run(plan: &Plan, report: &mut Report) {
    #[cfg(feature = "sqlite")]
    {
        let disk = disk::Disk::new();
        report.fact("disk", &disk.file_system());
        let (url, floor) = (disk.url("records"), sqlite::floor as Floor);
        measure(plan, report, &Kind { name: "sqlite", url, floor, served: false });
    }
    for &(name, variable, floor) in SERVERS {
        let Ok(urls) = std::env::var(variable) else { continue };
        // One server: the floors don't spread keys.
        let url = urls.split(',').next().unwrap_or_default().to_owned();
        measure(plan, report, &Kind { name, url, floor, served: true });
    }
}

fn measure(plan: &Plan, report: &mut Report, kind: &Kind) {
    let fresh = Fresh::new();
    let mut contestants = kind.contestants(CLIENTS);
    flights(plan, report, kind, &mut contestants, &fresh);
    replays(plan, report, kind, &mut contestants, &fresh);
    drop(contestants);
    if kind.served {
        trips::run(report, kind, &fresh);
    }
    wake::run(plan, report, kind, &fresh);
}

fn flights(
    plan: &Plan,
    report: &mut Report,
    kind: &Kind,
    contestants: &mut Contestants,
    fresh: &Fresh,
) {
    for threads in [1, CLIENTS] {
        let names = contestants.iter().map(|(name, _)| *name).collect();
        let rounds = rounds::take(plan.rounds, 1, names, |contestant| {
            let clients = &mut contestants[contestant].1[..threads];
            laps::measure(clients, plan.time(800), |client| client.flight(&fresh.key()))
        });
        told(report, &rounds, kind, "flight", threads);
    }
}

fn replays(
    plan: &Plan,
    report: &mut Report,
    kind: &Kind,
    contestants: &mut Contestants,
    fresh: &Fresh,
) {
    let held: Vec<Vec<Short>> = contestants.iter().map(|_| fresh.keys(HELD)).collect();
    for ((_, clients), held) in contestants.iter_mut().zip(&held) {
        held.iter().for_each(|key| clients[0].flight(key));
    }
    for threads in [1, CLIENTS] {
        let names = contestants.iter().map(|(name, _)| *name).collect();
        let rounds = rounds::take(plan.rounds, 1, names, |contestant| {
            let (clients, held) = (&mut contestants[contestant].1[..threads], &held[contestant]);
            laps::measure(clients, plan.time(200), |client| client.replay(fresh.one_of(held)))
        });
        told(report, &rounds, kind, "replay", threads);
    }
}

/// The three figures of some laps.
fn told(report: &mut Report, rounds: &rounds::Rounds, kind: &Kind, what: &str, threads: usize) {
    for (figure, (name, unit)) in [("rate", "1/s"), ("p50", "us"), ("p99", "us")].iter().enumerate()
    {
        let work = format!("{}-{what}-{name}", kind.name);
        let title = format!("{}: {what}s, {name}, {}", kind.name, plan::threads(threads));
        let against = &["floor", "onceflight"];
        let table = Table { work: &work, title: &title, unit, threads, n: 0, figure, against };
        report.table(rounds, &table);
    }
}
