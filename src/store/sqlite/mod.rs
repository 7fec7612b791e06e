//! Records in a SQLite file, shared by any number of processes of one machine.
//!
//! | column of `onceflight_records` | type | |
//! |-|-|-|
//! | `epoch` | integer, primary key | the fence; numbers all leads of the file, and never goes back, whatever is deleted |
//! | `id` | 16 bytes, unique | the hash of scope and key |
//! | `scope`, `key` | bytes | whole |
//! | `fingerprint` | bytes or NULL | NULL: none |
//! | `state` | 1, 2, 3 | in progress, completed, released |
//! | `token` | 16 bytes | whose claim it is |
//! | `attempt` | integer | 1 for the first lead of a flight |
//! | `boot` | 16 bytes | the boot that `lease_until` counts from; zeros on other systems than Linux |
//! | `lease_until` | integer or NULL | in progress: nanoseconds since that boot. A lease of another boot has passed; NULL: it never does |
//! | `keep` | integer or NULL | milliseconds that a lost lead is remembered past its lease; NULL: for ever |
//! | `expires` | integer or NULL | milliseconds since 1970, from when the record counts as gone; NULL: never |
//! | `watched` | 0, 1 | somebody waits elsewhere |
//! | `status`, `body` | integer, bytes | completed: the response |
//! | `checkpoint` | bytes or NULL | what a lead left for its successor |
//!
//! `onceflight_news` holds the ids of the last records that were settled while watched; triggers write
//! it. `onceflight_meta` holds the schema's version. Other tables in the file are left alone.
//!
//! | step | is |
//! |-|-|
//! | `claim` | while nobody writes: a transaction that looks, and takes the write lock only if the caller may lead, or must mark the record. Else a look; and if that says so, a transaction that has the lock from its start, looks again and acts |
//! | settle, renewal, checkpoint, release | a transaction of one statement that changes the record only if token, epoch and state are this lead's; if it isn't, a look whether an earlier call did |
//! | purge | what was settled and has expired is found by an index; lost leads by looking through the records, 4,096 in a transaction, for half of the time that is left at most: the next purge goes on there |
//! | `listen` | a read of `onceflight_news` every 1 to 10 ms |
//!
//! Why a claim looks first: a replay then takes 4.6 µs and waits for nobody. The look alone takes
//! 3.5 µs, and 5.6 µs in a transaction that has the write lock, for which it may have to wait. Why news
//! have a table: reading it takes 1.8 µs where nothing is new, as long as `PRAGMA data_version` takes,
//! which would only say that something, somewhere in the file, has changed. (Two-core machine, release
//! build, the lowest of ten rounds of 20,000.) A listener hears of a completion 5 ms later as a median,
//! and 10 ms at most if it gets a processor.
//!
//! *Durable*: WAL and `synchronous=FULL`, so what was acknowledged survives a crash and a power cut, if
//! the disk does what it says. *Weaker than others*: one machine, one local disk (no network file
//! system), one writer at a time; those of one process are committed together while they wait
//! (`writer.rs`).
//!
//! *Clocks.* Leases count on the clock of the boot, which nobody sets. (Elsewhere than on Linux it may
//! stand still while the machine sleeps, and boots aren't told apart: after one, evict what is in
//! progress. Where there is no such clock, as on Windows, it is the wall clock.) Retention outlives a
//! boot, so it is the wall clock's: set forward, responses are forgotten that much earlier, set back,
//! later. No lease is touched by that. Processes that share a file share the machine's clock: none of
//! them may run in a time namespace of its own.

mod connection;
mod line;
mod news;
mod registry;
mod row;
mod schema;
mod statements;
#[cfg(test)]
mod tests;
mod times;
mod transaction;
mod verbs;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Transaction;

pub(crate) use connection::{FLAGS, Fault, Own, moment, use_wal, wait};
pub(crate) use registry::{Inside, Listing, list};
pub use statements::SqliteStatements;

use self::connection::{Db, Place};
use self::news::Listener;
use self::times::Times;
use self::verbs::{Look, Verbs};
use self::writer::Writer;
use super::pool::{MAX_CONNECTIONS, Pool};
use super::{
    Claim, Claimed, Held, News, Record, RecordId, RecordKey, Release, Response, Settled, Store,
    Token,
};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::Mutex;

/// How long opening a file may take: as long as another process holds its write lock.
const OPENING: Duration = Duration::from_secs(5);

/// Records in a SQLite file. Clones, and other stores of the same file in this process, share its
/// connections.
///
/// In the child of a fork it says `Forked`, and so does opening a file there that was open in the
/// parent: SQLite's locks don't survive a fork.
#[derive(Clone)]
pub struct SqliteStore {
    file: Arc<File>,
}

/// A file that is open.
struct File {
    writer: Writer,
    readers: Pool<Db>,
    place: Arc<Place>,
    /// Up to which epoch purges have looked for lost leads.
    looked_at: Mutex<i64>,
    /// Dropped last.
    _listing: registry::Listing,
}

impl SqliteStore {
    /// Opens `sqlite:PATH`, and makes the file and its tables if they aren't there. PATH is taken as it
    /// stands; a relative one begins at the working directory of now.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): no such URL. [`Store`](ErrorKind::Store): the file can't be used;
    /// its tables are a later version's; another process held its write lock for 5 s.
    /// [`Forked`](ErrorKind::Forked): it was open when this process was forked.
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(url, MAX_CONNECTIONS)
    }

    /// The same with at most so many connections: one that writes and at least one that reads, and one
    /// more for each listener. If this process has the file open already, it stays as it is.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(url: &str, max_connections: usize) -> Result<Self, Error> {
        let invalid = |what| Error::new(ErrorKind::Invalid, what);
        let path = match url.strip_prefix("sqlite:") {
            None => return Err(invalid("the URL of a SQLite store is sqlite:PATH")),
            Some("") => {
                return Err(invalid("sqlite: wants a path; for records in memory use memory:"));
            }
            Some(":memory:") => {
                return Err(invalid(
                    "sqlite::memory: would be a file for each connection; use memory:",
                ));
            }
            Some(path) => Path::new(path),
        };
        let boot = clock::boot_id().map_err(|error| {
            Error::store(format!(
                "leases want the id of this boot, and /proc doesn't tell it: {error}"
            ))
        })?;
        let file = registry::share(path, |path, listing| {
            let identity = listing.identity();
            let place = Arc::new(Place { path, identity, boot, generation: fork::enrol() });
            let (for_writer, for_readers) = (Arc::clone(&place), Arc::clone(&place));
            File {
                writer: Writer::new(move |deadline| Db::open(&for_writer, deadline)),
                readers: Pool::new(max_connections.saturating_sub(1), move |deadline| {
                    Db::open(&for_readers, deadline)
                }),
                place,
                looked_at: Mutex::new(0),
                _listing: listing,
            }
        })?;
        // One connection, so that what is wrong with the file is told here.
        drop(file.readers.get(Instant::now() + OPENING)?);
        Ok(Self { file })
    }

    /// [`claim`](Store::claim) as a part of `transaction`, which must be on the same file and
    /// have read nothing yet, or have begun `IMMEDIATE`: the lead is others' to see, or never was, with everything else in it. Other writers
    /// of the file wait meanwhile, so it doesn't stay open over calls to other systems.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store): as of every method, and if the lock was waited for in vain.
    /// [`Invalid`](ErrorKind::Invalid): the transaction is on another file. [`Forked`](ErrorKind::Forked).
    pub fn claim_in(
        &self,
        transaction: &Transaction<'_>,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        self.within(transaction, |verbs| {
            verbs.lock()?;
            // The lock may have been long in coming, and the lease begins now.
            verbs.now().claim(key, claim)
        })
    }

    /// [`complete`](Store::complete) as a part of `transaction`: done once that is committed.
    ///
    /// # Errors
    /// As [`claim_in`](Self::claim_in).
    pub fn complete_in(
        &self,
        transaction: &Transaction<'_>,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        self.within(transaction, |verbs| verbs.complete(key, held, response, ttl))
    }

    /// [`release`](Store::release) as a part of `transaction`: done once that is committed.
    ///
    /// # Errors
    /// As [`claim_in`](Self::claim_in).
    pub fn release_in(
        &self,
        transaction: &Transaction<'_>,
        key: &RecordKey,
        held: Held,
        release: Release,
    ) -> Result<Settled, Error> {
        self.within(transaction, |verbs| verbs.release(key, held, release))
    }

    /// The statements, for programs in other languages with transactions of their own.
    pub const fn sql() -> &'static SqliteStatements {
        &statements::SQL
    }

    fn within<T>(
        &self,
        transaction: &Transaction<'_>,
        act: impl FnOnce(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.file.readers.check_fork()?;
        let place = &self.file.place;
        if transaction.path().is_none_or(|path| Path::new(path) != place.path) {
            let detail =
                format!("the transaction is on another file than {}", place.path.display());
            return Err(Error::new(ErrorKind::Invalid, detail));
        }
        let _inside = registry::Inside::enter();
        act(&Verbs { db: transaction, times: Times::now(place.boot) })
            .map_err(|fault| fault.at(&place.path))
    }

    fn read<T>(
        &self,
        deadline: Instant,
        act: impl Fn(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.file.readers.with(deadline, |db| db.read(deadline, &act))
    }

    /// Its arguments are its own: another thread may do it, together with a change of its own.
    fn write<T: Send + 'static>(
        &self,
        deadline: Instant,
        act: impl Fn(&Verbs<'_>) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        self.file.writer.write(deadline, act)
    }
}

impl Store for SqliteStore {
    fn claim(
        &self,
        key: &RecordKey,
        claim: &Claim<'_>,
        deadline: Instant,
    ) -> Result<Claimed, Error> {
        let look = |verbs: &Verbs<'_>| verbs.look(key, claim);
        let at_once = |verbs: &Verbs<'_>| match look(verbs)? {
            Look::Answer(claimed) => Ok(claimed),
            looked => {
                self.file.place.check()?;
                verbs.act(key, claim, looked)
            }
        };
        if let Some(claimed) = self.file.writer.look_and_write(deadline, at_once)? {
            return Ok(claimed);
        }
        // A replay waits for no writer.
        match self.read(deadline, look)? {
            Look::Answer(claimed) => Ok(claimed),
            Look::Mark(_) | Look::Vacant(_) => {
                let (key, claim) = (key.clone(), OwnClaim::of(claim));
                self.write(deadline, move |verbs| verbs.claim(&key, &claim.borrow()))
            }
        }
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let key = key.clone();
        self.write(deadline, move |verbs| verbs.renew(&key, held, lease))
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let (key, data) = (key.clone(), Box::<[u8]>::from(data));
        self.write(deadline, move |verbs| verbs.checkpoint(&key, held, &data))
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let (key, response) = (key.clone(), response.clone());
        self.write(deadline, move |verbs| verbs.complete(&key, held, &response, ttl))
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let key = key.clone();
        self.write(deadline, move |verbs| verbs.release(&key, held, release))
    }

    fn withdraw(&self, key: &RecordKey, token: Token, deadline: Instant) -> Result<(), Error> {
        let key = key.clone();
        self.write(deadline, move |verbs| verbs.withdraw(&key, token))
    }

    fn forget(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        let key = key.clone();
        self.write(deadline, move |verbs| verbs.forget(&key))
    }

    fn read(&self, key: &RecordKey, deadline: Instant) -> Result<Option<Record>, Error> {
        self.read(deadline, |verbs| verbs.read(key))
    }

    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Record>, Error> {
        self.read(deadline, |verbs| verbs.list(scope, after, max))
    }

    fn evict(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        let key = key.clone();
        self.write(deadline, move |verbs| verbs.evict(&key))
    }

    fn purge(&self, max: usize, deadline: Instant) -> Result<usize, Error> {
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
        let mut purged = 0;
        loop {
            let (most, after) = (max - purged, *self.file.looked_at.lock());
            let (gone, next) = self.write(deadline, move |verbs| verbs.purge(most, after))?;
            purged += gone;
            if purged == max {
                // If there are more, the next call finds them where this one did.
                return Ok(purged);
            }
            *self.file.looked_at.lock() = next;
            if next == 0 || Instant::now() >= until {
                return Ok(purged);
            }
        }
    }

    fn listen(&self, deadline: Instant) -> Result<Box<dyn News>, Error> {
        self.file.readers.check_fork()?;
        Ok(Box::new(Listener::new(&self.file, deadline)?))
    }
}

/// A claim that outlives its caller's call.
struct OwnClaim {
    fingerprint: Option<Box<[u8]>>,
    /// The rest of it.
    bare: Claim<'static>,
}

impl OwnClaim {
    fn of(claim: &Claim<'_>) -> Self {
        let &Claim { token, fingerprint, lease, keep, take_over, watch, following } = claim;
        let bare = Claim { token, fingerprint: None, lease, keep, take_over, watch, following };
        Self { fingerprint: fingerprint.map(Into::into), bare }
    }

    fn borrow(&self) -> Claim<'_> {
        Claim { fingerprint: self.fingerprint.as_deref(), ..self.bare }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.file.place.path).finish_non_exhaustive()
    }
}
