//! Keys that outlive the process: a table over a [`Store`].
//!
//! From the outside in: this file and `request`, `lead`, `builder` are the API; `shared` is what a
//! table consists of; `attempt` is one caller's begin, `turn` the right to ask the store in it, `pending` a begin that nobody blocks on, `settle`
//! what a lead can do, `checkpoints` the part of that which others may, `transaction` all of it inside the
//! caller's own; `leads` is what this process leads, `upkeep` what happens to that by itself; `watch`
//! is how it hears of other processes.

mod attempt;
mod builder;
#[cfg(feature = "http")]
mod checkpoints;
mod lead;
mod leads;
#[cfg_attr(not(feature = "capi"), allow(dead_code))] // event queues are C's
mod pending;
mod request;
mod settle;
mod shared;
mod transaction;
mod turn;
mod upkeep;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::Builder;
#[cfg(feature = "http")]
pub(crate) use checkpoints::Checkpoints;
pub use lead::{Lead, Refused};
pub use request::Request;
pub use transaction::{BeginIn, LeadIn, RefusedIn, Uncommitted};

use crate::error::{Error, ErrorKind};
use crate::store::{Record, RecordId, RecordKey, Response, Store};
use crate::table::{Outcome, Stats};
use shared::Shared;

#[cfg(feature = "capi")]
pub(crate) mod internal {
    //! What the C ABI builds on.
    pub(crate) use super::attempt::{Asking, Attempt, Begun, Led};
    pub(crate) use super::builder::Config;
    pub(crate) use super::pending::Pending;
    pub(crate) use super::shared::Shared;
}

/// A [`DedupTable`](crate::DedupTable) whose outcomes outlive the process: of all callers of a key, in
/// every process over the same store, one leads; the others get its response, now, after a crash, or
/// on a retry a day later.
///
/// | state of a key | `begin` | `complete` | `cancel` | abandoned, or the lease passes | `decline` |
/// |-|-|-|-|-|-|
/// | vacant | leads | | | | |
/// | in progress | waits; `Shared` once it completes | those who wait get it; kept for its ttl | the next in line leads | the next in line, or the next begin, leads, with a higher fence and what was left as a checkpoint; or unknown, by policy | followers here get `Bypass`; others lead one by one |
/// | completed | `Replayed`, until the ttl passes | | | | |
/// | unknown | `Unknown`; leads if flagged `recover` | by the old lead, while nobody has recovered | | | |
///
/// What a store adds to what a table in memory does:
/// - Callers of one process that share a key and a fingerprint make one call to the store together.
/// - A lead has a lease, and is renewed by a heartbeat as long as its process lives. A process that was
///   stopped and comes back finds its lead [`Stale`](ErrorKind::Stale) if another took over.
/// - Nobody is given a response before the store has it. What the store can't be asked about isn't
///   executed: [`Store`](ErrorKind::Store).
/// - A fence never goes back, so a resource downstream can refuse a leader that is late.
///
/// Shared by reference or in an `Arc`; all methods may be called from any thread, and may block for
/// the store. After a `fork` the child's copy says [`Forked`](ErrorKind::Forked): open another there.
///
/// ```
/// use onceflight::IdempotencyTable;
/// use onceflight::idempotency::Begin;
/// use onceflight::store::{MemoryStore, Response};
/// use std::sync::Arc;
///
/// // IdempotencyTable::open("sqlite:payments.db"), with the feature `sqlite`
/// let table = IdempotencyTable::over(Arc::new(MemoryStore::new()))?;
/// match table.request("4f2c81").fingerprint(b"100 cents to Ada").begin()? {
///     Begin::Lead(lead) => lead.complete(Response::new(201, b"paid"))?,
///     Begin::Shared(response) | Begin::Replayed(response) => println!("{}", response.status()),
///     Begin::Bypass => {}
/// }
/// # Ok::<(), onceflight::Error>(())
/// ```
pub struct IdempotencyTable {
    shared: Arc<Shared>,
}

/// What [`IdempotencyTable::begin`] found.
#[must_use = "a dropped lead abandons its key"]
#[derive(Debug)]
pub enum Begin<'t> {
    /// This caller does the work, and settles.
    Lead(Lead<'t>),
    /// The response of the flight that this caller waited for, here or in another process.
    Shared(Response),
    /// A response completed earlier, within its ttl.
    Replayed(Response),
    /// The leader declined to share: do the work yourself, and settle nothing.
    Bypass,
}

impl IdempotencyTable {
    /// A table over the store with that URL, with the defaults of [`Builder`].
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::builder().open(url)
    }

    /// A table over that store, with the defaults of [`Builder`].
    pub fn over(store: Arc<dyn Store>) -> Result<Self, Error> {
        Self::builder().over(store)
    }

    /// Sets up a table.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Leads, or waits for as long as it takes.
    pub fn begin(&self, key: impl AsRef<[u8]>) -> Result<Begin<'_>, Error> {
        self.request(key.as_ref()).begin()
    }

    /// Leads, or waits for at most `timeout`. Zero asks the store once and doesn't wait.
    pub fn begin_timeout(
        &self,
        key: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Begin<'_>, Error> {
        self.request(key.as_ref()).timeout(timeout).begin()
    }

    /// Leads by calling `work`, or waits for the caller that does; see [`Request::run`].
    pub fn run(
        &self,
        key: impl AsRef<[u8]>,
        work: impl FnOnce() -> Response,
    ) -> Result<Outcome<Response>, Error> {
        self.request(key.as_ref()).run(work)
    }

    /// A request with terms of its own.
    pub fn request<'r, Q: AsRef<[u8]> + ?Sized>(&self, key: &'r Q) -> Request<'_, 'r> {
        Request::new(&self.shared, key.as_ref())
    }

    /// Drops a completed response, or what a cancelled lead left. A key in progress is left alone.
    /// Answers whether there was anything.
    pub fn forget(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.shared.forget(&self.record_key(key.as_ref())?)
    }

    /// For operators: the record of a key in the table's scope, whatever its state.
    pub fn look_up(&self, key: impl AsRef<[u8]>) -> Result<Option<Record>, Error> {
        let key = self.record_key(key.as_ref())?;
        self.ask(|store, deadline| store.read(&key, deadline))
    }

    /// For operators: records of the table's scope, in the order of their ids, those after `after`.
    pub fn list(&self, after: Option<RecordId>, max: usize) -> Result<Vec<Record>, Error> {
        self.ask(|store, deadline| store.list(&self.shared.config.scope, after, max, deadline))
    }

    /// For operators: drops a record, in progress or not. Its lead, if it has one, is stale from then
    /// on. Answers whether there was one.
    pub fn evict(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = self.record_key(key.as_ref())?;
        self.shared.evict(&key)
    }

    /// For operators: drops at most `max` records that expired some seconds ago, of all scopes. A
    /// table does so by itself, in small batches, while it is used. Answers how many.
    pub fn purge(&self, max: usize) -> Result<usize, Error> {
        self.ask(|store, deadline| store.purge(max, deadline))
    }

    /// Refuses new begins and wakes every follower with [`Closed`](ErrorKind::Closed). Leads still
    /// settle. Dropping a table closes it, and abandons what it leads.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Counters of this process. `in_flight` are its leads; what stands in the store isn't counted.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    fn record_key(&self, key: &[u8]) -> Result<RecordKey, Error> {
        RecordKey::new(&self.shared.config.scope, key)
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&dyn Store, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.shared.check_fork()?;
        question(&*self.shared.store, self.shared.deadline())
    }
}

impl Drop for IdempotencyTable {
    fn drop(&mut self) {
        self.shared.abolish();
    }
}

impl fmt::Debug for IdempotencyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyTable")
            .field("store", &self.shared.store)
            .finish_non_exhaustive()
    }
}

/// Whether a key or a fingerprint is short enough.
fn check_len(bytes: &[u8], most: usize, what: &str) -> Result<(), Error> {
    if bytes.len() <= most {
        return Ok(());
    }
    let detail = format!("a {what} of {} bytes; max_key_len is {most}", bytes.len());
    Err(Error::new(ErrorKind::TooLarge, detail))
}
