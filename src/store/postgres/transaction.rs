//! A lead within the caller's own transaction: its record and the caller's rows are committed together,
//! or none of them is.
//!
//! The first of two callers claims, does its work, completes, and commits; the second waits inside its
//! claim until then, and reads the committed response. If the first rolls back or its connection dies,
//! the second leads, and of the first nothing is left. No lease takes part. How long a caller waits is
//! its connection's `lock_timeout`, which is an error of kind [`Timeout`](crate::ErrorKind::Timeout).
//!
//! Any error of the server's has aborted the transaction: roll it back, and begin anew if you like.

use std::time::Duration;

use postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::verbs::{self, Params, Run};
use super::{PostgresStatement, PostgresStore, fault};
use crate::error::Error;
use crate::store::pool::Failure;
use crate::store::{Claim, Claimed, Held, RecordKey, Release, Response, Settled};

/// Same-transaction mode. The transaction may be of any connection to the store's database whose role may
/// use its tables, at any isolation level. Don't hold it over calls to other services: others wait.
impl PostgresStore {
    /// Claims `key` as part of a transaction: others see the claim, and may go on, once it is committed or
    /// rolled back. `claim.watch` is ignored: who waits within a transaction would hold up the lead.
    ///
    /// The server keeps a lock for each key claimed until the transaction ends. It has room for some
    /// thousands of them (`max_locks_per_transaction`).
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout): another's claim wasn't committed until `lock_timeout`.
    /// [`Store`](crate::ErrorKind::Store): anything else; also that the server chose this transaction to
    /// end a deadlock, or that it is serializable and came too late.
    pub fn claim_in(
        &self,
        tx: &mut Transaction<'_>,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        let claim = Claim { watch: false, ..*claim };
        verbs::claim(self.within(tx), key, &claim)
    }

    /// Completes a lead as part of a transaction, and tells those who wait once it is committed.
    ///
    /// # Errors
    /// As of [`claim_in`](Self::claim_in); and [`TooLarge`](crate::ErrorKind::TooLarge), which aborts nothing.
    pub fn complete_in(
        &self,
        tx: &mut Transaction<'_>,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        verbs::complete(self.within(tx), key, held, response, ttl)
    }

    /// Ends a lead without a response as part of a transaction. (A rollback does so too, and leaves nothing.)
    ///
    /// # Errors
    /// As of [`claim_in`](Self::claim_in).
    pub fn release_in(
        &self,
        tx: &mut Transaction<'_>,
        key: &RecordKey,
        held: Held,
        release: Release,
    ) -> Result<Settled, Error> {
        verbs::release(self.within(tx), key, held, release)
    }

    fn within<'a, 'b, 'c>(&'a self, tx: &'b mut Transaction<'c>) -> Within<'a, 'b, 'c> {
        Within { store: self, tx }
    }
}

/// One round trip a statement, with nothing prepared on a connection that isn't ours.
struct Within<'a, 'b, 'c> {
    store: &'a PostgresStore,
    tx: &'b mut Transaction<'c>,
}

type Typed<'a> = [(&'a (dyn ToSql + Sync), Type)];

impl Within<'_, '_, '_> {
    fn run<T>(
        &mut self,
        statement: PostgresStatement,
        params: &Params<'_>,
        how: impl FnOnce(&mut Transaction<'_>, &str, &Typed<'_>) -> Result<T, postgres::Error>,
    ) -> Result<T, Error> {
        let Self { store, tx } = self;
        store.pool.check_fork()?;
        let params: Vec<_> =
            params.iter().copied().zip(statement.types().iter().cloned()).collect();
        how(tx, store.texts.of(statement), &params)
            .map_err(|error| Failure::from(fault::explain(&store.server.name, &error)).into_error())
    }
}

impl Run for Within<'_, '_, '_> {
    fn rows(
        &mut self,
        statement: PostgresStatement,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.run(statement, params, |tx, text, params| tx.query_typed(text, params))
    }

    fn count(&mut self, statement: PostgresStatement, params: &Params<'_>) -> Result<u64, Error> {
        self.run(statement, params, |tx, text, params| tx.execute_typed(text, params))
    }
}

impl crate::store::Transaction for Transaction<'_> {
    type Store = PostgresStore;

    fn claim(
        &mut self,
        store: &PostgresStore,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        store.claim_in(self, key, claim)
    }

    fn complete(
        &mut self,
        store: &PostgresStore,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        store.complete_in(self, key, held, response, ttl)
    }

    /// A statement that failed has spoiled the transaction: its COMMIT is a rollback, and the driver calls that a
    /// success. Any other statement is refused.
    fn check(&mut self) -> Result<(), Error> {
        self.batch_execute("SELECT 1")
            .map_err(|error| Failure::from(fault::explain("postgres", &error)).into_error())
    }

    fn commit(self) -> Result<(), Error> {
        Transaction::commit(self)
            .map_err(|error| Failure::from(fault::explain("postgres", &error)).into_error())
    }
}
