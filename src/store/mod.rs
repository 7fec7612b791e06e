//! Where records live beyond the process: one trait, and a file for each store.
//!
//! | store | URL | survives | wakes followers elsewhere by |
//! |-|-|-|-|
//! | [`MemoryStore`] | | nothing; for tests, and tables of one process that share | a condvar |
//! | `SqliteStore` | `sqlite:PATH` | crash and power cut | a poll that backs off |
//! | `PostgresStore` | `postgres://…` | as the server is set up | LISTEN and NOTIFY |
//! | `RedisStore` | `redis://…`, `redis-cluster://…` | as the server is set up; a failover may forget | publish and subscribe |
//! | `MemcachedStore` | `memcached://…` | no eviction, no restart | a poll that backs off |
//!
//! A store does four things and no more: it decides, in one atomic step, who leads; it keeps what
//! the leader says; it tells others that something was said; it forgets in time. Who waits for whom,
//! heartbeats and policies are the table's ([`IdempotencyTable`](crate::IdempotencyTable)).
//!
//! | state of a record | `claim` says | leaves it by |
//! |-|-|-|
//! | none, or expired | `Lead`, attempt 1 | |
//! | in progress, lease not passed | `InProgress` | `complete`, `release`, by token and epoch |
//! | in progress, lease passed or abandoned | `Lead`, attempt + 1, if it may take over; else `Unknown` | the same, as long as nobody took over |
//! | released | `Lead`, attempt + 1 | |
//! | completed | `Completed` | its ttl |
//!
//! What holds of every store, and `tests/store` shows:
//!
//! 1. A claim is one atomic step; of any number at once, one leads.
//! 2. Every settle, renewal, checkpoint and release changes a record only if token and epoch are
//!    those of the lead; else it is [`Settled::Stale`] and nothing has changed.
//! 3. All of them may be sent again with the same token: a lost answer is asked for once more, and
//!    the first result is returned.
//! 4. Epochs of a key grow for ever, over purges and restarts (but for what a store documents).
//! 5. The fingerprint is compared before anything else, and survives completion.
//! 6. A refused claim leaves the record as it was, but for the mark that somebody waits.
//! 7. Times are the store's own clock's; no process's clock is compared with another's.
//! 8. A record that can't be read as what it must be is an error: never a panic, never an answer.
//! 9. No call lasts past its deadline by more than a moment; what isn't known by then is an error.

#[cfg(feature = "memcached")]
mod memcached;
mod memory;
#[cfg(any(feature = "memcached", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod stream;
mod transaction;
mod url;

use std::any::Any;
use std::fmt;
use std::time::{Duration, Instant};

pub use crate::response::Response;
#[cfg(feature = "memcached")]
pub use memcached::MemcachedStore;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStatement, PostgresStore};
pub use record::{Held, Record, RecordId, RecordKey, RecordState, Token};
#[cfg(feature = "redis")]
pub use redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStatements, SqliteStore};
pub use transaction::Transaction;
pub use url::open;

use crate::error::Error;

/// An expired record stays readable that long for those who followed its flight, before it is
/// physically dropped.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Keeps records, and decides who leads. All methods may be called from any thread.
///
/// # Errors
/// Of every method: [`Store`](crate::ErrorKind::Store) if the store failed, can't be reached, or
/// didn't answer until `deadline`. What was asked for may then have happened or not.
pub trait Store: Any + Send + Sync + fmt::Debug {
    /// Claims `key`, or tells why that can't be. One atomic step.
    fn claim(
        &self,
        key: &RecordKey,
        claim: &Claim<'_>,
        deadline: Instant,
    ) -> Result<Claimed, Error>;

    /// Makes the lease end `lease` from now; `None`: never.
    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        deadline: Instant,
    ) -> Result<Settled, Error>;

    /// Leaves bytes for a successor, in place of those before.
    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Settled, Error>;

    /// Completes: the response is replayed until `ttl` has passed, and those who follow the flight
    /// get it even if that is zero.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorKind::TooLarge): more than this store can hold; nothing has changed.
    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Settled, Error>;

    /// Ends a lead without a response. A record that is gone already counts as released.
    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        deadline: Instant,
    ) -> Result<Settled, Error>;

    /// Gives back a claim whose answer was lost, if it was made: known by its token alone. A first
    /// attempt's record goes; a later attempt's is left as if abandoned
    /// ([`Release::of_withdrawn`]), for what it took over may have happened.
    fn withdraw(&self, key: &RecordKey, token: Token, deadline: Instant) -> Result<(), Error>;

    /// Drops a completed or released record; one in progress is left. Answers whether there was one.
    fn forget(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error>;

    /// The record of a key, expired ones left out.
    fn read(&self, key: &RecordKey, deadline: Instant) -> Result<Option<Record>, Error>;

    /// Records of a scope in the order of their ids, those after `after`, at most `max` of them,
    /// without their responses. Expired ones are left out.
    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Record>, Error>;

    /// Drops a record whatever its state; its lead is stale from then on. Answers whether there was one.
    fn evict(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error>;

    /// Drops at most `max` records that expired (some seconds ago: those who followed their flights
    /// may still read them). Answers how many: fewer than `max` are all there were, as far as `deadline`
    /// let it look. Zero from stores that do it by themselves.
    fn purge(&self, max: usize, deadline: Instant) -> Result<usize, Error>;

    /// Begins to listen for what is settled from now on, by any process.
    fn listen(&self, deadline: Instant) -> Result<Box<dyn News>, Error>;
}

/// What a store tells of its own accord.
pub trait News: Send {
    /// Blocks until `until` at most, and tells what was settled. News of a record that nobody
    /// waits for may be left out.
    ///
    /// # Errors
    /// News may have been lost: the caller looks at all it waits for, and listens anew.
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error>;
}

/// What was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This record.
    Record(RecordId),
    /// Maybe any: look.
    Any,
}

/// What a caller wants who would lead.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// 16 random bytes: whose claim this is, however often it is sent.
    pub token: Token,
    /// Bytes that say "the same payload". `None` equals only `None`.
    pub fingerprint: Option<&'a [u8]>,
    /// How long the lead is safe; `None`: until it is settled.
    pub lease: Option<Duration>,
    /// How long past its lease a lead that was lost is remembered, and then forgotten as if it had
    /// never been; `None`: until it is settled, forgotten or evicted.
    pub keep: Option<Duration>,
    /// Whether to lead where an earlier lead was lost.
    pub take_over: bool,
    /// Whether the caller will wait if the key is in progress: it is marked then, so that whoever
    /// settles it tells.
    pub watch: bool,
    /// The epoch of a flight that this caller already waits for: its response, or a later one's, is
    /// the caller's even if it has expired.
    pub following: Option<u64>,
}

/// What became of a claim.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// The caller leads.
    Lead(Grant),
    /// There is a response.
    Completed(Response),
    /// Somebody else leads.
    InProgress {
        /// The lead's epoch, to follow it by.
        epoch: u64,
        /// What is left of its lease; `None`: it has none.
        lease_left: Option<Duration>,
    },
    /// The key is in use with another fingerprint.
    Mismatch,
    /// An earlier lead was lost, and this claim doesn't take over.
    Unknown,
}

/// A lead as a store grants it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The fence: grows with every lead of the key.
    pub epoch: u64,
    /// 1 for the first lead of a flight, + 1 for each successor.
    pub attempt: u32,
    /// What an earlier lead left.
    pub checkpoint: Option<Box<[u8]>>,
    /// Whether an earlier lead was lost, and not released.
    pub taken_over: bool,
}

/// How a lead ends without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing happened. The record goes, unless there is a checkpoint, or somebody waits: elsewhere, by
    /// its mark, or here, as `successor` says. Then fingerprint, attempt and checkpoint stay for
    /// `keep`. Without a checkpoint the fingerprint doesn't bind.
    Cancel {
        /// Whether the next attempt of the same flight is about to be claimed.
        successor: bool,
        /// How long what stays is kept.
        keep: Duration,
    },
    /// It may have happened: as if the lease had passed, but for the lead itself, which is stale from
    /// then on (the record's token becomes [`Token::NOBODY`]).
    Abandon,
}

impl Release {
    /// How a claim is withdrawn that nobody knows of.
    pub const fn of_withdrawn(attempt: u32) -> Self {
        if attempt > 1 {
            Self::Abandon
        } else {
            Self::Cancel { successor: false, keep: Duration::ZERO }
        }
    }
}

/// What became of a settle, a renewal, a checkpoint or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stale lead has changed nothing"]
pub enum Settled {
    /// It is done, now or by an earlier call with the same token.
    Done,
    /// The record is another lead's, or gone.
    Stale,
}
