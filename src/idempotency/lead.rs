//! The right to settle a key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::Led;
use super::shared::Shared;
use crate::error::Error;
use crate::store::Response;

/// A leader's right to settle its key: do the work, then call one of the settling methods.
///
/// Dropping it, by unwinding too, abandons the key: the work may have happened, and the next in line
/// takes over. Once another leader has taken over, every method says
/// [`Stale`](crate::ErrorKind::Stale) and changes nothing. What the store couldn't be told, for as
/// long as the table's `store_timeout`, is [`Store`](crate::ErrorKind::Store), and the lead is still
/// live.
#[must_use = "a dropped lead abandons its key"]
pub struct Lead<'t> {
    shared: &'t Arc<Shared>,
    name: u64,
    fence: u64,
    attempt: u32,
    checkpoint: Option<Arc<[u8]>>,
}

/// No lead has this name.
const SETTLED: u64 = 0;

/// A completion that didn't happen. Nothing is lost.
#[derive(Debug)]
pub struct Refused<'t> {
    /// Why.
    pub error: Error,
    /// The response, back.
    pub response: Response,
    /// The lead, if it is still live.
    pub lead: Option<Lead<'t>>,
}

impl<'t> Lead<'t> {
    pub(super) fn new(shared: &'t Arc<Shared>, led: Led) -> Self {
        let Led { name, fence, attempt, checkpoint } = led;
        Self { shared, name, fence, attempt, checkpoint }
    }

    /// A number that grows with every leader of the key, in every process, for ever: a resource
    /// downstream can refuse a lower one than it has seen.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// 1 for the first leader of a flight, + 1 for each successor.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What an earlier leader left, as it stood when this one began.
    pub fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_deref()
    }

    /// Leaves bytes for a successor, in place of those before.
    pub fn set_checkpoint(&self, data: &[u8]) -> Result<(), Error> {
        self.shared.checkpoint(self.name, data)
    }

    /// [`set_checkpoint`](Self::set_checkpoint) for whoever doesn't have the lead in hand.
    #[cfg(feature = "http")]
    pub(crate) fn checkpoints(&self) -> super::Checkpoints {
        super::Checkpoints::of(self.shared, self.name)
    }

    /// Makes the lease end `lease` from now, `Duration::MAX` for never.
    pub fn renew(&self, lease: Duration) -> Result<(), Error> {
        self.shared.renew(self.name, Some(lease))
    }

    /// Stores the response, and then shares it with all who wait.
    ///
    /// # Errors
    /// In [`Refused`], with the response. [`TooLarge`](crate::ErrorKind::TooLarge),
    /// [`Store`](crate::ErrorKind::Store): the lead comes back too.
    pub fn complete(self, response: Response) -> Result<(), Refused<'t>> {
        self.finish(response, None)
    }

    /// [`complete`](Self::complete), kept for `ttl`; zero shares without keeping.
    pub fn complete_for(self, response: Response, ttl: Duration) -> Result<(), Refused<'t>> {
        self.finish(response, Some(ttl))
    }

    fn finish(self, response: Response, ttl: Option<Duration>) -> Result<(), Refused<'t>> {
        match self.shared.complete(self.name, &response, ttl) {
            Ok(()) => {
                self.disarm();
                Ok(())
            }
            Err(error) => {
                // A lead that is over has nothing to abandon.
                let lead = if self.shared.is_live(self.name) {
                    Some(self)
                } else {
                    self.disarm();
                    None
                };
                Err(Refused { error, response, lead })
            }
        }
    }

    /// It has nothing to abandon any more.
    fn disarm(mut self) {
        self.name = SETTLED;
    }

    /// Settles: nothing happened. The next in line leads.
    pub fn cancel(self) -> Result<(), Error> {
        let cancelled = self.shared.cancel(self.name);
        self.over(cancelled)
    }

    /// Settles: nothing happened, and whoever waits here has this response instead of a turn of its own.
    /// It isn't kept, and those who wait in other processes lead. If this lead took over from one that was
    /// lost, that one may have happened still: the key is left as it was found.
    pub fn cancel_with(self, response: Response) -> Result<(), Error> {
        let cancelled = self.shared.cancel_with(self.name, response);
        self.over(cancelled)
    }

    /// Settles: it may have happened. The next in line takes over, by policy.
    pub fn abandon(self) -> Result<(), Error> {
        let abandoned = self.shared.abandon(self.name);
        self.over(abandoned)
    }

    /// Settles: it may have happened, and whoever waits here has this response. It isn't kept; the next
    /// begin, or whoever waits in another process, takes over, by policy.
    pub fn abandon_with(self, response: Response) -> Result<(), Error> {
        let abandoned = self.shared.abandon_with(self.name, response);
        self.over(abandoned)
    }

    /// Settles: not to be shared. Followers of this process do their own work.
    pub fn decline(self) -> Result<(), Error> {
        let declined = self.shared.decline(self.name);
        self.over(declined)
    }

    /// What failed is dropped, and so given up: if the store couldn't be told now, it will be later.
    fn over(self, settled: Result<(), Error>) -> Result<(), Error> {
        if settled.is_ok() {
            self.disarm();
        }
        settled
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if self.name != SETTLED && !self.shared.forked() {
            self.shared.give_up(self.name, self.shared.last_deadline());
        }
    }
}

impl fmt::Debug for Lead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead")
            .field("fence", &self.fence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl From<Refused<'_>> for Error {
    fn from(refused: Refused<'_>) -> Self {
        refused.error
    }
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused<'_> {}
