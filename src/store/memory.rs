//! Records in memory: for one process, for tests, and the shortest statement of what every store does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Claim, Claimed, GRACE, Grant, Heard, Held, News, Record, RecordId, RecordKey, RecordState,
    Release, Response, Settled, Store, Token,
};
use crate::clock::{self, FOREVER, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{Condvar, Mutex};

/// A store that lives and dies with its process. Tables that share one (clones do) share records as
/// they would over a database.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    settled: Condvar,
    generation: u64,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<RecordId, Row>,
    /// When which record may expire: as it was said once, and so no earlier than it does now.
    expiries: BinaryHeap<Reverse<(Moment, RecordId)>>,
    /// What all of them take, and may.
    bytes: usize,
    max_bytes: Option<usize>,
    last_epoch: u64,
    /// What was settled while somebody waited, and the number of the first of it: each listener
    /// remembers how far it has read.
    news: VecDeque<RecordId>,
    news_from: u64,
}

/// A record without its bytes, in the maps.
const ROW: usize = 512;

/// So many expiries may be out of date, and as many as there are records.
const SPARE: usize = 1024;

/// Listeners that are further behind are told to look at everything.
const NEWS_KEPT: usize = 1024;

#[derive(Debug)]
struct Row {
    key: RecordKey,
    state: RecordState,
    fingerprint: Option<Box<[u8]>>,
    held: Held,
    attempt: u32,
    /// In progress: until when no other may lead.
    lease_until: Moment,
    /// When it counts as gone; while in progress, not before its lease has passed.
    expires: Moment,
    /// How long past its lease.
    keep: Option<Duration>,
    response: Option<Response>,
    checkpoint: Option<Box<[u8]>>,
    /// Whether somebody waits elsewhere.
    watched: bool,
}

impl Row {
    /// What it takes in memory, about.
    fn size(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |it| it.data().len());
        let boxes =
            [&self.fingerprint, &self.checkpoint].map(|it| it.as_ref().map_or(0, |it| it.len()));
        ROW + self.key.scope().len() + self.key.key().len() + response + boxes.iter().sum::<usize>()
    }

    fn is_expired(&self) -> bool {
        clock::passed(self.expires)
    }

    fn is_live(&self) -> bool {
        self.state == RecordState::InProgress && !clock::passed(self.lease_until)
    }

    /// The lease that begins now, and what follows from it.
    fn lease(&mut self, lease: Option<Duration>) {
        self.lease_until = after(lease);
        self.expires = match (lease, self.keep) {
            (Some(lease), Some(keep)) => after(Some(lease.saturating_add(keep))),
            _ => NEVER,
        };
    }
}

fn after(time: Option<Duration>) -> Moment {
    clock::after(clock::span(time.unwrap_or(FOREVER)))
}

fn left(until: Moment) -> Option<Duration> {
    (until != NEVER).then(|| Duration::from_nanos(until.saturating_sub(clock::now())))
}

impl MemoryStore {
    /// An empty one, which takes whatever it is given.
    pub fn new() -> Self {
        Self::with_state(State::default())
    }

    /// An empty one that takes no new key while its records take `max_bytes` (each with 512 bytes of its own):
    /// that is [`Overloaded`](ErrorKind::Overloaded), until some have expired or are evicted. Those that it
    /// has it keeps, and still takes what becomes of them: a response that were dropped would be a key that is
    /// executed again.
    pub fn bounded(max_bytes: usize) -> Self {
        Self::with_state(State { max_bytes: Some(max_bytes), ..State::default() })
    }

    fn with_state(state: State) -> Self {
        let shared = Shared {
            state: Mutex::new(state),
            settled: Condvar::default(),
            generation: fork::enrol(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        if fork::generation() != self.shared.generation {
            return Err(ErrorKind::Forked.into());
        }
        Ok(act(&mut self.shared.state.lock()))
    }

    /// Changes the record of a lead that is still that key's, and tells those who wait for it. What
    /// has reached its goal by an earlier call is done.
    fn settle(
        &self,
        key: &RecordKey,
        held: Held,
        goal: RecordState,
        change: impl FnOnce(&mut State, RecordId, bool),
    ) -> Result<Settled, Error> {
        self.with(|state| {
            let Some(row) = state.rows.get_mut(&key.id()) else {
                let gone = goal == RecordState::Released;
                return if gone { Settled::Done } else { Settled::Stale };
            };
            if row.held != held {
                let nobody = Held { token: Token::NOBODY, ..held };
                let abandoned = goal == RecordState::Released && row.held == nobody;
                return if abandoned { Settled::Done } else { Settled::Stale };
            }
            if row.state != RecordState::InProgress {
                return if row.state == goal { Settled::Done } else { Settled::Stale };
            }
            let watched = std::mem::take(&mut row.watched);
            change(state, key.id(), watched);
            if watched {
                state.tell(key.id());
                self.shared.settled.notify_all();
            }
            Settled::Done
        })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn tell(&mut self, id: RecordId) {
        self.news.push_back(id);
        if self.news.len() > NEWS_KEPT {
            self.news.pop_front();
            self.news_from += 1;
        }
    }

    fn remove(&mut self, id: RecordId) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        self.bytes -= row.size();
        Some(row)
    }

    fn change(&mut self, id: RecordId, change: impl FnOnce(&mut Row)) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        let (size, before) = (row.size(), row.expires);
        change(row);
        let expires = row.expires;
        self.bytes = self.bytes - size + row.size();
        if expires != before {
            self.expires(id, expires);
        }
    }

    /// Changes the record of a lead that is still that key's.
    fn change_of(&mut self, key: &RecordKey, held: Held, change: impl FnOnce(&mut Row)) -> Settled {
        match self.rows.get(&key.id()) {
            Some(row) if row.held == held && row.state == RecordState::InProgress => {
                self.change(key.id(), change);
                Settled::Done
            }
            _ => Settled::Stale,
        }
    }

    fn expires(&mut self, id: RecordId, at: Moment) {
        if at == NEVER {
            return;
        }
        self.expiries.push(Reverse((at, id)));
        if self.expiries.len() > 2 * self.rows.len() + SPARE {
            let rows = &self.rows;
            self.expiries
                .retain(|Reverse((at, id))| rows.get(id).is_some_and(|row| row.expires == *at));
        }
    }

    /// Removes what has been expired for long, `max` records at most. How many it were.
    fn purge(&mut self, max: usize) -> usize {
        let long_ago = clock::now().saturating_sub(clock::span(GRACE));
        let mut gone = 0;
        while gone < max
            && let Some(&Reverse((at, id))) = self.expiries.peek()
            && at <= long_ago
        {
            self.expiries.pop();
            if self.rows.get(&id).is_some_and(|row| row.expires <= long_ago) {
                self.remove(id);
                gone += 1;
            }
        }
        gone
    }

    /// Whether there is room for one more.
    fn check_room(&mut self) -> Result<(), Error> {
        let Some(most) = self.max_bytes.filter(|&most| self.bytes >= most) else { return Ok(()) };
        self.purge(usize::MAX);
        if self.bytes < most {
            return Ok(());
        }
        let detail = format!(
            "the records in memory take {} bytes, and may take {most}: let it have more, or keep responses for a shorter time",
            self.bytes
        );
        Err(Error::new(ErrorKind::Overloaded, detail))
    }

    fn grant(&mut self, key: &RecordKey, claim: &Claim<'_>) -> Claimed {
        self.last_epoch += 1;
        let held = Held { token: claim.token, epoch: self.last_epoch };
        // What goes on is the same flight's; anything else is forgotten.
        let before = self.remove(key.id()).filter(|row| {
            !row.is_expired()
                && row.state != RecordState::Completed
                && row.fingerprint.as_deref() == claim.fingerprint
        });
        let lost = before.as_ref().is_some_and(|row| row.state == RecordState::InProgress);
        let attempt = before.as_ref().map_or(1, |row| row.attempt.saturating_add(1));
        let checkpoint = before.and_then(|row| row.checkpoint);
        let mut row = Row {
            key: key.clone(),
            state: RecordState::InProgress,
            fingerprint: claim.fingerprint.map(Into::into),
            held,
            attempt,
            lease_until: NEVER,
            expires: NEVER,
            keep: claim.keep,
            response: None,
            checkpoint: checkpoint.clone(),
            watched: false,
        };
        row.lease(claim.lease);
        let expires = row.expires;
        self.bytes += row.size();
        self.rows.insert(key.id(), row);
        self.expires(key.id(), expires);
        Claimed::Lead(Grant { epoch: held.epoch, attempt, checkpoint, taken_over: lost })
    }
}

impl Store for MemoryStore {
    fn claim(&self, key: &RecordKey, claim: &Claim<'_>, _: Instant) -> Result<Claimed, Error> {
        self.with(|state| {
            let Some(row) = state.rows.get_mut(&key.id()) else {
                state.check_room()?;
                return Ok(state.grant(key, claim));
            };
            key.check(row.key.scope(), row.key.key())?;
            if row.state == RecordState::InProgress && row.held.token == claim.token {
                // Sent again: the first answer was lost.
                let (epoch, attempt, checkpoint) =
                    (row.held.epoch, row.attempt, row.checkpoint.clone());
                return Ok(Claimed::Lead(Grant { epoch, attempt, checkpoint, taken_over: false }));
            }
            let same = row.fingerprint.as_deref() == claim.fingerprint;
            let follows = claim.following.is_some_and(|epoch| row.held.epoch >= epoch);
            if let Some(response) = &row.response
                && same
                && (follows || !row.is_expired())
            {
                return Ok(Claimed::Completed(response.clone()));
            }
            if row.is_expired() {
                return Ok(state.grant(key, claim));
            }
            if !same && (row.state != RecordState::Released || row.checkpoint.is_some()) {
                return Ok(Claimed::Mismatch);
            }
            if row.is_live() {
                row.watched |= claim.watch;
                let lease_left = left(row.lease_until);
                return Ok(Claimed::InProgress { epoch: row.held.epoch, lease_left });
            }
            if row.state == RecordState::InProgress && !claim.take_over {
                return Ok(Claimed::Unknown);
            }
            Ok(state.grant(key, claim))
        })?
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        _: Instant,
    ) -> Result<Settled, Error> {
        self.with(|state| state.change_of(key, held, |row| row.lease(lease)))
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        _: Instant,
    ) -> Result<Settled, Error> {
        self.with(|state| state.change_of(key, held, |row| row.checkpoint = Some(data.into())))
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        _: Instant,
    ) -> Result<Settled, Error> {
        self.settle(key, held, RecordState::Completed, |state, id, _| {
            state.change(id, |row| {
                row.state = RecordState::Completed;
                row.response = Some(response.clone());
                row.checkpoint = None;
                row.expires = after(Some(ttl));
            });
        })
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        _: Instant,
    ) -> Result<Settled, Error> {
        self.settle(key, held, RecordState::Released, |state, id, watched| {
            let has_checkpoint = state.rows.get(&id).is_some_and(|row| row.checkpoint.is_some());
            match release {
                // Not its lead's any more: a renewal that was under way must not revive it.
                Release::Abandon => state.change(id, |row| {
                    row.held.token = Token::NOBODY;
                    row.lease_until = clock::now();
                }),
                Release::Cancel { successor, keep } if successor || watched || has_checkpoint => {
                    state.change(id, |row| {
                        row.state = RecordState::Released;
                        row.expires = after(Some(keep));
                    });
                }
                Release::Cancel { .. } => drop(state.remove(id)),
            }
        })
    }

    fn withdraw(&self, key: &RecordKey, token: Token, at: Instant) -> Result<(), Error> {
        let row = |state: &mut State| state.rows.get(&key.id()).map(|row| (row.attempt, row.held));
        if let Some(held) = self.with(row)?.filter(|(_, held)| held.token == token) {
            let _ = self.release(key, held.1, Release::of_withdrawn(held.0), at)?;
        }
        Ok(())
    }

    fn forget(&self, key: &RecordKey, _: Instant) -> Result<bool, Error> {
        self.with(|state| {
            let settled = |row: &Row| row.state != RecordState::InProgress;
            let found = state.rows.get(&key.id()).is_some_and(settled);
            Ok(found && state.remove(key.id()).is_some_and(|row| !row.is_expired()))
        })?
    }

    fn read(&self, key: &RecordKey, _: Instant) -> Result<Option<Record>, Error> {
        self.with(|state| {
            let Some(row) = state.rows.get(&key.id()) else { return Ok(None) };
            key.check(row.key.scope(), row.key.key())?;
            Ok((!row.is_expired()).then(|| row.record(true)))
        })?
    }

    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        _: Instant,
    ) -> Result<Vec<Record>, Error> {
        self.with(|state| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = state.rows.range((from, Bound::Unbounded));
            let rows = rows.filter(|(_, row)| row.key.scope() == scope && !row.is_expired());
            rows.take(max).map(|(_, row)| row.record(false)).collect()
        })
    }

    fn evict(&self, key: &RecordKey, _: Instant) -> Result<bool, Error> {
        self.with(|state| {
            let Some(row) = state.remove(key.id()) else { return false };
            if row.watched {
                state.tell(key.id());
                self.shared.settled.notify_all();
            }
            true
        })
    }

    fn purge(&self, max: usize, _: Instant) -> Result<usize, Error> {
        self.with(|state| state.purge(max))
    }

    fn listen(&self, _: Instant) -> Result<Box<dyn News>, Error> {
        let read = self.with(|state| state.news_from + state.news.len() as u64)?;
        Ok(Box::new(Listener { store: self.clone(), read }))
    }
}

impl Row {
    fn record(&self, whole: bool) -> Record {
        let in_progress = self.state == RecordState::InProgress;
        Record {
            key: self.key.clone(),
            state: self.state,
            fingerprint: self.fingerprint.clone(),
            epoch: self.held.epoch,
            attempt: self.attempt,
            lease_left: if in_progress { left(self.lease_until) } else { None },
            expires_in: left(self.expires),
            response: self.response.clone().filter(|_| whole),
            checkpoint: self.checkpoint.clone().filter(|_| whole),
        }
    }
}

struct Listener {
    store: MemoryStore,
    /// The number of the next news.
    read: u64,
}

impl News for Listener {
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error> {
        let shared = &self.store.shared;
        if fork::generation() != shared.generation {
            return Err(ErrorKind::Forked.into());
        }
        let until = after(Some(until.saturating_duration_since(Instant::now())));
        let mut state = shared.state.lock();
        let end = |state: &State| state.news_from + state.news.len() as u64;
        while self.read == end(&state) && !clock::passed(until) {
            state = shared.settled.wait(state, until);
        }
        let from = usize::try_from(self.read.saturating_sub(state.news_from)).unwrap_or(usize::MAX);
        let news: Vec<RecordId> = state.news.iter().skip(from).copied().collect();
        let missed = self.read < state.news_from;
        self.read = end(&state);
        drop(state);
        if missed {
            heard(Heard::Any);
        }
        news.into_iter().map(Heard::Record).for_each(heard);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn claim(store: &MemoryStore, name: u32) -> Result<Claimed, Error> {
        let claim = Claim {
            token: Token::draw()?,
            fingerprint: None,
            lease: Some(LONG),
            keep: Some(LONG),
            take_over: true,
            watch: false,
            following: None,
        };
        store.claim(&key(name), &claim, Instant::now())
    }

    fn key(name: u32) -> RecordKey {
        RecordKey::new(b"", name.to_le_bytes()).unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_the_records() {
        let store = MemoryStore::bounded(1 << 20);
        for name in 0..100 {
            claim(&store, name).unwrap();
            store.evict(&key(name), Instant::now()).unwrap();
        }
        let bytes = store.with(|state| (state.bytes, state.rows.len())).unwrap();
        assert_eq!((0, 0), bytes);
    }

    #[test]
    fn expiries_of_records_that_are_gone_are_dropped() {
        let store = MemoryStore::new();
        for _ in 0..10 * SPARE {
            claim(&store, 1).unwrap();
            store.evict(&key(1), Instant::now()).unwrap();
        }
        assert!(store.with(|state| state.expiries.len()).unwrap() <= SPARE + 2);
    }
}
