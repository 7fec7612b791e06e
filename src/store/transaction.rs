//! Records inside the caller's own transaction: both are there after the commit, or neither.

use std::time::Duration;

use super::{Claim, Claimed, Held, RecordKey, Response, Settled, Store};
use crate::error::Error;

/// A transaction on the database that a store keeps its records in. The caller begins it, on a
/// connection of its own.
pub trait Transaction: Sized {
    /// The store that it has to be of.
    type Store: Store;

    /// [`Store::claim`], seen by others once the transaction commits.
    fn claim(
        &mut self,
        store: &Self::Store,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error>;

    /// [`Store::complete`], seen by others once the transaction commits.
    fn complete(
        &mut self,
        store: &Self::Store,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error>;

    /// Whether it could still commit, where a driver's commit doesn't tell. (A `complete` that succeeded has
    /// found that out already.)
    fn check(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Commits. After an error it isn't known whether it did.
    fn commit(self) -> Result<(), Error>;
}
