//! What a table over a store consists of, and what its verbs share.
//!
//! | layer | what it decides |
//! |-|-|
//! | `flights`, a table in memory | of the callers here, who speaks for a key and its fingerprint; the others follow it |
//! | the store | of all processes, who leads |
//! | `leads` | what this process leads, and when that needs care |
//! | `watch` | who is to look again because another process settled something |
//!
//! The fingerprint is part of a flight's key: only the store knows which of two is right, and a
//! caller with another one mustn't be refused by what was never claimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::attempt::Begun;
use super::builder::Config;
use super::leads::Leads;
use super::pending::Workers;
use super::watch::Watch;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::hash::SipState;
use crate::store::{RecordKey, Response, Store};
use crate::table::Stats;
use crate::table::internal::{self, Inner, LeadRef, Typed, Work};

/// What the callers of this process share: one of them asks the store, the others follow it.
pub(super) type Flights = Inner<Flying>;
pub(super) type Flying = Typed<Box<[u8]>, Answer>;

/// What a flight here ends with.
#[derive(Clone)]
pub(super) enum Answer {
    /// The leader was followed, here or elsewhere.
    Shared(Response),
    /// The store had it.
    Replayed(Response),
    Failed(Error),
}

pub(crate) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) config: Config,
    pub(super) flights: Arc<Flights>,
    pub(super) hasher: SipState,
    pub(super) leads: Leads,
    pub(super) watch: Watch,
    pub(super) workers: Workers,
    pub(super) tally: Tally,
    /// How often keys were forgotten, by some bits of their ids.
    forgotten: [AtomicU64; 64],
    generation: u64,
}

/// Counters; see [`Stats`].
#[derive(Default)]
pub(super) struct Tally {
    pub leads: AtomicU64,
    pub shared: AtomicU64,
    pub replayed: AtomicU64,
    pub bypassed: AtomicU64,
    pub timeouts: AtomicU64,
    pub cancels: AtomicU64,
    pub promotions: AtomicU64,
    pub takeovers: AtomicU64,
    pub stale: AtomicU64,
}

pub(super) fn up(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    pub fn new(store: Arc<dyn Store>, config: Config) -> Arc<Self> {
        let generation = fork::enrol();
        let local = internal::Config {
            // Leads are what is limited, and counted as such: a replay takes no place.
            max_in_flight: usize::MAX,
            max_waiters: config.max_waiters,
            ..internal::Config::default()
        };
        Arc::new(Self {
            watch: Watch::new(Arc::clone(&store), config.store_timeout),
            store,
            config,
            flights: Inner::new(Typed::default(), local),
            hasher: SipState::new(),
            leads: Leads::new(),
            workers: Workers::default(),
            tally: Tally::default(),
            forgotten: [const { AtomicU64::new(0) }; 64],
            generation,
        })
    }

    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn check_fork(&self) -> Result<(), Error> {
        if self.forked() { Err(ErrorKind::Forked.into()) } else { Ok(()) }
    }

    pub fn forked(&self) -> bool {
        fork::generation() != self.generation
    }

    /// When a call to the store made now ends at the latest.
    pub(super) fn deadline(&self) -> Instant {
        clock::instant_after(self.config.store_timeout)
    }

    /// The same for what nobody waits for.
    pub(super) fn last_deadline(&self) -> Instant {
        clock::instant_after(self.config.store_timeout.min(Duration::from_secs(1)))
    }

    /// A verb that must reach the store, since its caller's work is done: tried again until the
    /// store's timeout. So a server that restarts meanwhile costs nobody a response.
    pub(super) fn persist<T>(
        &self,
        verb: impl Fn(&dyn Store, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = self.deadline();
        let mut pause = Duration::from_millis(10);
        loop {
            match verb(&*self.store, deadline) {
                Err(error)
                    if error.kind() == ErrorKind::Store && Instant::now() + pause < deadline =>
                {
                    // Nothing tells when a server is back.
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(250));
                }
                done => return done,
            }
        }
    }

    /// Changes with every `forget` of that key (or of some others): what was asked before one isn't
    /// answered to those who came after it.
    pub(super) fn freshness(&self, key: &RecordKey) -> u64 {
        self.forgotten[usize::from(key.id().0[0] % 64)].load(Ordering::Acquire)
    }

    pub(super) fn start_afresh(&self, key: &RecordKey) {
        self.forgotten[usize::from(key.id().0[0] % 64)].fetch_add(1, Ordering::Release);
    }

    /// Ends a local flight with what all its followers get.
    pub(super) fn answer(&self, flight: u64, answer: Answer) {
        // Refused only if it was closed or handed on meanwhile: then nobody here waits for it.
        let _ = self.flights.complete_in_full(LeadRef::named(flight), Work::new(answer), None);
    }

    /// Has the next follower of a local flight ask the store, for the outcome of that epoch or a later
    /// one: it has waited for it.
    pub(super) fn pass_on(&self, (flight, epoch): (u64, u64)) {
        let flight = LeadRef::named(flight);
        let _ = self.flights.set_checkpoint(flight, &epoch.to_le_bytes());
        let _ = self.flights.cancel(flight);
    }

    /// What a caller is given. (Leads are counted when they are granted.)
    pub(super) fn count(&self, outcome: &Result<Begun, Error>) {
        let tally = &self.tally;
        match outcome {
            Ok(Begun::Shared(_)) => up(&tally.shared),
            Ok(Begun::Replayed(_)) => up(&tally.replayed),
            Ok(Begun::Bypass) => up(&tally.bypassed),
            Err(error) if error.kind() == ErrorKind::Timeout => up(&tally.timeouts),
            Ok(Begun::Lead(_)) | Err(_) => {}
        }
    }

    pub(super) fn count_lead(&self, attempt: u32, taken_over: bool) {
        up(&self.tally.leads);
        if taken_over {
            up(&self.tally.takeovers);
        } else if attempt > 1 {
            up(&self.tally.promotions);
        }
    }

    /// Refuses new begins, and wakes all who wait. Leads still settle.
    pub fn close(&self) {
        if self.forked() {
            return;
        }
        self.flights.close();
        self.watch.close();
        self.workers.close();
        self.leads.lock().closed = true;
        self.leads.changed.notify_one();
        self.leads.chores.notify_one();
    }

    /// Closes, and abandons what is still led.
    pub fn abolish(self: &Arc<Self>) {
        if self.forked() {
            // The parent's locks, threads and connections: nothing may look at them again.
            std::mem::forget(Arc::clone(self));
            return;
        }
        self.close();
        self.leads.lock().abolished = true;
        // All of them in the time that one has: what isn't told ends with its lease.
        let deadline = self.last_deadline();
        for name in self.leads.names() {
            self.give_up(name, deadline);
        }
        self.flights.abolish();
        self.leads.changed.notify_one();
    }

    pub fn stats(&self) -> Stats {
        if self.forked() {
            return Stats::default();
        }
        let local = self.flights.stats();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            leads: read(&self.tally.leads),
            shared: read(&self.tally.shared),
            replayed: read(&self.tally.replayed),
            bypassed: read(&self.tally.bypassed),
            timeouts: read(&self.tally.timeouts),
            cancels: read(&self.tally.cancels),
            promotions: read(&self.tally.promotions),
            takeovers: read(&self.tally.takeovers),
            stale: read(&self.tally.stale),
            in_flight: self.leads.count() as u64,
            waiting: local.waiting,
            ..Stats::default()
        }
    }
}
