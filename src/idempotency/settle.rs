//! What a lead can do: settle its key, or change its terms. The store first, then those who wait here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::Led;
use super::builder::{ending, remembered};
use super::leads::{Chore, Leading};
use super::shared::{Answer, Shared, up};
use super::upkeep::survive;
use crate::clock::{self, NEVER};
use crate::error::{Error, ErrorKind};
use crate::store::{RecordKey, Release, Response, Settled, Store};
use crate::table::OnCancel;
use crate::table::internal::LeadRef;

/// While a lead is being settled: one that unwinds out of the store is live again, for whoever drops it.
struct Settling<'a>(&'a Shared, u64);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.put_back(self.1);
        }
    }
}

/// A lead that was settled.
struct Over {
    /// The local flight it led, and its epoch.
    flight: Option<(u64, u64)>,
    key: Arc<RecordKey>,
    /// Whether it was tried before.
    unsure: bool,
}

impl Shared {
    /// Ends a lead; `verb` tells the store.
    fn settle(
        &self,
        name: u64,
        verb: impl Fn(&dyn Store, &Leading, Instant) -> Result<Settled, Error>,
    ) -> Result<Over, Error> {
        self.check_fork()?;
        let lead = self.leads.take(name).inspect_err(|_| up(&self.tally.stale))?;
        let _settling = Settling(self, name);
        match self.persist(|store, deadline| verb(store, &lead, deadline)) {
            Ok(Settled::Done) => {
                let flight = self.leads.remove(name);
                Ok(Over { flight, key: lead.key, unsure: lead.unsure })
            }
            Ok(Settled::Stale) => {
                up(&self.tally.stale);
                if let Some(flight) = self.leads.remove(name) {
                    self.pass_on(flight);
                }
                Err(ErrorKind::Stale.into())
            }
            Err(error) => {
                self.put_back(name);
                Err(error)
            }
        }
    }

    /// The store couldn't be told.
    fn put_back(&self, name: u64) {
        if !self.leads.put_back(name) {
            self.give_up(name, self.last_deadline());
        }
    }

    /// Completes: once the store has it, the followers here have it too.
    pub fn complete(
        &self,
        name: u64,
        response: &Response,
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        self.check_fork()?;
        if let Err(error) = self.check_response_len(response) {
            // A lead that is over is told that instead.
            self.leads.get(name)?;
            return Err(error);
        }
        let fresh = self.leads.get(name).ok().map(|lead| self.freshness(&lead.key));
        let settled = self.settle(name, |store, lead, deadline| {
            store.complete(&lead.key, lead.held, response, ttl.unwrap_or(lead.ttl), deadline)
        })?;
        let Some(flight) = settled.flight else { return Ok(()) };
        // What the store has may be the response of an earlier try, whose answer was lost; and what was
        // forgotten meanwhile isn't for those who came since. They look.
        if settled.unsure || fresh != Some(self.freshness(&settled.key)) {
            self.pass_on(flight);
        } else {
            self.answer(flight.0, Answer::Shared(response.clone()));
        }
        Ok(())
    }

    pub(super) fn check_response_len(&self, response: &Response) -> Result<(), Error> {
        let (len, most) = (response.data().len(), self.config.max_response_len);
        if len <= most {
            return Ok(());
        }
        let detail = format!("a response of {len} bytes; max_response_len is {most}");
        Err(Error::new(ErrorKind::TooLarge, detail))
    }

    /// Nothing happened: the next in line leads, or all followers here fail, by policy.
    pub fn cancel(&self, name: u64) -> Result<(), Error> {
        let promote = self.config.on_cancel == OnCancel::Promote;
        let settled = self.settle(name, |store, lead, deadline| {
            let waits = lead.flight.is_some_and(|flight| self.is_followed(flight));
            let successor = promote && waits;
            // Long enough for the successor's claim, however short the ttl.
            let least = if successor { self.config.store_timeout } else { Duration::ZERO };
            let cancel = Release::Cancel { successor, keep: remembered(lead.ttl).max(least) };
            store.release(&lead.key, lead.held, cancel, deadline)
        })?;
        up(&self.tally.cancels);
        match settled.flight {
            Some(flight) if promote => self.pass_on(flight),
            Some((flight, _)) => {
                self.answer(flight, Answer::Failed(ErrorKind::Cancelled.into()));
            }
            None => {}
        }
        Ok(())
    }

    /// It may have happened: as if the lease had passed.
    pub fn abandon(&self, name: u64) -> Result<(), Error> {
        let settled = self.settle(name, |store, lead, deadline| {
            store.release(&lead.key, lead.held, Release::Abandon, deadline)
        })?;
        if let Some(flight) = settled.flight {
            self.pass_on(flight);
        }
        Ok(())
    }

    /// `cancel`, but those who wait here have a response that isn't kept.
    pub fn cancel_with(&self, name: u64, response: Response) -> Result<(), Error> {
        let settled = self.settle(name, |store, lead, deadline| {
            let release = if lead.taken_over {
                // What it took over may have happened, and isn't forgotten.
                Release::Abandon
            } else {
                Release::Cancel { successor: false, keep: remembered(lead.ttl) }
            };
            store.release(&lead.key, lead.held, release, deadline)
        })?;
        up(&self.tally.cancels);
        if let Some((flight, _)) = settled.flight {
            self.answer(flight, Answer::Shared(response));
        }
        Ok(())
    }

    /// `abandon`, likewise.
    pub fn abandon_with(&self, name: u64, response: Response) -> Result<(), Error> {
        let settled = self.settle(name, |store, lead, deadline| {
            store.release(&lead.key, lead.held, Release::Abandon, deadline)
        })?;
        if let Some((flight, _)) = settled.flight {
            self.answer(flight, Answer::Shared(response));
        }
        Ok(())
    }

    /// `abandon` for a lead that is dropped: if the store is away, the upkeep goes on trying.
    pub fn give_up(&self, name: u64, deadline: Instant) {
        let Ok(lead) = self.leads.take(name) else { return };
        let release = || self.store.release(&lead.key, lead.held, Release::Abandon, deadline);
        // A drop that unwinds while its thread does would end the process.
        let released = Instant::now() < deadline && matches!(survive(release), Some(Ok(_)));
        let flight = self.leads.remove(name);
        if !released {
            self.leads.chore(Chore::abandon(&lead));
        }
        if let Some(flight) = flight {
            self.pass_on(flight);
        }
    }

    /// For a lead that its caller never saw: the next in line leads, and knows of what was taken over.
    pub fn pass(&self, name: u64) {
        let passed = match self.leads.get(name) {
            Ok(lead) if lead.taken_over => self.abandon(name),
            _ => self.cancel(name),
        };
        if passed.is_err() {
            self.give_up(name, self.last_deadline());
        }
    }

    /// Whether it still has anything to settle, as far as this process knows.
    pub fn is_live(&self, name: u64) -> bool {
        !self.forked() && self.leads.get(name).is_ok()
    }

    /// Not to be shared: followers here do their own work, those elsewhere lead one by one.
    pub fn decline(&self, name: u64) -> Result<(), Error> {
        let settled = self.settle(name, |store, lead, deadline| {
            let cancel = Release::Cancel { successor: false, keep: remembered(lead.ttl) };
            store.release(&lead.key, lead.held, cancel, deadline)
        })?;
        if let Some((flight, _)) = settled.flight {
            let _ = self.flights.decline(LeadRef::named(flight));
        }
        Ok(())
    }

    /// Makes the lease end `lease` from now; `None`: as long as it was granted.
    pub fn renew(&self, name: u64, lease: Option<Duration>) -> Result<(), Error> {
        if lease.is_some_and(|lease| lease.is_zero()) {
            return Err(Error::new(ErrorKind::Invalid, "a lease of 0 would be over at once"));
        }
        self.alter(name, |lead| {
            let lease = lease.map_or(lead.lease, ending);
            // Said first: a heartbeat that is under way must not make it what it was.
            let before = self.leads.set_lease(name, lease);
            let sent = clock::now();
            let renewed =
                self.persist(|store, deadline| store.renew(&lead.key, lead.held, lease, deadline));
            match renewed {
                Ok(Settled::Done) => self.leads.renewed(name, lease, sent),
                Ok(Settled::Stale) => {}
                Err(_) => {
                    self.leads.set_lease(name, before);
                    // It may have reached the store, and be shorter: what is renewed now lasts for certain.
                    self.leads.care(name, |lead| if lead.lease.is_some() { sent } else { NEVER });
                }
            }
            renewed
        })
    }

    /// Leaves bytes for a successor.
    pub fn checkpoint(&self, name: u64, data: &[u8]) -> Result<(), Error> {
        if data.len() > self.config.max_response_len {
            let most = self.config.max_response_len;
            let detail =
                format!("a checkpoint of {} bytes; max_response_len is {most}", data.len());
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        self.alter(name, |lead| {
            let settled = self.persist(|store, deadline| {
                store.checkpoint(&lead.key, lead.held, data, deadline)
            })?;
            if settled == Settled::Done {
                self.leads.change(name, |lead| lead.checkpoint = Some(data.into()));
            }
            Ok(settled)
        })
    }

    /// Changes the terms of a lead that stays live.
    fn alter(
        &self,
        name: u64,
        change: impl FnOnce(&Leading) -> Result<Settled, Error>,
    ) -> Result<(), Error> {
        self.check_fork()?;
        let lead = self.leads.get(name).inspect_err(|_| up(&self.tally.stale))?;
        match change(&lead)? {
            Settled::Done => Ok(()),
            Settled::Stale => {
                up(&self.tally.stale);
                if let Some(flight) = self.leads.remove(name) {
                    self.pass_on(flight);
                }
                Err(ErrorKind::Stale.into())
            }
        }
    }

    /// The fence, the attempt and the checkpoint of a live lead.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub fn details(&self, name: u64) -> Result<Led, Error> {
        self.check_fork()?;
        let lead = self.leads.get(name).inspect_err(|_| up(&self.tally.stale))?;
        let (fence, attempt, checkpoint) = (lead.held.epoch, lead.attempt, lead.checkpoint);
        Ok(Led { name, fence, attempt, checkpoint })
    }

    /// Whoever begins from here on isn't given what was there before.
    pub fn forget(&self, key: &RecordKey) -> Result<bool, Error> {
        self.check_fork()?;
        let forgotten = self.store.forget(key, self.deadline());
        self.start_afresh(key);
        forgotten
    }

    /// Drops the record, and what of it is led here.
    pub fn evict(&self, key: &RecordKey) -> Result<bool, Error> {
        self.check_fork()?;
        let evicted = self.store.evict(key, self.deadline())?;
        self.start_afresh(key);
        for flight in self.leads.evict(key) {
            self.pass_on(flight);
        }
        Ok(evicted)
    }

    fn is_followed(&self, flight: u64) -> bool {
        self.flights.waiting(LeadRef::named(flight)) > 0
    }
}
