//! One request with terms of its own.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::begin::AtOnce;
use super::deadlock;
use super::engine::{Ask, Follow, Granted, Step};
use super::flight::Terms;
use super::follower::{Follower, Waiter};
use super::lead::{Lead, Refused};
use super::typed::Asked;
use super::{Begin, DedupTable, Key, Outcome, Role, TryBegin, Value};
use crate::clock::{self, FOREVER, NEVER};
use crate::error::Error;

/// A request to begin, with its own timeout, lease, ttl, fingerprint and flags; what isn't set is
/// the table's.
#[must_use = "a request does nothing until it begins"]
pub struct Request<'t, 'r, K: Key, V: Value, S, Q: ?Sized> {
    table: &'t DedupTable<K, V, S>,
    key: &'r Q,
    timeout: Duration,
    lease: Option<Duration>,
    ttl: Option<Duration>,
    fingerprint: Option<&'r [u8]>,
    recover: bool,
    same_thread: bool,
}

impl<K: Key, V: Value, S, Q: ?Sized> std::fmt::Debug for Request<'_, '_, K, V, S, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl<'t, 'r, K, V, S, Q> Request<'t, 'r, K, V, S, Q>
where
    K: Borrow<Q> + Hash + Key,
    V: Clone + Value,
    S: BuildHasher,
    Q: Hash + Eq + ToOwned + ?Sized,
    Q::Owned: Into<K>,
{
    #[inline(always)]
    pub(super) fn new(table: &'t DedupTable<K, V, S>, key: &'r Q) -> Self {
        Self {
            table,
            key,
            timeout: FOREVER,
            lease: None,
            ttl: None,
            fingerprint: None,
            recover: false,
            same_thread: false,
        }
    }

    /// How long to wait for a flight; zero doesn't wait. For ever, if not set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The lease of the lead, should this request lead.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long the response is kept, should this request lead.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Bytes that say "the same payload": a key in use with others is a
    /// [`Mismatch`](crate::ErrorKind::Mismatch). None equals only none.
    pub fn fingerprint(mut self, fingerprint: &'r [u8]) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// May lead where an earlier attempt's outcome is unknown.
    pub fn recover(mut self) -> Self {
        self.recover = true;
        self
    }

    /// Promises to settle the lead on this thread, so that a wait that would never end is found:
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock).
    pub fn same_thread(mut self) -> Self {
        self.same_thread = true;
        self
    }

    /// Leads, or waits for the outcome.
    #[inline(always)]
    pub fn begin(self) -> Result<Begin<'t, K, V>, Error> {
        let inner = self.table.inner();
        let ask = self.ask(if self.timeout.is_zero() { Follow::No } else { Follow::Blocking });
        let asked = self.table.asked(self.key);
        match inner.begin_typed(&asked, &ask.terms, ask.fingerprint) {
            AtOnce::Lead(id) => Ok(Begin::Lead(Lead::new(
                inner,
                asked.hash,
                Granted { id, attempt: 1 },
                &ask.terms,
            ))),
            AtOnce::Replay(value) => Ok(Begin::Replayed(value)),
            _ => self.begin_in_full(&asked, &ask).map(|begun| *begun),
        }
    }

    /// What [`begin`](Self::begin) does, for a request of which nothing was said.
    #[inline(never)]
    pub(super) fn begin_plainly(
        table: &'t DedupTable<K, V, S>,
        asked: &Asked<'_, K, Q>,
    ) -> Result<Box<Begin<'t, K, V>>, Error> {
        let request = Request::new(table, asked.key);
        let ask = request.ask(Follow::Blocking);
        request.begin_in_full(asked, &ask)
    }

    /// Boxed for the sake of the other path, which so leaves everything in registers.
    #[inline(never)]
    fn begin_in_full(
        &self,
        asked: &Asked<'_, K, Q>,
        ask: &Ask<'_>,
    ) -> Result<Box<Begin<'t, K, V>>, Error> {
        let table = self.table;
        Ok(Box::new(match table.inner().begin_in_full(asked, ask, None)? {
            Step::Replay(response) => Begin::Replayed(V::clone(&response.value)),
            Step::Lead(granted) => {
                Begin::Lead(Lead::new(table.inner(), asked.hash, granted, &ask.terms))
            }
            Step::Follow(joined) => {
                let deadline = clock::after(clock::span(self.timeout));
                let mut waiter = Waiter::new(joined, asked.hash, ask, None);
                let arrived = waiter.wait(deadline, true)?;
                table.begun(&waiter, arrived)
            }
        }))
    }

    /// What the C ABI does for who asks to be woken in turn, for models; and the turn.
    #[cfg(onceflight_shuttle)]
    pub fn begin_in_turn(
        self,
    ) -> (Result<Begin<'t, K, V>, Error>, Option<impl Sized + use<K, V, S, Q>>) {
        let ask = self.ask(Follow::Blocking);
        let table = self.table;
        let asked = table.asked(self.key);
        let joined = match table.inner().begin_in_full(&asked, &ask, None) {
            Ok(Step::Follow(joined)) => joined,
            Ok(Step::Lead(granted)) => {
                let lead = Lead::new(table.inner(), asked.hash, granted, &ask.terms);
                return (Ok(Begin::Lead(lead)), None);
            }
            Ok(Step::Replay(response)) => {
                return (Ok(Begin::Replayed(V::clone(&response.value))), None);
            }
            Err(error) => return (Err(error), None),
        };
        let mut waiter = Waiter::new(joined, asked.hash, &ask, None).in_turn(true);
        let arrived = waiter.wait(clock::after(clock::span(self.timeout)), true);
        let turn = waiter.turn();
        (arrived.map(|arrived| table.begun(&waiter, arrived)), turn)
    }

    /// Leads, or stands in line without blocking. The timeout is the follower's to set, when it
    /// waits.
    pub fn try_begin(self) -> Result<TryBegin<'t, K, V, S>, Error> {
        let ask = self.ask(Follow::Later);
        let table = self.table;
        let asked = table.asked(self.key);
        Ok(match table.inner().begin(&asked, &ask, None)? {
            Step::Replay(response) => TryBegin::Replayed(V::clone(&response.value)),
            Step::Lead(granted) => {
                TryBegin::Lead(Lead::new(table.inner(), asked.hash, granted, &ask.terms))
            }
            Step::Follow(joined) => {
                let waiter = Waiter::new(joined, asked.hash, &ask, None);
                TryBegin::Follower(Follower::new(table, waiter))
            }
        })
    }

    /// The one-call form: see [`DedupTable::run`].
    pub fn run(self, work: impl FnOnce() -> V) -> Result<Outcome<V>, Error> {
        let (value, role) = match self.same_thread().begin()? {
            Begin::Lead(lead) => {
                let value = work();
                let role = publish(lead, V::clone(&value));
                (value, role)
            }
            Begin::Shared(value) => (value, Role::Shared),
            Begin::Replayed(value) => (value, Role::Replayed),
            Begin::Bypass => (work(), Role::Bypassed),
        };
        Ok(Outcome { value, role })
    }

    #[inline(always)]
    fn ask(&self, follow: Follow) -> Ask<'r> {
        let inner = self.table.inner();
        let terms = Terms {
            lease: self.lease.map_or(inner.usual.lease, |lease| inner.config.lease_of(lease)),
            ttl: self.ttl.map_or(inner.usual.ttl, clock::span),
            thread: if self.same_thread { deadlock::this_thread() } else { 0 },
            recover: self.recover,
        };
        Ask { terms, fingerprint: self.fingerprint, follow, deadline: NEVER }
    }
}

/// Shares what `run` has made. A response that is too large to be shared is declined, so that
/// followers do their own work instead of waiting for it again.
fn publish<K, V>(lead: Lead<'_, K, V>, value: V) -> Role
where
    K: Key,
    V: Value,
{
    let settled = match lead.complete(value) {
        Err(Refused { lead: Some(lead), .. }) => lead.decline(),
        other => other.map_err(Error::from),
    };
    if settled.is_ok() { Role::Led } else { Role::Overtaken }
}
