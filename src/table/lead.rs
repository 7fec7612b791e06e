//! The right to settle a flight.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::deadlock;
use super::engine::{Granted, Inner};
use super::flight::{LeadId, Terms};
use super::form::Draft;
use super::index::Spot;
use super::settle::LeadRef;
use super::typed::{Typed, Work};
use super::{Key, Value};
use crate::clock::{self, Span};
use crate::error::{Error, ErrorKind};

/// A leader's right to settle its flight: do the work, then call one of the settling methods.
///
/// Dropping it, by unwinding too, abandons the flight: the work may have happened, and the next
/// in line takes over. Once another leader has taken over, every method says
/// [`Stale`](ErrorKind::Stale) and changes nothing.
#[must_use = "a dropped lead abandons its flight"]
pub struct Lead<'t, K: Key, V: Value> {
    inner: &'t Inner<Typed<K, V>>,
    id: LeadId,
    spot: Spot,
    attempt: u32,
    thread: u32,
}

impl<'t, K: Key, V: Value> Lead<'t, K, V> {
    #[inline(always)]
    pub(super) fn new(
        inner: &'t Inner<Typed<K, V>>,
        hash: u64,
        granted: Granted,
        terms: &Terms,
    ) -> Self {
        let Granted { id, attempt } = granted;
        Self { inner, id, spot: Spot::of(hash), attempt, thread: terms.thread }
    }

    /// Shares `value` with every follower, and keeps it for the ttl of the request or the table.
    ///
    /// # Errors
    /// The value comes back in [`Refused`]. [`Stale`](ErrorKind::Stale): another leader took over.
    /// [`TooLarge`](ErrorKind::TooLarge): nothing was settled, and the lead comes back too.
    #[inline(always)]
    pub fn complete(self, value: V) -> Result<(), Refused<'t, K, V>> {
        self.finish(value, None)
    }

    /// [`complete`](Self::complete), kept for `ttl`; zero shares without keeping.
    #[inline(always)]
    pub fn complete_for(self, value: V, ttl: Duration) -> Result<(), Refused<'t, K, V>> {
        self.finish(value, Some(ttl))
    }

    #[inline(always)]
    fn finish(self, value: V, ttl: Option<Duration>) -> Result<(), Refused<'t, K, V>> {
        let ttl = ttl.map(clock::span);
        if self.inner.complete_at_once::<Work<V>>(self.at(), ttl) {
            std::mem::forget(self);
            return Ok(());
        }
        self.finish_in_full(value, ttl).map_err(|refused| *refused)
    }

    /// The refusal is boxed for the sake of the other path, which so leaves everything in registers.
    #[inline(never)]
    fn finish_in_full(self, value: V, ttl: Option<Span>) -> Result<(), Box<Refused<'t, K, V>>> {
        match self.inner.complete_in_full(self.at(), Work::new(value), ttl) {
            Ok(()) => {
                std::mem::forget(self);
                Ok(())
            }
            Err((error, Work { value, .. })) => {
                let lead = if error.kind() == ErrorKind::TooLarge {
                    Some(self)
                } else {
                    self.lost();
                    None
                };
                Err(Box::new(Refused { error, value, lead }))
            }
        }
    }

    /// Nothing happened: the first follower in line leads, or all of them fail, by the table's
    /// [`OnCancel`](crate::OnCancel).
    pub fn cancel(self) -> Result<(), Error> {
        let result = self.inner.cancel(self.at());
        self.over(result)
    }

    /// Nothing happened, and whoever waits has this value instead of a turn of its own. It isn't kept.
    pub fn cancel_with(self, value: V) -> Result<(), Error> {
        let result = self.inner.cancel_with(self.at(), Work::new(value).share());
        self.over(result)
    }

    /// It may have happened: what dropping the lead does, with an answer.
    pub fn abandon(self) -> Result<(), Error> {
        let result = self.inner.abandon(self.at());
        self.over(result)
    }

    /// It may have happened, and whoever waits has this value. It isn't kept: the next begin takes over,
    /// by the table's [`OnLeaseExpired`](crate::OnLeaseExpired).
    pub fn abandon_with(self, value: V) -> Result<(), Error> {
        let result = self.inner.abandon_with(self.at(), Work::new(value).share());
        self.over(result)
    }

    /// The response is not for sharing: every follower is told at once to do its own work.
    pub fn decline(self) -> Result<(), Error> {
        let result = self.inner.decline(self.at());
        self.over(result)
    }

    /// Makes the lease end `lease` from now. A lease that has passed can still be renewed, as long
    /// as nobody has taken over.
    pub fn renew(&self, lease: Duration) -> Result<(), Error> {
        self.inner.renew(self.at(), Some(self.inner.config.lease_of(lease)))
    }

    /// A number that grows with every leader of a key, for a resource downstream to refuse a late
    /// one by. In memory it grows for the table's life.
    pub fn fence(&self) -> u64 {
        self.id
    }

    /// 1 for the first leader of a flight, one more for each successor.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many wait for it now. None, once another leader has taken over.
    pub fn followers(&self) -> usize {
        if self.inner.forked() { 0 } else { self.inner.waiting(self.at()) }
    }

    /// What an earlier leader of this flight left for its successor.
    pub fn checkpoint(&self) -> Result<Option<Arc<[u8]>>, Error> {
        self.inner.details(self.at()).map(|details| details.checkpoint)
    }

    /// Leaves `bytes` for a successor: how far the work has come. Replaces the one before.
    pub fn set_checkpoint(&self, bytes: &[u8]) -> Result<(), Error> {
        self.inner.set_checkpoint(self.at(), bytes)
    }

    #[inline(always)]
    fn at(&self) -> LeadRef {
        LeadRef::of(self.id, self.spot)
    }

    /// It was settled, or the flight is another's.
    fn over(self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.lost();
        } else {
            std::mem::forget(self);
        }
        result
    }

    /// The flight is another's: there is nothing to abandon. This thread no longer counts as its
    /// leader.
    fn lost(self) {
        deadlock::lead_settled(self.thread);
        std::mem::forget(self);
    }
}

impl<K: Key, V: Value> Drop for Lead<'_, K, V> {
    #[inline(never)]
    fn drop(&mut self) {
        if self.inner.abandon(self.at()).is_err() {
            deadlock::lead_settled(self.thread);
        }
    }
}

impl<K: Key, V: Value> fmt::Debug for Lead<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead")
            .field("fence", &self.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// A completion that was refused: why, the value, and the lead where it is still live.
///
/// Turning it into an [`Error`] (as `?` does) drops the value, and with it a live lead, which
/// abandons.
pub struct Refused<'t, K: Key, V: Value> {
    /// Why.
    pub error: Error,
    /// What was to be shared.
    pub value: V,
    /// The lead, if it may still settle.
    pub lead: Option<Lead<'t, K, V>>,
}

impl<K: Key, V: Value> From<Refused<'_, K, V>> for Error {
    fn from(refused: Refused<'_, K, V>) -> Self {
        refused.error
    }
}

impl<K: Key, V: Value> fmt::Debug for Refused<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<K: Key, V: Value> fmt::Display for Refused<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}
