//! What happens by itself: heartbeats and leases that pass; chores and purges. A thread each a table, and
//! more for the heartbeats if several leads need them at once.
//!
//! A heartbeat comes at half the lease and is repeated every eighth of it if the store didn't
//! answer, so that one failed renewal is survived. It ends when the lead is settled, or after
//! `max_lead`. A lead whose lease has passed for certain hands on its flight here: those who waited
//! for it look at the store like anybody else, where it may still renew or complete until another
//! takes over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::builder::remembered;
use super::leads::{Another, Chore, Leading, What};
use super::shared::Shared;
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::signals;
use crate::store::{Release, Settled};
use crate::table::OnLeaseExpired;

/// Records dropped at once, and the pauses between two purges: while there is more, and when not.
const BATCH: usize = 500;
/// So many heartbeats are under way at once.
const HANDS: usize = 8;
const PURGE_ON: Duration = Duration::from_millis(100);
const PURGE_AGAIN: Duration = Duration::from_secs(60);
/// How long a chore waits that the store didn't take.
const CHORE_AGAIN: Duration = Duration::from_secs(1);

/// When a heartbeat that failed is tried again.
fn soon(lease: Option<Duration>) -> Duration {
    lease.map_or(CHORE_AGAIN, |lease| (lease / 8).max(Duration::from_millis(10)))
}

fn from_now(pause: Duration) -> Moment {
    clock::after(clock::span(pause))
}

impl Shared {
    /// Has the upkeep's threads running.
    pub(super) fn keep_up(self: &Arc<Self>) -> Result<(), Error> {
        let mut state = self.leads.lock();
        if state.hands > 0 {
            if !state.watched && state.idle == 0 && state.hands < HANDS {
                // All have leads to care for, and nobody would look at the next.
                state.hire();
                drop(state);
                self.lend_a_hand();
            }
        } else {
            let no_thread = |error| {
                let detail = format!("no thread for heartbeats: {error}");
                Error::new(ErrorKind::Overloaded, detail)
            };
            let (me, too) = (Arc::clone(self), Arc::clone(self));
            signals::spawn("onceflight-beats", move || me.keep_leads()).map_err(no_thread)?;
            state.hire();
            // Not all processes that start together purge together.
            let jitter = u64::from(std::process::id() % 16);
            state.purge_at = from_now(Duration::from_secs(5 + jitter));
            // Beside the heartbeats, which mustn't wait for it. Without it, leases do the same later.
            let _ = signals::spawn("onceflight-chores", move || too.tidy());
        }
        Ok(())
    }

    /// One hand keeps watch over the schedule. When it has a lead to care for another takes the watch: a
    /// store that takes its time for one lead mustn't cost the others their leases.
    fn keep_leads(self: &Arc<Self>) {
        let mut state = self.leads.lock();
        state.idle -= 1;
        loop {
            if let Some((name, lead)) = state.next_due() {
                let another = state.hand_over_the_watch(HANDS);
                drop(state);
                match another {
                    Another::None => {}
                    Another::Idle => self.leads.idle.notify_one(),
                    Another::New => self.lend_a_hand(),
                }
                if survive(|| self.care_for(name, &lead)).is_none() {
                    self.leads.care(name, |lead| from_now(soon(lead.lease)));
                }
                state = self.leads.lock();
            } else if state.closed && state.is_empty() {
                drop(state);
                return self.leads.idle.notify_all();
            } else if state.watched {
                state.idle += 1;
                state = self.leads.idle.wait(state, NEVER);
                state.idle -= 1;
            } else {
                let at = state.care_at();
                (state.watched, state.asleep_until) = (true, at);
                state = self.leads.changed.wait(state, at);
                (state.watched, state.asleep_until) = (false, 0);
            }
        }
    }

    fn lend_a_hand(self: &Arc<Self>) {
        let me = Arc::clone(self);
        if signals::spawn("onceflight-beats", move || me.keep_leads()).is_err() {
            // All is done by those that are there.
            let mut state = self.leads.lock();
            (state.hands, state.idle) = (state.hands - 1, state.idle - 1);
        }
    }

    fn tidy(&self) {
        let mut state = self.leads.lock();
        loop {
            if clock::passed(state.chores_at)
                && let Some(chore) = state.chores.pop_front()
            {
                drop(state);
                let done = survive(|| self.do_chore(&chore)).unwrap_or(false);
                state = self.leads.lock();
                if !done && state.closed {
                    // The store is away: what is left ends with its leases.
                    state.chores.clear();
                } else if !done && !clock::passed(chore.until) {
                    // Those behind it wait too.
                    state.chores.push_back(chore);
                    state.chores_at = from_now(CHORE_AGAIN);
                }
            } else if state.closed {
                return;
            } else if clock::passed(state.purge_at) {
                drop(state);
                let again = survive(|| self.purge_batch()).unwrap_or(PURGE_AGAIN);
                state = self.leads.lock();
                state.purge_at = from_now(again);
            } else {
                let chores_at = if state.chores.is_empty() { NEVER } else { state.chores_at };
                let at = chores_at.min(state.purge_at);
                state = self.leads.chores.wait(state, at);
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
        // A store that hangs on one renewal mustn't cost the others their leases. (Without a lease it is
        // renewed once, where a beat was under way when its holder made it endless.)
        let lease = lead.lease.unwrap_or(self.config.store_timeout.saturating_mul(4));
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
                let again = from_now(soon(lead.lease));
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

    fn do_chore(&self, chore: &Chore) -> bool {
        let (key, deadline) = (&chore.key, self.deadline());
        let done = match chore.what {
            What::Withdraw(token) => self.store.withdraw(key, token, deadline),
            What::Abandon(held) => {
                self.store.release(key, held, Release::Abandon, deadline).map(drop)
            }
        };
        done.is_ok()
    }

    /// Drops some expired records. Answers how long to wait before the next time.
    fn purge_batch(&self) -> Duration {
        match self.store.purge(BATCH, self.deadline()) {
            Ok(BATCH..) => PURGE_ON,
            Ok(_) | Err(_) => PURGE_AGAIN,
        }
    }
}

/// Calls the store on a thread that is to live on: a driver that panics must not end what keeps the
/// others' leases.
pub(super) fn survive<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
