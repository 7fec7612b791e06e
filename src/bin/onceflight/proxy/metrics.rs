//! What operators see: counters since the start, and how it stands now, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use onceflight::Stats;
use onceflight::http::Problem;
use parking_lot::Mutex;

use super::backend::Failure;

/// How a response came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Led,
    Shared,
    Replayed,
    Alone,
    Refused,
}

impl Role {
    const ALL: [Self; 5] = [Self::Led, Self::Shared, Self::Replayed, Self::Alone, Self::Refused];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Led => "led",
            Self::Shared => "shared",
            Self::Replayed => "replayed",
            Self::Alone => "alone",
            Self::Refused => "refused",
        }
    }
}

/// The upper bounds of the histogram's buckets, in milliseconds.
const BOUNDS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 2_500, 10_000, 60_000];

/// What is counted elsewhere.
pub struct Now {
    pub coalesced: Stats,
    pub keyed: Stats,
    pub connections: usize,
    pub body_bytes: usize,
}

/// Counters. All are written without an order among them.
#[derive(Default)]
pub struct Metrics {
    roles: [AtomicU64; Role::ALL.len()],
    /// How many took no longer than each bound and longer than the one before; the last has no bound.
    took: [AtomicU64; BOUNDS.len() + 1],
    took_micros: AtomicU64,
    problems: Mutex<BTreeMap<&'static str, u64>>,
    asked: AtomicU64,
    unreachable: AtomicU64,
    slow: AtomicU64,
    broken: AtomicU64,
    store_errors: AtomicU64,
}

impl Metrics {
    pub fn answered(&self, role: Role, after: Duration) {
        add(&self.roles[role as usize]);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| bound * 1000 < micros);
        add(&self.took[bucket]);
        self.took_micros.fetch_add(micros, Relaxed);
    }

    pub fn refused(&self, problem: &Problem) {
        *self.problems.lock().entry(problem.name()).or_default() += 1;
    }

    /// A request to the backend.
    pub fn asked(&self) {
        add(&self.asked);
    }

    pub fn failed(&self, failure: &Failure) {
        log::warn!("{failure}");
        add(match failure {
            Failure::Unreachable(_) => &self.unreachable,
            Failure::Slow => &self.slow,
            Failure::Broken(_) => &self.broken,
        });
    }

    pub fn store_failed(&self) {
        add(&self.store_errors);
    }

    /// All of it.
    pub fn text(&self, now: &Now) -> String {
        let mut page = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut page, now);
        page
    }

    fn write(&self, page: &mut String, now: &Now) -> fmt::Result {
        let Now { coalesced, keyed, .. } = now;
        let roles = Role::ALL.map(|role| (role.name(), self.roles[role as usize].load(Relaxed)));
        family(page, "requests_total", "counter", "Requests answered, by how.", "role", &roles)?;
        let problems: Vec<_> =
            self.problems.lock().iter().map(|(&name, &count)| (name, count)).collect();
        family(page, "problems_total", "counter", "Requests refused, by why.", "type", &problems)?;
        let failures = [
            ("unreachable", self.unreachable.load(Relaxed)),
            ("slow", self.slow.load(Relaxed)),
            ("broken", self.broken.load(Relaxed)),
        ];
        let asked = self.asked.load(Relaxed);
        single(page, "backend_requests_total", "counter", "Requests to the backend.", asked)?;
        let help = "Requests that the backend gave no response to.";
        family(page, "backend_failures_total", "counter", help, "reason", &failures)?;
        let errors = self.store_errors.load(Relaxed);
        single(page, "store_errors_total", "counter", "Requests that the store failed.", errors)?;
        let flights = [("coalesced", coalesced.in_flight), ("keyed", keyed.in_flight)];
        family(page, "in_flight", "gauge", "Executions now.", "kind", &flights)?;
        let waiting = [("coalesced", coalesced.waiting), ("keyed", keyed.waiting)];
        family(page, "waiting", "gauge", "Requests that wait for another.", "kind", &waiting)?;
        let takeovers = keyed.takeovers;
        let help = "Executions of a key whose earlier one was lost.";
        single(page, "takeovers_total", "counter", help, takeovers)?;
        let bytes = coalesced.completed_bytes;
        single(page, "window_bytes", "gauge", "Responses kept by --window-ms.", bytes)?;
        let help = "Memory taken by bodies; those of up to 64 KiB aren't counted.";
        single(page, "body_bytes", "gauge", help, now.body_bytes as u64)?;
        single(page, "connections", "gauge", "Clients connected.", now.connections as u64)?;
        self.histogram(page)
    }

    fn histogram(&self, page: &mut String) -> fmt::Result {
        let name = "onceflight_request_duration_seconds";
        writeln!(page, "# HELP {name} From a request's arrival to its response's head.")?;
        writeln!(page, "# TYPE {name} histogram")?;
        let mut total = 0;
        let counts = self.took.each_ref().map(|count| count.load(Relaxed));
        for (bound, count) in BOUNDS.iter().zip(counts) {
            total += count;
            writeln!(
                page,
                "{name}_bucket{{le=\"{}\"}} {total}",
                Duration::from_millis(*bound).as_secs_f64()
            )?;
        }
        total += counts[BOUNDS.len()];
        writeln!(page, "{name}_bucket{{le=\"+Inf\"}} {total}")?;
        let micros = Duration::from_micros(self.took_micros.load(Relaxed));
        writeln!(page, "{name}_sum {}", micros.as_secs_f64())?;
        writeln!(page, "{name}_count {total}")
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn family(
    page: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) -> fmt::Result {
    describe(page, name, kind, help)?;
    values.iter().try_for_each(|(which, value)| {
        writeln!(page, "onceflight_{name}{{{label}=\"{which}\"}} {value}")
    })
}

fn single(page: &mut String, name: &str, kind: &str, help: &str, value: u64) -> fmt::Result {
    describe(page, name, kind, help)?;
    writeln!(page, "onceflight_{name} {value}")
}

fn describe(page: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(page, "# HELP onceflight_{name} {help}")?;
    writeln!(page, "# TYPE onceflight_{name} {kind}")
}
