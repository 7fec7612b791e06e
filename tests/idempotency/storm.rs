//! A storm: three processes, many threads, few keys, a store that fails now and then, and leaders that
//! do everything a leader can do. A ledger outside of it all says what must hold.
//!
//! `ONCEFLIGHT_STRESS=60 cargo test --release --features store --test idempotency storm` storms for a
//! minute.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::idempotency::{Begin, Lead};
use onceflight::store::MemoryStore;
use onceflight::{Error, ErrorKind, Stats};

use crate::random::Random;
use crate::support::*;

const THREADS: u64 = 16;
const KEYS: u64 = 50;
/// Statuses of a key begin at its number times this.
const EACH: i32 = 10_000_000;

/// What has been seen of a key.
#[derive(Default)]
struct Page {
    /// The highest fence that was granted.
    fence: u64,
    /// Whether somebody works whose lead can't be lost.
    led: bool,
    /// What it was completed with, once anybody has seen that.
    status: Option<i32>,
}

/// A page a key, never held during a call to a table; and a lock that is held for reading during
/// each call, so that a key is forgotten only while nobody is about to be told what it was.
struct Ledger {
    pages: Vec<(RwLock<()>, Mutex<Page>)>,
    next: AtomicI32,
}

impl Ledger {
    fn new() -> Self {
        let pages = (0..KEYS).map(|_| Default::default()).collect();
        Self { pages, next: AtomicI32::new(1) }
    }

    fn on<T>(&self, key: u64, act: impl FnOnce(&mut Page) -> T) -> T {
        act(&mut self.pages[usize::try_from(key).unwrap()].1.lock().unwrap())
    }

    fn calls(&self, key: u64) -> &RwLock<()> {
        &self.pages[usize::try_from(key).unwrap()].0
    }

    /// A status that no other completion has.
    fn status(&self, key: u64) -> i32 {
        i32::try_from(key).unwrap() * EACH + self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Somebody completed, or was given that.
    fn saw(&self, key: u64, status: i32) {
        assert_eq!(u64::try_from(status / EACH).unwrap(), key, "another key's response");
        self.on(key, |page| {
            assert_eq!(status, *page.status.get_or_insert(status), "a response has changed");
        });
    }
}

struct Storm<'s> {
    process: &'s Process,
    /// Whether its leads end by a settle alone.
    safe: bool,
    ledger: &'s Ledger,
    random: Random,
}

impl Storm<'_> {
    fn step(&mut self) {
        let key = self.random.below(KEYS);
        let name = format!("k{key}");
        if self.random.one_in(20) {
            return self.forget(key, &name);
        }
        let timeout = [Duration::ZERO, Duration::from_millis(2), PATIENCE];
        let timeout = *self.random.of(&timeout);
        let ledger = self.ledger;
        let call = ledger.calls(key).read().unwrap();
        match self.process.begin_timeout(&name, timeout) {
            Ok(Begin::Lead(lead)) => {
                drop(call);
                self.lead(key, lead);
            }
            Ok(Begin::Shared(response) | Begin::Replayed(response)) => {
                ledger.saw(key, response.status());
            }
            Ok(Begin::Bypass) => {}
            Err(error) => match error.kind() {
                ErrorKind::Timeout => assert_ne!(PATIENCE, timeout, "it hangs"),
                ErrorKind::Store => {}
                other => panic!("{other:?}"),
            },
        }
    }

    fn forget(&self, key: u64, name: &str) {
        if let Ok(_alone) = self.ledger.calls(key).try_write() {
            self.process.forget(name).unwrap();
            self.ledger.on(key, |page| page.status = None);
        }
    }

    fn lead(&mut self, key: u64, lead: Lead<'_>) {
        self.ledger.on(key, |page| {
            if self.safe {
                assert!(!page.led, "two lead");
                assert!(lead.fence() > page.fence, "a fence went back");
                page.led = true;
            }
            page.fence = page.fence.max(lead.fence());
        });
        for _ in 0..self.random.below(4) {
            thread::sleep(Duration::from_millis(1));
        }
        let _call = self.ledger.calls(key).read().unwrap();
        if self.safe {
            self.ledger.on(key, |page| page.led = false);
        }
        let verb = self.random.below(10);
        let settled = match verb {
            0..4 => {
                let status = self.ledger.status(key);
                let completed = lead.complete(response(status)).map_err(Error::from);
                if completed.is_ok() {
                    self.ledger.saw(key, status);
                }
                completed
            }
            4 | 5 => lead.cancel(),
            6 => lead.abandon(),
            7 => lead.decline(),
            8 => lead.set_checkpoint(b"half"),
            _ => {
                drop(lead);
                Ok(())
            }
        };
        match settled.map_err(|error| error.kind()) {
            Ok(()) => {}
            // A cancel or the like whose answer was lost is sent again when another may lead already.
            Err(ErrorKind::Stale) if matches!(verb, 4..8) => {}
            Err(ErrorKind::Stale) => assert!(!self.safe, "a lead was lost"),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Lets calls fail and answers get lost, now and then.
fn gremlin(process: &Process, over: &AtomicBool) {
    use Verb::{Checkpoint, Claim, Complete, Release, Withdraw};
    let mut random = Random(0x0bad_5eed);
    let verbs = [Claim, Claim, Checkpoint, Complete, Release, Withdraw];
    while !over.load(Ordering::Relaxed) {
        let verb = *random.of(&verbs);
        let fault = if random.one_in(2) { Fault::Fail } else { Fault::LoseAnswer };
        process.wire.mend();
        process.wire.next(verb, fault);
        thread::sleep(Duration::from_millis(3));
    }
    process.wire.mend();
}

/// Catches two leaders at once, a fence that goes back, a lead that is lost, a response that
/// changes, is another key's or is never told, and anybody or anything that is left behind.
#[test]
fn nothing_is_done_twice_and_nobody_is_left_behind() {
    let seconds = std::env::var("ONCEFLIGHT_STRESS").map_or(3, |text| text.parse().unwrap());
    let store = MemoryStore::new();
    let safe = [(); 2].map(|()| Process::new(&store, |table| table.lease(LONG)));
    let hasty = Process::new(&store, |table| table.heartbeat(false).lease(SHORT / 10));
    let processes = [&safe[0], &safe[1], &hasty];
    let (ledger, over) = (Ledger::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (ledger, over) = (&ledger, &over);
        for process in processes {
            scope.spawn(move || gremlin(process, over));
        }
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let process = processes[usize::try_from(number % 3).unwrap()];
                let safe = number % 3 != 2;
                let mut caller = Storm { process, safe, ledger, random: Random(number + 1) };
                let end = Instant::now() + Duration::from_secs(seconds);
                scope.spawn(move || {
                    while Instant::now() < end {
                        caller.step();
                    }
                })
            })
            .collect();
        let stormed: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        for thread in stormed {
            thread.unwrap();
        }
    });

    for key in 0..KEYS {
        let name = format!("k{key}");
        for process in processes {
            let run = || response(ledger.status(key));
            let outcome = process.request(&name).timeout(PATIENCE).run(run).unwrap();
            ledger.saw(key, outcome.value.status());
        }
    }
    for process in processes {
        let Stats { leads, in_flight, waiting, .. } = process.stats();
        assert_eq!((0, 0), (in_flight, waiting));
        assert!(leads > 0);
    }
}
