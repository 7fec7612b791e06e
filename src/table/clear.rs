//! Forget and close: what users take away from outside.

use std::borrow::Borrow;
use std::sync::atomic::Ordering;

use super::engine::Inner;
use super::seat::Verdict;
use super::shard::{After, Record, RecordState, State, dismiss};
use super::{Key, Value};
use crate::clock;
use crate::error::{Error, ErrorKind};

impl<K: Key, V: Value> Inner<K, V> {
    /// Drops a completed response; hides a flight from everyone but its lead and its followers.
    pub fn forget<Q>(&self, hash: u64, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.check_fork()?;
        let visible = |record: &Record<K, V>| record.visible_as(hash, key);
        let mut state = self.lock(hash);
        let Some(record) = state.find_mut(hash, visible) else { return Ok(false) };
        let (after, found) = match &mut record.state {
            RecordState::Completed(completed) => {
                let found = clock::now() < completed.expires;
                let garbage = self.drop_completed(hash, &mut state, key);
                (After { garbage, ..After::default() }, found)
            }
            RecordState::Flying(flight) if flight.lead.is_none() && flight.standing.is_none() => {
                let after = state.end_detached(hash, visible);
                self.landed_with(&after);
                (after, true)
            }
            RecordState::Flying(flight) => {
                flight.detached = true;
                (After::default(), true)
            }
        };
        drop(state);
        after.run();
        Ok(found)
    }

    /// Takes a completed response out of the index, the window and the counts.
    pub(super) fn drop_completed<Q>(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        key: &Q,
    ) -> Option<Record<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let record = state.remove(hash, |record| record.visible_as(hash, key))?;
        if let RecordState::Completed(completed) = &record.state {
            self.window.release(completed.weight);
        }
        self.publish_soonest(hash, state);
        Some(record)
    }

    /// Refuses new begins and tells every follower; leads still settle.
    pub fn close(&self) {
        if self.forked() {
            return;
        }
        // Dropped last: a user's destructor that panics must not keep a shard open.
        let mut garbage = Vec::new();
        for shard in &self.shards {
            let mut state = shard.state.lock();
            let State { records, expiry, tally, closed, .. } = &mut *state;
            *closed = true;
            let mut dismissed = Vec::new();
            for flight in records.iter_mut().filter_map(Record::flight_mut) {
                self.unwatch(flight);
                dismissed.extend(dismiss(tally, flight, || Verdict::Failed(ErrorKind::Closed)));
            }
            // What has no leader will never settle; what is completed will never be replayed.
            let lost = |record: &mut Record<K, V>| {
                record.flight().is_none_or(|flight| flight.lead.is_none())
            };
            for record in records.extract_if(lost) {
                match &record.state {
                    RecordState::Flying(flight) => {
                        tally.in_flight -= 1;
                        self.landed(flight);
                    }
                    RecordState::Completed(completed) => self.window.release(completed.weight),
                }
                garbage.push(record);
            }
            expiry.clear();
            shard.soonest.store(u64::MAX, Ordering::Relaxed);
            drop(state);
            for followers in dismissed {
                After { dismissed: Some(followers), ..After::default() }.run();
            }
        }
        self.cancel_sweep(&mut self.sweep_alarm.lock());
    }
}
