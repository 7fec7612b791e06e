//! Records in memory: for tests, and the shortest statement of what every store does.

use std::collections::{BTreeMap, VecDeque};
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
    last_epoch: u64,
    /// What was settled while somebody waited, and the number of the first of it: each listener
    /// remembers how far it has read.
    news: VecDeque<RecordId>,
    news_from: u64,
}

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
    /// An empty one.
    pub fn new() -> Self {
        let shared = Shared {
            state: Mutex::default(),
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

    fn grant(&mut self, key: &RecordKey, claim: &Claim<'_>) -> Claimed {
        self.last_epoch += 1;
        let held = Held { token: claim.token, epoch: self.last_epoch };
        // What goes on is the same flight's; anything else is forgotten.
        let before = self.rows.remove(&key.id()).filter(|row| {
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
        self.rows.insert(key.id(), row);
        Claimed::Lead(Grant { epoch: held.epoch, attempt, checkpoint, taken_over: lost })
    }
}

impl Store for MemoryStore {
    fn claim(&self, key: &RecordKey, claim: &Claim<'_>, _: Instant) -> Result<Claimed, Error> {
        self.with(|state| {
            let Some(row) = state.rows.get_mut(&key.id()) else {
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
        self.with(|state| match state.rows.get_mut(&key.id()) {
            Some(row) if row.held == held && row.state == RecordState::InProgress => {
                row.lease(lease);
                Settled::Done
            }
            _ => Settled::Stale,
        })
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        _: Instant,
    ) -> Result<Settled, Error> {
        self.with(|state| match state.rows.get_mut(&key.id()) {
            Some(row) if row.held == held && row.state == RecordState::InProgress => {
                row.checkpoint = Some(data.into());
                Settled::Done
            }
            _ => Settled::Stale,
        })
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
            if let Some(row) = state.rows.get_mut(&id) {
                row.state = RecordState::Completed;
                row.response = Some(response.clone());
                row.checkpoint = None;
                row.expires = after(Some(ttl));
            }
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
            let Some(row) = state.rows.get_mut(&id) else { return };
            match release {
                // Not its lead's any more: a renewal that was under way must not revive it.
                Release::Abandon => {
                    row.held.token = Token::NOBODY;
                    row.lease_until = clock::now();
                }
                Release::Cancel { successor, keep }
                    if successor || watched || row.checkpoint.is_some() =>
                {
                    row.state = RecordState::Released;
                    row.expires = after(Some(keep));
                }
                Release::Cancel { .. } => drop(state.rows.remove(&id)),
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
            Ok(found && state.rows.remove(&key.id()).is_some_and(|row| !row.is_expired()))
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
            let Some(row) = state.rows.remove(&key.id()) else { return false };
            if row.watched {
                state.tell(key.id());
                self.shared.settled.notify_all();
            }
            true
        })
    }

    fn purge(&self, max: usize, _: Instant) -> Result<usize, Error> {
        self.with(|state| {
            let long_ago = clock::now().saturating_sub(clock::span(GRACE));
            let expired = state.rows.iter().filter(|(_, row)| row.expires <= long_ago);
            let expired: Vec<RecordId> = expired.take(max).map(|(id, _)| *id).collect();
            for id in &expired {
                state.rows.remove(id);
            }
            expired.len()
        })
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
