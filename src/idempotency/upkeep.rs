//! What happens by itself: heartbeats, leases that pass, chores, purges. One thread a table.
//!
//! A heartbeat comes at half the lease and is repeated every eighth of it if the store didn't
//! answer, so that one failed renewal is survived. It ends when the lead is settled, or after
//! `max_lead`. A lead whose lease has passed for certain hands on its flight here: those who waited
//! for it look at the store like anybody else, where it may still renew or complete until another
//! takes over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builder::remembered;
use super::leads::{Chore, Leading, State};
use super::shared::Shared;
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::signals;
use crate::store::{Release, Settled};
use crate::table::OnLeaseExpired;

/// Records dropped at once, and the pauses between two purges: while there is more, and when not.
const BATCH: usize = 500;
const PURGE_ON: Duration = Duration::from_millis(100);
const PURGE_AGAIN: Duration = Duration::from_secs(60);
/// What a chore or a purge has at least, though some lead needs care soon.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);
/// How long a chore waits that the store didn't take.
const CHORE_AGAIN: Duration = Duration::from_secs(1);

fn from_now(pause: Duration) -> Moment {
    clock::after(clock::span(pause))
}

impl Shared {
    /// Has the upkeep's thread running.
    pub(super) fn keep_up(self: &Arc<Self>) -> Result<(), Error> {
        let mut state = self.leads.lock();
        if !state.running {
            let me = Arc::clone(self);
            signals::spawn("onceflight-upkeep", move || me.upkeep()).map_err(|error| {
                let detail = format!("no thread for heartbeats: {error}");
                Error::new(ErrorKind::Overloaded, detail)
            })?;
            state.running = true;
            // Not all processes that start together purge together.
            let jitter = u64::from(std::process::id() % 16);
            state.purge_at = from_now(Duration::from_secs(5 + jitter));
        }
        Ok(())
    }

    fn upkeep(&self) {
        loop {
            let mut state = self.leads.lock();
            if let Some((name, lead)) = state.next_due() {
                drop(state);
                self.care_for(name, &lead);
            } else if clock::passed(state.chores_at)
                && let Some(chore) = state.chores.pop_front()
            {
                let deadline = self.patience(&state);
                if state.chores.is_empty() {
                    state.chores_at = NEVER;
                }
                drop(state);
                self.do_chore(chore, deadline);
            } else if clock::passed(state.purge_at) {
                let deadline = self.patience(&state);
                drop(state);
                let again = self.purge_batch(deadline);
                self.leads.lock().purge_at = from_now(again);
            } else if state.closed && state.is_empty() {
                return;
            } else {
                let at = state.wake_at();
                drop(self.leads.changed.wait(state, at));
            }
        }
    }

    fn care_for(&self, name: u64, lead: &Leading) {
        let overdue = clock::passed(lead.lease_until);
        if overdue {
            self.hand_on(name);
        }
        let now = clock::now();
        if now >= lead.beats_until {
            // No heart beats, or not any more. Once the store has forgotten it, so do we.
            let forgotten = lead.lease_until.saturating_add(clock::span(remembered(lead.ttl)));
            let held = self.config.on_lease_expired == OnLeaseExpired::Hold;
            if !overdue {
                self.leads.care(name, |lead| lead.lease_until);
            } else if now < forgotten {
                self.leads.care(name, |_| if held { NEVER } else { forgotten });
            } else {
                self.leads.remove(name);
            }
            return;
        }
        // No lease any more: only its holder's own word made it so, unless a renewal was under way.
        let lease = lead.lease.unwrap_or(self.config.store_timeout * 4);
        // A store that hangs on one renewal mustn't cost the others their leases.
        let patience = self.config.store_timeout.min(lease / 4);
        let deadline = clock::instant_after(patience);
        match self.store.renew(&lead.key, lead.held, lead.lease, deadline) {
            Ok(Settled::Done) => match self.leads.get(name) {
                // Its holder has another in mind meanwhile, which this may have overwritten.
                Ok(now) if now.lease != lead.lease => self.care_for(name, &now),
                Ok(_) => self.leads.renewed(name, lead.lease, now),
                Err(_) => {}
            },
            Ok(Settled::Stale) => self.lost(name),
            Err(_) => {
                let again = from_now((lease / 8).max(Duration::from_millis(10)));
                self.leads.care(
                    name,
                    |lead| {
                        if overdue { again } else { again.min(lead.lease_until) }
                    },
                );
            }
        }
    }

    /// Another process took over, or the record is gone, or settled without our having heard so. One
    /// that is settling, or tried to, learns what it is from the store itself; its followers look too.
    fn lost(&self, name: u64) {
        match self.leads.get(name) {
            Ok(lead) if lead.settling => {}
            Ok(lead) if lead.unsure => self.hand_on(name),
            _ => {
                if let Some(flight) = self.leads.remove(name) {
                    self.pass_on(flight);
                }
            }
        }
    }

    /// The lease has passed: followers here needn't wait for this lead any more.
    fn hand_on(&self, name: u64) {
        if let Some(flight) = self.leads.part(name) {
            self.pass_on(flight);
        }
    }

    /// How long the store may take over what isn't a heartbeat: one that hangs mustn't cost a lead its
    /// lease.
    fn patience(&self, state: &State) -> Instant {
        let left = Duration::from_nanos(state.care_at().saturating_sub(clock::now()));
        clock::instant_after(self.config.store_timeout.min((left / 2).max(LEAST_PATIENCE)))
    }

    fn do_chore(&self, chore: Chore, deadline: Instant) {
        let done = match &chore {
            Chore::Withdraw(key, token) => self.store.withdraw(key, *token, deadline),
            Chore::Abandon(key, held) => {
                self.store.release(key, *held, Release::Abandon, deadline).map(drop)
            }
        };
        if done.is_err() {
            let mut state = self.leads.lock();
            if !state.closed {
                // The store is away: those behind it wait too.
                state.chores.push_back(chore);
                state.chores_at = from_now(CHORE_AGAIN);
            }
        }
    }

    /// Drops some expired records. Answers how long to wait before the next time.
    fn purge_batch(&self, deadline: Instant) -> Duration {
        match self.store.purge(BATCH, deadline) {
            Ok(BATCH..) => PURGE_ON,
            Ok(_) | Err(_) => PURGE_AGAIN,
        }
    }
}
