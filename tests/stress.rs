//! A storm: many threads, many keys, and leaders that do everything a leader can do wrong. After
//! it the books must balance: what the threads have seen is what the table has counted, and no
//! memory is left.
//!
//! `ONCEFLIGHT_STRESS=60 cargo test --release --test stress` storms for a minute.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::{Begin, DedupTable, Error, ErrorKind, Follower, Lead, Role, TryBegin};

#[path = "support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;

use random::Random;

const THREADS: u64 = 64;
const OPERATIONS: u64 = 6_000;
const KEYS: u64 = 10_000;
/// Where half of the operations go, so that lines form.
const HOT: u64 = 16;

const PATIENCE: Duration = Duration::from_secs(120);
const LEASE: Duration = Duration::from_micros(300);
const TTL: Duration = Duration::from_millis(10);
const WINDOW: usize = 50;

type Table = DedupTable<u64, Response>;

/// A value that knows whose it is, and is counted while it lives.
#[derive(Debug)]
struct Response {
    key: u64,
    id: u64,
    alive: Arc<AtomicUsize>,
}

impl Response {
    fn new(key: u64, id: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self { key, id, alive: Arc::clone(alive) }
    }
}

impl Clone for Response {
    fn clone(&self) -> Self {
        Self::new(self.key, self.id, &self.alive)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a thread has seen.
#[derive(Default)]
struct Seen {
    leads: u64,
    /// Of the leads, those told their attempt, and those of them that weren't a flight's first.
    told: u64,
    successors: u64,
    shared: u64,
    replayed: u64,
    bypassed: u64,
    /// Calls of `run` whose work panicked, as a leader's or as a bypassed caller's own: they aren't
    /// told which.
    panicked: u64,
    timeouts: u64,
    cancels: u64,
    stale: u64,
    /// The ids of the responses that it completed, and of those that it was given.
    completed: HashSet<u64>,
    given: HashSet<u64>,
}

impl Seen {
    fn add(mut self, other: Self) -> Self {
        self.leads += other.leads;
        self.told += other.told;
        self.successors += other.successors;
        self.shared += other.shared;
        self.replayed += other.replayed;
        self.bypassed += other.bypassed;
        self.panicked += other.panicked;
        self.timeouts += other.timeouts;
        self.cancels += other.cancels;
        self.stale += other.stale;
        let before = self.completed.len() + other.completed.len();
        self.completed.extend(other.completed);
        assert_eq!(before, self.completed.len(), "ids repeat");
        self.given.extend(other.given);
        self
    }
}

/// What all threads share.
struct Storm {
    table: Table,
    alive: Arc<AtomicUsize>,
    /// Keys that somebody leads. Only even keys are held to it: odd ones have leases and are
    /// forgotten, so that two may work at once.
    led: Vec<AtomicBool>,
}

struct Caller<'s> {
    storm: &'s Storm,
    random: Random,
    seen: Seen,
    next_id: u64,
}

impl<'s> Caller<'s> {
    fn operate(&mut self) {
        let key =
            if self.random.one_in(2) { self.random.below(HOT) } else { self.random.below(KEYS) };
        match self.random.below(20) {
            0..4 => self.run(key),
            4..8 => self.object(key),
            8 if key % 2 == 1 => drop(self.storm.table.forget(&key).unwrap()),
            _ => {
                let timeout = match self.random.below(4) {
                    0 => Duration::ZERO,
                    1 => Duration::from_micros(self.random.below(500)),
                    _ => PATIENCE,
                };
                let lease = self.lease(key);
                let request = self.storm.table.request(&key).timeout(timeout).lease(lease);
                let begun = request.begin();
                if timeout != PATIENCE && kind_of(&begun) == Some(ErrorKind::Timeout) {
                    self.seen.timeouts += 1;
                } else {
                    self.outcome(key, lease, begun);
                }
            }
        }
    }

    /// A lease that will be overrun, for some of the odd keys.
    fn lease(&mut self, key: u64) -> Duration {
        if key % 2 == 1 && self.random.one_in(3) { LEASE } else { Duration::MAX }
    }

    fn outcome(
        &mut self,
        key: u64,
        lease: Duration,
        begun: Result<Begin<'s, u64, Response>, Error>,
    ) {
        match begun.expect("a storm, not an error") {
            Begin::Lead(lead) => self.lead(key, lease, lead),
            Begin::Shared(response) => {
                self.seen.shared += 1;
                self.given(key, &response);
            }
            Begin::Replayed(response) => {
                self.seen.replayed += 1;
                self.given(key, &response);
            }
            Begin::Bypass => self.seen.bypassed += 1,
        }
    }

    fn given(&mut self, key: u64, response: &Response) {
        assert_eq!(key, response.key, "another key's response");
        self.seen.given.insert(response.id);
    }

    fn enter(&self, key: u64) {
        let others = self.storm.led[usize::try_from(key).unwrap()].swap(true, Ordering::SeqCst);
        assert!(!others || !key.is_multiple_of(2), "two leaders of {key}");
    }

    fn exit(&self, key: u64) {
        self.storm.led[usize::try_from(key).unwrap()].store(false, Ordering::SeqCst);
    }

    fn work(&mut self, lease: Duration) {
        if lease == LEASE && self.random.one_in(2) {
            let start = Instant::now();
            while start.elapsed() < LEASE * 2 {
                thread::yield_now();
            }
        } else {
            for _ in 0..self.random.below(3) {
                thread::yield_now();
            }
        }
    }

    fn response(&mut self, key: u64) -> Response {
        self.next_id += THREADS;
        Response::new(key, self.next_id, &self.storm.alive)
    }

    fn lead(&mut self, key: u64, lease: Duration, lead: Lead<'s, u64, Response>) {
        self.seen.leads += 1;
        self.seen.told += 1;
        self.seen.successors += u64::from(lead.attempt() > 1);
        self.enter(key);
        self.work(lease);
        if lease == LEASE && self.random.one_in(4) {
            let renewed = lead.renew(LEASE);
            self.stale(renewed.as_ref().err());
        }
        self.exit(key);
        match self.random.below(10) {
            0 => {
                let cancelled = lead.cancel();
                self.seen.cancels += u64::from(cancelled.is_ok());
                self.stale(cancelled.as_ref().err());
            }
            1 => {
                let declined = lead.decline();
                self.stale(declined.as_ref().err());
            }
            // A lead that may have been overtaken abandons with an answer, since its own is counted.
            2 if lease == Duration::MAX && key.is_multiple_of(2) => {
                let panics = AssertUnwindSafe(|| {
                    let _lead = lead;
                    resume_unwind(Box::new("storm"))
                });
                catch_unwind(panics).map(|(): ()| ()).unwrap_err();
            }
            2 | 3 => {
                let abandoned = lead.abandon();
                self.stale(abandoned.as_ref().err());
            }
            roll => {
                let response = self.response(key);
                let id = response.id;
                let completed = match roll {
                    4 => lead.complete_for(response, Duration::ZERO),
                    _ => lead.complete(response),
                };
                match completed {
                    Ok(()) => assert!(self.seen.completed.insert(id)),
                    Err(refused) => {
                        assert_eq!(id, refused.value.id, "not the value that it was given");
                        self.stale(Some(&refused.error));
                    }
                }
            }
        }
    }

    fn stale(&mut self, error: Option<&Error>) {
        if let Some(error) = error {
            assert_eq!(ErrorKind::Stale, error.kind());
            self.seen.stale += 1;
        }
    }

    fn run(&mut self, key: u64) {
        let lease = self.lease(key);
        let panics = key.is_multiple_of(2) && self.random.one_in(8);
        let id = self.next_id + THREADS;
        let mut worked = false;
        let table = &self.storm.table;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            table.request(&key).lease(lease).timeout(PATIENCE).run(|| {
                worked = true;
                self.work(lease);
                if panics {
                    resume_unwind(Box::new("storm"));
                }
                self.response(key)
            })
        }));
        let Ok(outcome) = outcome else {
            assert!(worked && panics);
            self.seen.panicked += 1;
            return;
        };
        let outcome = outcome.expect("a storm, not an error");
        match outcome.role {
            Role::Led => {
                self.seen.leads += 1;
                assert!(self.seen.completed.insert(id));
            }
            Role::Overtaken => {
                self.seen.leads += 1;
                self.seen.stale += 1;
            }
            Role::Shared => {
                self.seen.shared += 1;
                self.given(key, &outcome.value);
            }
            Role::Replayed => {
                self.seen.replayed += 1;
                self.given(key, &outcome.value);
            }
            Role::Bypassed => self.seen.bypassed += 1,
            role => panic!("{role:?}"),
        }
    }

    /// A follower as an object: waited for, looked at, or dropped.
    fn object(&mut self, key: u64) {
        let lease = self.lease(key);
        match self.storm.table.request(&key).lease(lease).try_begin().unwrap() {
            TryBegin::Lead(lead) => self.lead(key, lease, lead),
            TryBegin::Replayed(response) => {
                self.seen.replayed += 1;
                self.given(key, &response);
            }
            TryBegin::Follower(follower) => self.follow(key, lease, follower),
        }
    }

    fn follow(&mut self, key: u64, lease: Duration, mut follower: Follower<'s, u64, Response>) {
        match self.random.below(4) {
            0 => drop(follower),
            1 => {
                let looked = follower.wait_timeout(Duration::from_micros(self.random.below(300)));
                if kind_of(&looked) != Some(ErrorKind::Timeout) {
                    self.outcome(key, lease, looked);
                }
            }
            2 => {
                follower.receiver().recv_timeout(PATIENCE).expect("it never rang");
                let begun = follower.wait();
                self.outcome(key, lease, begun);
            }
            _ => {
                let begun = follower.wait_timeout(PATIENCE);
                self.outcome(key, lease, begun);
            }
        }
    }
}

fn kind_of<T>(result: &Result<T, Error>) -> Option<ErrorKind> {
    result.as_ref().err().map(Error::kind)
}

#[test]
fn the_books_balance_after_a_storm() {
    let soak = std::env::var("ONCEFLIGHT_STRESS")
        .ok()
        .map(|seconds| Duration::from_secs(seconds.parse().expect("ONCEFLIGHT_STRESS: seconds")));
    let storm = Storm {
        table: DedupTable::builder().completed_ttl(TTL).max_completed(WINDOW).build(),
        alive: Arc::default(),
        led: (0..KEYS).map(|_| AtomicBool::new(false)).collect(),
    };
    let start = Instant::now();
    let seen: Vec<Seen> = thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS)
            .map(|number| {
                let storm = &storm;
                scope.spawn(move || {
                    let (random, seen) = (Random(number), Seen::default());
                    let mut caller = Caller { storm, random, seen, next_id: number };
                    let mut done = 0;
                    while soak.map_or(done < OPERATIONS, |soak| start.elapsed() < soak) {
                        caller.operate();
                        done += 1;
                    }
                    caller.seen
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let mut seen = seen.into_iter().fold(Seen::default(), Seen::add);

    // What was abandoned with nobody waiting is still there to be taken over.
    let table = &storm.table;
    assert_eq!(0, table.stats().waiting);
    for key in 0..KEYS {
        match table.begin_timeout(&key, Duration::ZERO).unwrap() {
            Begin::Lead(lead) => {
                seen.leads += 1;
                seen.told += 1;
                seen.successors += u64::from(lead.attempt() > 1);
                seen.cancels += 1;
                lead.cancel().unwrap();
            }
            Begin::Replayed(response) => {
                seen.replayed += 1;
                seen.given.insert(response.id);
            }
            other => panic!("{other:?}"),
        }
    }

    let stats = table.stats();
    eprintln!("{stats:?}");
    assert_eq!((0, 0), (stats.waiting, stats.in_flight));
    let did_work = seen.leads + seen.bypassed + seen.panicked;
    assert_eq!(did_work, stats.leads + stats.bypassed);
    assert!(seen.leads <= stats.leads && seen.bypassed <= stats.bypassed);
    assert_eq!(seen.shared, stats.shared);
    assert_eq!(seen.replayed, stats.replayed);
    assert_eq!(seen.timeouts, stats.timeouts);
    assert_eq!(seen.cancels, stats.cancels);
    assert_eq!(seen.stale, stats.stale);
    // `run` isn't told its attempt, so of its leads any number may have been successors.
    let successors = stats.promotions + stats.takeovers;
    let untold = stats.leads - seen.told;
    assert!((seen.successors..=seen.successors + untold).contains(&successors));
    // Nobody was ever given what a refused lead had made.
    assert!(seen.given.is_subset(&seen.completed));
    // The storm was one: each of these came up.
    for (name, count) in [
        ("shared", stats.shared),
        ("replayed", stats.replayed),
        ("bypassed", stats.bypassed),
        ("timeouts", stats.timeouts),
        ("promotions", stats.promotions),
        ("takeovers", stats.takeovers),
        ("stale", stats.stale),
        ("evictions", stats.evictions),
    ] {
        assert!(count > 0, "no {name}");
    }

    // The window empties by itself, and then no value is left anywhere.
    while storm.alive.load(Ordering::SeqCst) > 0 {
        assert!(start.elapsed() < PATIENCE + soak.unwrap_or_default(), "memory is held");
        thread::yield_now();
    }
    let stats = table.stats();
    assert_eq!((0, 0), (stats.completed, stats.completed_bytes));
}
