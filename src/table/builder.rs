//! How a table behaves: its options, their defaults, and what each is for.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::typed::Typed;
use super::{DedupTable, Key, Value};
use crate::clock::{self, FOREVER, Span};
use crate::hash::SipState;

/// What becomes of the followers when a leader cancels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCancel {
    /// The first in line leads.
    #[default]
    Promote,
    /// All of them get [`Cancelled`](crate::ErrorKind::Cancelled).
    FailAll,
}

/// What becomes of a flight whose leader was lost: it abandoned, or its lease has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLeaseExpired {
    /// The first in line, or else the next begin, leads. The work may run twice; the fence tells
    /// the two apart.
    #[default]
    TakeOver,
    /// Nobody leads, and everyone gets [`Unknown`](crate::ErrorKind::Unknown), until the old lead
    /// completes, a request flagged `recover` leads, or the key is forgotten.
    Hold,
}

pub(crate) struct Config {
    pub completed_ttl: Duration,
    pub lease: Duration,
    pub heartbeat: bool,
    pub max_lead: Duration,
    pub offer: Duration,
    pub max_in_flight: usize,
    pub max_waiters: usize,
    pub max_completed: usize,
    pub max_bytes: usize,
    pub max_weight: usize,
    pub on_cancel: OnCancel,
    pub on_lease_expired: OnLeaseExpired,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            completed_ttl: Duration::ZERO,
            lease: FOREVER,
            heartbeat: false,
            max_lead: Duration::from_secs(600),
            offer: Duration::from_secs(5),
            max_in_flight: 1 << 20,
            max_waiters: 1 << 14,
            max_completed: 1 << 20,
            max_bytes: 256 << 20,
            max_weight: usize::MAX,
            on_cancel: OnCancel::default(),
            on_lease_expired: OnLeaseExpired::default(),
        }
    }
}

impl Config {
    /// How long a lead is safe that asked for `lease`. A heartbeat renews a lead for as long as its
    /// process lives, up to `max_lead`; in memory the table lives and dies with that process, so
    /// the renewals that would come are granted at once.
    pub fn lease_of(&self, lease: Duration) -> Span {
        let granted = self.heartbeat && lease != FOREVER;
        clock::span(if granted { lease.max(self.max_lead) } else { lease })
    }
}

/// Sets up a [`DedupTable`].
///
/// | option | default |
/// |-|-|
/// | [`completed_ttl`](Self::completed_ttl) | 0: in flight only |
/// | [`lease`](Self::lease) | none |
/// | [`heartbeat`](Self::heartbeat), [`max_lead`](Self::max_lead) | off, 10 minutes |
/// | [`offer`](Self::offer) | 5 s |
/// | [`max_in_flight`](Self::max_in_flight) | 1,048,576 keys |
/// | [`max_waiters`](Self::max_waiters) | 16,384 a key |
/// | [`max_completed`](Self::max_completed) | 1,048,576 responses |
/// | [`max_bytes`](Self::max_bytes) | 256 MiB, of what the weigher says |
/// | [`max_weight`](Self::max_weight) | none |
/// | [`on_cancel`](Self::on_cancel) | [`OnCancel::Promote`] |
/// | [`on_lease_expired`](Self::on_lease_expired) | [`OnLeaseExpired::TakeOver`] |
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<K, V, S = SipState> {
    config: Config,
    form: Typed<K, V>,
    hasher: S,
}

impl<K, V> Builder<K, V> {
    pub(crate) fn new() -> Self {
        Self { config: Config::default(), form: Typed::default(), hasher: SipState::new() }
    }
}

impl<K, V, S> Builder<K, V, S> {
    /// How long a completed response is replayed, from its completion on. Zero shares a response
    /// with those who wait and keeps nothing.
    pub fn completed_ttl(mut self, ttl: Duration) -> Self {
        self.config.completed_ttl = ttl;
        self
    }

    /// How long a leader may take before another may take over. `Duration::MAX` is none.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease;
        self
    }

    /// Renews leases by itself while the process lives, up to [`max_lead`](Self::max_lead).
    pub fn heartbeat(mut self, on: bool) -> Self {
        self.config.heartbeat = on;
        self
    }

    /// How long a heartbeat keeps a lead that doesn't settle.
    pub fn max_lead(mut self, max: Duration) -> Self {
        self.config.max_lead = max;
        self
    }

    /// How long a lead is on offer to a follower that doesn't block, before it passes to the next
    /// in line. At least a millisecond: an offer that nobody can accept would go round for ever.
    pub fn offer(mut self, offer: Duration) -> Self {
        self.config.offer = offer.max(Duration::from_millis(1));
        self
    }

    /// Keys in flight at once; more are [`Overloaded`](crate::ErrorKind::Overloaded).
    ///
    /// Never exceeded, and exact below 65,536. From there on threads take places in batches, and what
    /// a thread has in hand is nobody else's: of the last sixteenth, some may be refused.
    pub fn max_in_flight(mut self, max: usize) -> Self {
        self.config.max_in_flight = max;
        self
    }

    /// Followers of one key at once; more are [`Overloaded`](crate::ErrorKind::Overloaded).
    pub fn max_waiters(mut self, max: usize) -> Self {
        self.config.max_waiters = max;
        self
    }

    /// Completed responses held, over the whole table. To make room, the one goes that would expire
    /// soonest (under one ttl, the oldest) of those looked at: some 16, others each time, or all if
    /// there are fewer.
    pub fn max_completed(mut self, max: usize) -> Self {
        self.config.max_completed = max;
        self
    }

    /// What the completed responses may weigh together, by the [`weigher`](Self::weigher). One
    /// that is heavier alone is shared and not kept.
    pub fn max_bytes(mut self, max: usize) -> Self {
        self.config.max_bytes = max;
        self
    }

    /// What one response may weigh; a heavier one is refused with
    /// [`TooLarge`](crate::ErrorKind::TooLarge), and its lead stays live.
    pub fn max_weight(mut self, max: usize) -> Self {
        self.config.max_weight = max;
        self
    }

    /// Weighs a response for [`max_bytes`](Self::max_bytes) and [`max_weight`](Self::max_weight).
    /// Called on the completing thread with no lock held.
    pub fn weigher(mut self, weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static) -> Self {
        self.form.weigher = Some(Box::new(weigh));
        self
    }

    /// Decides whether a response is kept for its ttl; one that isn't is still shared with those
    /// who wait. Called on the completing thread with no lock held.
    pub fn retain(mut self, keep: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.form.retain = Some(Box::new(keep));
        self
    }

    /// What becomes of the followers when a leader cancels.
    pub fn on_cancel(mut self, policy: OnCancel) -> Self {
        self.config.on_cancel = policy;
        self
    }

    /// What becomes of a flight whose leader was lost.
    pub fn on_lease_expired(mut self, policy: OnLeaseExpired) -> Self {
        self.config.on_lease_expired = policy;
        self
    }

    /// Another hasher. The default withstands keys chosen by an attacker; a faster one may not.
    pub fn hasher<T>(self, hasher: T) -> Builder<K, V, T> {
        Builder { config: self.config, form: self.form, hasher }
    }

    /// The table.
    pub fn build(self) -> DedupTable<K, V, S>
    where
        K: Hash + Key,
        V: Value,
        S: BuildHasher,
    {
        DedupTable::with(self.form, self.config, self.hasher)
    }
}

impl<K, V, S> fmt::Debug for Builder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("completed_ttl", &self.config.completed_ttl)
            .field("lease", &self.config.lease)
            .finish_non_exhaustive()
    }
}
