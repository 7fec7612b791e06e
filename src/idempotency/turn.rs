//! The right to speak for a flight here: who has it asks the store, and answers all who follow.

use std::sync::Arc;

use super::attempt::Asking;
use super::builder::remembered;
use super::shared::{Answer, Flights, Shared};
use super::watch::Watcher;
use crate::error::Error;
use crate::store::{Claim, Token};
use crate::table::OnLeaseExpired;
use crate::table::internal::{Granted, LeadRef};

/// Dropped unused, it goes to the next follower.
pub(super) struct Turn {
    flights: Arc<Flights>,
    /// The lead of the local flight; 0 once it was used.
    pub lead: u64,
    pub token: Token,
    /// Whose flight it waits for: its epoch.
    pub following: Option<u64>,
    pub watcher: Option<Watcher>,
}

impl Turn {
    pub fn new(shared: &Arc<Shared>, granted: Granted) -> Result<Self, Error> {
        // Before anything that can fail: from here on the flight isn't lost.
        let mut turn = Self {
            flights: Arc::clone(&shared.flights),
            lead: granted.id,
            token: Token::NOBODY,
            following: None,
            watcher: None,
        };
        if granted.attempt > 1 {
            turn.following = turn.left_by_predecessor();
        }
        turn.token = Token::draw()?;
        shared.keep_up()?;
        Ok(turn)
    }

    /// What it asks of the store.
    pub fn claim<'a>(&self, shared: &Shared, asking: &'a Asking, watch: bool) -> Claim<'a> {
        let takes_over = shared.config.on_lease_expired == OnLeaseExpired::TakeOver;
        Claim {
            token: self.token,
            fingerprint: asking.fingerprint.as_deref(),
            lease: asking.lease,
            keep: takes_over.then(|| remembered(asking.ttl)),
            take_over: asking.recover || takes_over,
            watch,
            following: self.following,
        }
    }

    /// From here on this flight waits for that epoch's outcome, whoever speaks for it.
    pub fn follow(&mut self, epoch: u64) {
        if self.following.is_none() {
            self.following = Some(epoch);
            let _ = self.flights.set_checkpoint(LeadRef::named(self.lead), &epoch.to_le_bytes());
        }
    }

    fn left_by_predecessor(&self) -> Option<u64> {
        let details = self.flights.details(LeadRef::named(self.lead)).ok()?;
        details.checkpoint?.as_ref().try_into().ok().map(u64::from_le_bytes)
    }

    /// An outcome that is everybody's who has this key and this fingerprint.
    pub fn answer(self, shared: &Shared, answer: Answer) {
        shared.answer(self.use_up(), answer);
    }

    /// The flight, for whoever answers it later.
    pub fn use_up(mut self) -> u64 {
        std::mem::take(&mut self.lead)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.lead != 0 {
            let _ = self.flights.cancel(LeadRef::named(self.lead));
        }
    }
}
