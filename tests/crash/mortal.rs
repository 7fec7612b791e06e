//! A store whose process may die around its calls: just before one is sent, or when it is answered
//! and nobody here knows yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onceflight::Error;
use onceflight::store::{
    Claim, Claimed, Held, News, Record, RecordId, RecordKey, Release, Response, Settled, Store,
    Token,
};
use serde::{Deserialize, Serialize};

use crate::worker::Fate;

/// Where a leader dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    /// Nothing has happened.
    BeforeClaim,
    /// The store has granted a lead that nobody knows of.
    Granted,
    /// It leads, and has done nothing.
    BeforeEffect,
    /// The effect has happened; there is no response.
    AfterEffect,
    BeforeCheckpoint,
    AfterCheckpoint,
    BeforeComplete,
    /// The store has the response, and nobody was told so.
    Completed,
    AfterComplete,
}

impl Point {
    pub const ALL: [Self; 9] = [
        Self::BeforeClaim,
        Self::Granted,
        Self::BeforeEffect,
        Self::AfterEffect,
        Self::BeforeCheckpoint,
        Self::AfterCheckpoint,
        Self::BeforeComplete,
        Self::Completed,
        Self::AfterComplete,
    ];
}

#[derive(Debug)]
pub struct Mortal {
    store: Arc<dyn Store>,
    fate: Arc<Fate<Point>>,
}

impl Mortal {
    pub fn new(store: Arc<dyn Store>, fate: &Arc<Fate<Point>>) -> Self {
        Self { store, fate: Arc::clone(fate) }
    }
}

impl Store for Mortal {
    fn claim(&self, key: &RecordKey, claim: &Claim<'_>, by: Instant) -> Result<Claimed, Error> {
        self.fate.pass(Point::BeforeClaim);
        let claimed = self.store.claim(key, claim, by);
        if let Ok(Claimed::Lead(_)) = claimed {
            self.fate.pass(Point::Granted);
        }
        claimed
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        by: Instant,
    ) -> Result<Settled, Error> {
        self.fate.pass(Point::BeforeCheckpoint);
        let settled = self.store.checkpoint(key, held, data, by);
        self.fate.pass(Point::AfterCheckpoint);
        settled
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        by: Instant,
    ) -> Result<Settled, Error> {
        self.fate.pass(Point::BeforeComplete);
        let settled = self.store.complete(key, held, response, ttl, by);
        self.fate.pass(Point::Completed);
        settled
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        by: Instant,
    ) -> Result<Settled, Error> {
        self.store.renew(key, held, lease, by)
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        by: Instant,
    ) -> Result<Settled, Error> {
        self.store.release(key, held, release, by)
    }

    fn withdraw(&self, key: &RecordKey, token: Token, by: Instant) -> Result<(), Error> {
        self.store.withdraw(key, token, by)
    }

    fn forget(&self, key: &RecordKey, by: Instant) -> Result<bool, Error> {
        self.store.forget(key, by)
    }

    fn read(&self, key: &RecordKey, by: Instant) -> Result<Option<Record>, Error> {
        self.store.read(key, by)
    }

    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        by: Instant,
    ) -> Result<Vec<Record>, Error> {
        self.store.list(scope, after, max, by)
    }

    fn evict(&self, key: &RecordKey, by: Instant) -> Result<bool, Error> {
        self.store.evict(key, by)
    }

    fn purge(&self, max: usize, by: Instant) -> Result<usize, Error> {
        self.store.purge(max, by)
    }

    fn listen(&self, by: Instant) -> Result<Box<dyn News>, Error> {
        self.store.listen(by)
    }
}
