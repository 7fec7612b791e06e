//! The caller's own transaction on a SQLite file.

use std::time::Duration;

use rusqlite::DropBehavior;

use super::SqliteStore;
use crate::error::Error;
use crate::store::{Claim, Claimed, Held, RecordKey, Response, Settled, Transaction};

impl Transaction for rusqlite::Transaction<'_> {
    type Store = SqliteStore;

    fn claim(
        &mut self,
        store: &SqliteStore,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        // A claim that is dropped must be undone, whatever its transaction was to do.
        self.set_drop_behavior(DropBehavior::Rollback);
        store.claim_in(self, key, claim)
    }

    fn complete(
        &mut self,
        store: &SqliteStore,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        store.complete_in(self, key, held, response, ttl)
    }

    fn commit(self) -> Result<(), Error> {
        rusqlite::Transaction::commit(self)
            .map_err(|error| Error::store(format!("the commit failed: {error}")))
    }
}
