//! One connection to a file: how it is set up, how long it waits, what its errors mean.
//!
//! A deadline bounds what SQLite waits for, which is the lock of another process's writer. There is no
//! event for that, so it is tried again: after 1 ms, 2, 4, then every 8. What the disk makes a call
//! wait isn't bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::registry::{self, Identity, Inside};
use super::schema;
use super::times::Times;
use super::verbs::Verbs;
use crate::clock::{self, NEVER};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::store::pool::Failure;
use crate::sync::AtomicU64;

/// A connection is one thread's at a time, so SQLite needn't lock it.
pub(super) const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// What is known of a file once it has been found.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) identity: Arc<Identity>,
    pub(super) boot: [u8; 16],
    pub(super) generation: u64,
}

pub(super) struct Db {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    /// Until when the busy handler waits.
    patience: Arc<AtomicU64>,
    place: Arc<Place>,
}

/// Why a statement has no result.
pub(super) enum Fault {
    Sqlite(rusqlite::Error),
    /// What was read can't be used; the connection can.
    Ours(Error),
}

impl Db {
    /// One that reads.
    pub(super) fn open(place: &Arc<Place>, deadline: Instant) -> Result<Self, Error> {
        let patience = Arc::new(AtomicU64::new(NEVER));
        let _inside = Inside::enter();
        let mut connection = Connection::open_with_flags(&place.path, FLAGS)
            .map_err(|error| Fault::Sqlite(error).at(&place.path))?;
        let until = Arc::clone(&patience);
        let set_up = |connection: &mut Connection| {
            connection
                .busy_handler(Some(move |tries| wait(tries, until.load(Ordering::Relaxed))))?;
            connection.set_prepared_statement_cache_capacity(32);
            // A commit is on the disk before anybody is told of it.
            connection.pragma_update(None, "synchronous", "FULL")
        };
        set_up(&mut connection).map_err(|error| Fault::Sqlite(error).at(&place.path))?;
        let db = Self { connection: Some(connection), patience, place: Arc::clone(place) };
        db.set_patience(deadline);
        Ok(db)
    }

    /// One that writes: sees to it that the file is as it must be.
    pub(super) fn open_writer(place: &Arc<Place>, deadline: Instant) -> Result<Self, Error> {
        let db = Self::open(place, deadline)?;
        let _inside = Inside::enter();
        db.use_wal()
            .and_then(|()| schema::prepare(db.connection()))
            .map_err(|fault| fault.at(&place.path))?;
        Ok(db)
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is taken away only by drop")
    }

    fn set_patience(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.patience.store(clock::after(clock::span(left)), Ordering::Relaxed);
    }

    /// Readers don't wait for the writer then, nor it for them, and a commit is one sync.
    fn use_wal(&self) -> Result<(), Fault> {
        let db = self.connection();
        for tries in 0.. {
            // Asked first: setting it takes the file for oneself alone.
            let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
            if mode == "wal" {
                return Ok(());
            }
            // SQLite doesn't call its busy handler for this.
            match db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(mode) => {
                    return Err(Fault::Ours(Error::store(format!(
                        "{} can't be used: its journal mode is {mode} and can't be made WAL; use a file on a local disk",
                        self.place.path.display()
                    ))));
                }
                Err(error)
                    if is_busy(&error) && wait(tries, self.patience.load(Ordering::Relaxed)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the loop has no end")
    }

    /// Looks at records. One statement: each sees the file as it is at one moment.
    pub(super) fn read<T>(
        &self,
        deadline: Instant,
        act: impl FnOnce(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Failure> {
        let _inside = Inside::enter();
        self.set_patience(deadline);
        let verbs = Verbs { db: self.connection(), times: Times::now(self.place.boot) };
        act(&verbs).map_err(|fault| fault.failure(&self.place.path))
    }

    /// Changes records, in a transaction that has the write lock from its start. One that changes
    /// nothing costs no sync.
    pub(super) fn write<T>(
        &self,
        deadline: Instant,
        act: impl FnOnce(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Failure> {
        let _inside = Inside::enter();
        self.set_patience(deadline);
        let transact = || {
            let db = self.connection();
            let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            // The lock may have been long in coming: what time it is counts from here.
            let done = act(&Verbs { db, times: Times::now(self.place.boot) })?;
            transaction.commit()?;
            Ok(done)
        };
        self.place.check().map_err(Failure::Broken)?;
        transact().map_err(|fault: Fault| fault.failure(&self.place.path))
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if fork::generation() == self.place.generation {
            let _inside = Inside::enter();
            drop(connection);
        } else {
            // The parent's: closing it here would take the parent's locks away.
            std::mem::forget(connection);
        }
    }
}

impl Place {
    /// Whether the file is still where it was. Whoever writes to one that was deleted or replaced
    /// writes for nobody, while others lead by the new one.
    fn check(&self) -> Result<(), Error> {
        match registry::identify(&self.path) {
            Ok(identity) if identity == *self.identity => Ok(()),
            _ => Err(Error::store(format!(
                "{} was deleted or replaced while it was open; open it anew",
                self.path.display()
            ))),
        }
    }
}

/// Waits before a lock is tried again; answers false if there is no time left.
fn wait(tries: i32, until: clock::Moment) -> bool {
    let left = until.saturating_sub(clock::now());
    let pause = Duration::from_millis(1 << tries.clamp(0, 3));
    thread::sleep(pause.min(Duration::from_nanos(left)));
    left > 0
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Fault {
    /// What a connection is worth after it: one to a file that can't be read, or is somebody else's by
    /// now, is opened anew.
    fn failure(self, path: &Path) -> Failure {
        let refused = match &self {
            Self::Ours(_) => true,
            Self::Sqlite(error) => {
                is_busy(error)
                    || matches!(
                        error.sqlite_error_code(),
                        Some(ErrorCode::DiskFull | ErrorCode::TooBig)
                    )
            }
        };
        let error = self.at(path);
        if refused { Failure::Refused(error) } else { Failure::Broken(error) }
    }

    /// What to tell the caller.
    pub(super) fn at(self, path: &Path) -> Error {
        let error = match self {
            Self::Ours(error) => return error,
            Self::Sqlite(error) => error,
        };
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::TooBig) => {
                return Error::new(
                    ErrorKind::TooLarge,
                    "more than SQLite keeps in one value: a billion bytes",
                );
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another connection had the write lock until the deadline; look for a long transaction"
            }
            Some(ErrorCode::DiskFull) => "make room",
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                "this user must be able to write to the file and to its directory"
            }
            Some(ErrorCode::CannotOpen) => {
                "does its directory exist, and may this user write there?"
            }
            Some(ErrorCode::NotADatabase) => "it is no SQLite database, or an encrypted one",
            Some(ErrorCode::DatabaseCorrupt) => "restore it from a backup",
            _ => "see SQLite's documentation of that error",
        };
        Error::store(format!("{}: {error}; {advice}", path.display()))
    }
}
