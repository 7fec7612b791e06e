//! The leads of this process, by the number that callers know them by, and when each needs care.
//!
//! | a lead is | its flight here | leaves it by |
//! |-|-|-|
//! | led | `flight` | a settle; its lease passing; a heartbeat that finds it stale |
//! | overdue | none: followers here look at the store like anybody else | a settle, which the store decides |
//! | settling | as before | the store's answer: gone; or as before, if the store failed |
//!
//! The number is that of the lead's first local flight, which no other lead of the process has.
//!
//! Lock order: this lock is a leaf, but for a watcher's.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, FOREVER, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::store::{Held, RecordKey, Token};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A lead that the store granted.
#[derive(Clone)]
pub(super) struct Leading {
    pub key: Arc<RecordKey>,
    pub held: Held,
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub attempt: u32,
    pub checkpoint: Option<Arc<[u8]>>,
    /// The lead of the local flight; `None` once that was handed on.
    pub flight: Option<u64>,
    pub lease: Option<Duration>,
    pub ttl: Duration,
    /// Until when the lease lasts for certain, by this process's clock.
    pub lease_until: Moment,
    /// Until when a heartbeat renews it; in the past for none.
    pub beats_until: Moment,
    pub settling: bool,
    /// A settle failed, and may have reached the store all the same: only the store knows.
    pub unsure: bool,
    /// Whether it succeeded a lead that was lost.
    pub taken_over: bool,
    care_at: Moment,
}

/// Something that must reach the store though its caller has gone.
pub(super) struct Chore {
    pub key: Arc<RecordKey>,
    pub what: What,
    /// From when on there is nothing to do any more: the lease is over.
    pub until: Moment,
}

pub(super) enum What {
    /// A claim whose answer was lost.
    Withdraw(Token),
    /// A lead that was dropped while the store was away.
    Abandon(Held),
}

/// How long a chore is tried of a lead without a lease.
pub(super) const CHORE_FOR: Duration = Duration::from_secs(600);

impl Chore {
    pub fn withdraw(key: &Arc<RecordKey>, token: Token, until: Moment) -> Self {
        Self { key: Arc::clone(key), what: What::Withdraw(token), until }
    }

    pub fn abandon(lead: &Leading) -> Self {
        let most = clock::after(clock::span(CHORE_FOR));
        let (key, until) = (Arc::clone(&lead.key), lead.lease_until.min(most));
        Self { key, what: What::Abandon(lead.held), until }
    }
}

pub(super) struct Leads {
    state: Mutex<State>,
    /// For who cares for leads: one is due earlier than it thought, or it may go.
    pub changed: Condvar,
    /// For those who would care for leads too: the watch is free, or they may go.
    pub idle: Condvar,
    /// For who does chores and purges.
    pub chores: Condvar,
}

/// Who watches while a lead is cared for.
pub(super) enum Another {
    /// Nobody has to, or can.
    None,
    Idle,
    New,
}

/// A place among the leads for one that is being claimed.
pub(super) struct Place<'a>(&'a Leads);

impl Place<'_> {
    /// A new lead in it, claimed no earlier than `sent`. False: the table is closed, and nobody would
    /// care for it.
    pub fn take(
        self,
        name: u64,
        mut lead: Leading,
        sent: Moment,
        max_lead: Option<Duration>,
    ) -> bool {
        let span = |time: Option<Duration>| clock::span(time.unwrap_or(FOREVER));
        lead.lease_until = sent.saturating_add(span(lead.lease));
        lead.beats_until = max_lead.map_or(0, |most| sent.saturating_add(clock::span(most)));
        lead.care_at = lead.next_care(sent);
        let leads = self.0;
        // From here on the lead itself is what is counted.
        std::mem::forget(self);
        let mut state = leads.lock();
        state.reserved -= 1;
        if state.closed {
            return false;
        }
        let sooner = state.schedule(lead.care_at, name);
        state.leads.insert(name, lead);
        drop(state);
        if sooner {
            leads.changed.notify_one();
        }
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().reserved -= 1;
    }
}

#[derive(Default)]
pub(super) struct State {
    leads: HashMap<u64, Leading>,
    /// When which lead needs care.
    due: BTreeSet<(Moment, u64)>,
    /// Until when who cares for them sleeps; 0: it is awake, and looks before it sleeps again. What is
    /// due later needn't wake it: else a lead alone would do so each time.
    pub asleep_until: Moment,
    /// Threads that care for leads; 0: the upkeep has no threads yet.
    pub hands: usize,
    /// Those of them that have nothing to do.
    pub idle: usize,
    /// Whether one of them sleeps until a lead is due.
    pub watched: bool,
    pub chores: VecDeque<Chore>,
    pub chores_at: Moment,
    pub purge_at: Moment,
    /// Claims under way that may become leads.
    reserved: usize,
    pub closed: bool,
    /// Whether the table is gone: what can't be settled is given up.
    pub abolished: bool,
}

/// A heart doesn't beat faster, however short the lease.
const LEAST_BEAT: Duration = Duration::from_millis(10);

/// More than that are left to their leases.
const CHORES: usize = 4096;

impl Leads {
    pub fn new() -> Self {
        let state = State { chores_at: NEVER, purge_at: NEVER, ..State::default() };
        let [changed, idle, chores] = std::array::from_fn(|_| Condvar::default());
        Self { state: Mutex::new(state), changed, idle, chores }
    }

    /// A place for one more, while it is claimed; `None`: there are as many as may be.
    pub fn reserve(&self, most: usize) -> Option<Place<'_>> {
        let mut state = self.lock();
        if state.leads.len() + state.reserved >= most {
            return None;
        }
        state.reserved += 1;
        drop(state);
        Some(Place(self))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes a lead for settling: nobody else settles it meanwhile.
    pub fn take(&self, name: u64) -> Result<Leading, Error> {
        let mut state = self.lock();
        match state.leads.get_mut(&name) {
            Some(lead) if !lead.settling => {
                lead.settling = true;
                Ok(lead.clone())
            }
            _ => Err(ErrorKind::Stale.into()),
        }
    }

    /// The store couldn't be asked: the lead is live as before, for all that is known here; unless its
    /// table is gone. Answers whether it is.
    pub fn put_back(&self, name: u64) -> bool {
        self.care(name, |lead| {
            (lead.settling, lead.unsure) = (false, true);
            // What was due while it was settling was left out.
            if lead.lease.is_some() { clock::now() } else { NEVER }
        });
        !self.lock().abolished
    }

    /// The lead is over. Answers which local flight it led last, and its epoch.
    pub fn remove(&self, name: u64) -> Option<(u64, u64)> {
        let mut state = self.lock();
        let lead = state.leads.remove(&name)?;
        state.due.remove(&(lead.care_at, name));
        if state.closed && state.is_empty() {
            self.changed.notify_one(); // it may go
        }
        lead.flight()
    }

    /// A live lead, as it stands.
    pub fn get(&self, name: u64) -> Result<Leading, Error> {
        self.lock().leads.get(&name).cloned().ok_or_else(|| ErrorKind::Stale.into())
    }

    /// Changes a lead, if it is still there.
    pub fn change(&self, name: u64, change: impl FnOnce(&mut Leading)) {
        if let Some(lead) = self.lock().leads.get_mut(&name) {
            change(lead);
        }
    }

    /// The store has renewed it, for a lease that began no earlier than `sent`.
    pub fn renewed(&self, name: u64, lease: Option<Duration>, sent: Moment) {
        self.care(name, |lead| {
            lead.lease_until = sent.saturating_add(clock::span(lease.unwrap_or(FOREVER)));
            lead.next_care(sent)
        });
    }

    /// Says how long its lease is to be from now on. Answers what it was.
    pub fn set_lease(&self, name: u64, lease: Option<Duration>) -> Option<Duration> {
        let mut before = lease;
        self.change(name, |lead| before = std::mem::replace(&mut lead.lease, lease));
        before
    }

    /// Looks at it again at the time that `when` says.
    pub fn care(&self, name: u64, when: impl FnOnce(&mut Leading) -> Moment) {
        let mut state = self.lock();
        let Some(lead) = state.leads.get_mut(&name) else { return };
        let (before, at) = (lead.care_at, when(lead));
        lead.care_at = at;
        state.due.remove(&(before, name));
        let sooner = state.schedule(at, name);
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
    }

    pub fn chore(&self, chore: Chore) {
        let mut state = self.lock();
        if state.chores.len() < CHORES {
            state.chores.push_back(chore);
            state.chores_at = clock::now();
        }
        drop(state);
        self.chores.notify_one();
    }

    /// Takes out the leads of a key whose record was dropped. Answers the local flights they led.
    pub fn evict(&self, key: &RecordKey) -> Vec<(u64, u64)> {
        let mut state = self.lock();
        let State { leads, due, .. } = &mut *state;
        let evicted = leads.extract_if(|_, lead| *lead.key == *key);
        let flights = evicted
            .filter_map(|(name, lead)| {
                due.remove(&(lead.care_at, name));
                lead.flight()
            })
            .collect();
        if state.closed && state.is_empty() {
            self.changed.notify_one(); // it may go
        }
        flights
    }

    /// Takes a lead's local flight from it. Answers that, and its epoch.
    pub fn part(&self, name: u64) -> Option<(u64, u64)> {
        let mut state = self.lock();
        let lead = state.leads.get_mut(&name)?;
        let flight = lead.flight();
        lead.flight = None;
        flight
    }

    /// All of them, for the table's end.
    pub fn names(&self) -> Vec<u64> {
        self.lock().leads.keys().copied().collect()
    }

    pub fn count(&self) -> usize {
        self.lock().leads.len()
    }
}

impl State {
    /// Answers whether somebody must be woken for it.
    fn schedule(&mut self, at: Moment, name: u64) -> bool {
        if at == NEVER {
            return false;
        }
        self.due.insert((at, name));
        at < self.asleep_until
    }

    /// The first lead whose time has come, taken from the schedule.
    pub fn next_due(&mut self) -> Option<(u64, Leading)> {
        let &(at, name) = self.due.first()?;
        if !clock::passed(at) {
            return None;
        }
        self.due.remove(&(at, name));
        let lead = self.leads.get(&name)?.clone();
        Some((name, lead))
    }

    /// Whoever watched has a lead to care for; at most `most` hands do.
    pub fn hand_over_the_watch(&mut self, most: usize) -> Another {
        if self.watched {
            Another::None
        } else if self.idle > 0 {
            Another::Idle
        } else if self.hands < most && self.leads.len() + self.reserved > 1 {
            // Though nothing else is due: a lead that is granted, or renewed, meanwhile will be.
            self.hire();
            Another::New
        } else {
            Another::None
        }
    }

    /// Counts a hand that is about to begin.
    pub fn hire(&mut self) {
        self.hands += 1;
        self.idle += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.leads.is_empty()
    }

    /// When the next lead needs care.
    pub fn care_at(&self) -> Moment {
        self.due.first().map_or(NEVER, |(at, _)| *at)
    }
}

impl Leading {
    pub fn new(key: Arc<RecordKey>, held: Held, attempt: u32, lease: Option<Duration>) -> Self {
        Self {
            key,
            held,
            attempt,
            checkpoint: None,
            flight: None,
            lease,
            ttl: Duration::ZERO,
            lease_until: NEVER,
            beats_until: 0,
            settling: false,
            unsure: false,
            taken_over: false,
            care_at: NEVER,
        }
    }

    /// Its local flight, and its epoch.
    fn flight(&self) -> Option<(u64, u64)> {
        self.flight.map(|flight| (flight, self.held.epoch))
    }

    /// Half a lease from `from` on if its heart beats; the end of the lease if not.
    fn next_care(&self, from: Moment) -> Moment {
        let Some(lease) = self.lease else { return NEVER };
        let half = from.saturating_add(clock::span((lease / 2).max(LEAST_BEAT)));
        if half < self.beats_until { half } else { self.lease_until }
    }
}
