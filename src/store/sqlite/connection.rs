//! One connection to a file: how it is set up, how long it waits, what its errors mean.
//!
//! A deadline bounds what SQLite waits for, which is the lock of another process's writer. There is no
//! event for that, so it is tried again: after 1 ms, 2, 4, then every 8. What the disk makes a call
//! wait isn't bounded.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::registry::{self, Identity, Inside};
use super::schema;
use super::times::Times;
use super::verbs::Verbs;
use crate::clock::{self, Moment};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::store::pool::Failure;
use crate::sync::AtomicU64;

/// A connection is one thread's at a time, so SQLite needn't lock it.
pub(crate) const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// What is known of a file once it has been found.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) identity: Arc<Identity>,
    pub(super) boot: [u8; 16],
    pub(super) generation: u64,
}

pub(super) struct Db {
    connection: Own,
    /// Until when the busy handler waits.
    patience: Arc<AtomicU64>,
    place: Arc<Place>,
}

/// A connection that the child of a fork doesn't close: that would take the parent's locks away.
pub(crate) struct Own {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    generation: u64,
}

/// Why a statement has no result.
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    /// What was read can't be used; the connection can.
    Ours(Error),
}

impl Db {
    /// A connection to a file that is as it must be, or is made so.
    pub(super) fn open(place: &Arc<Place>, deadline: Instant) -> Result<Self, Error> {
        place.check()?;
        let _inside = Inside::enter();
        let connection = Connection::open_with_flags(&place.path, FLAGS);
        let connection = connection.map_err(|error| Fault::Sqlite(error).at(&place.path))?;
        let connection = Own::new(connection, place.generation);
        let patience = Arc::new(AtomicU64::new(moment(deadline)));
        let mut db = Self { connection, patience, place: Arc::clone(place) };
        db.set_up().map_err(|fault| fault.at(&place.path))?;
        Ok(db)
    }

    fn set_up(&mut self) -> Result<(), Fault> {
        let until = Arc::clone(&self.patience);
        let busy = move |tries| wait(tries, until.load(Ordering::Relaxed));
        self.connection.busy_handler(Some(busy))?;
        let connection = self.connection();
        connection.set_prepared_statement_cache_capacity(32);
        // A commit is on the disk before anybody is told of it.
        connection.pragma_update(None, "synchronous", "FULL")?;
        use_wal(connection, &self.place.path, |tries| self.wait(tries))?;
        schema::prepare(connection)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn wait(&self, tries: i32) -> bool {
        wait(tries, self.patience.load(Ordering::Relaxed))
    }

    fn set_patience(&self, deadline: Instant) {
        self.patience.store(moment(deadline), Ordering::Relaxed);
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
        self.place.check().map_err(Failure::Refused)?;
        self.transact("BEGIN IMMEDIATE", act).map_err(|fault| fault.failure(&self.place.path))
    }

    /// Looks at records, and may change what it saw: in a transaction that takes the write lock only then.
    /// `None`: another process has the lock, or has written since the look.
    pub(super) fn look_and_write<T>(
        &self,
        deadline: Instant,
        act: impl FnOnce(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Failure> {
        let _inside = Inside::enter();
        self.set_patience(deadline);
        match self.transact("BEGIN", act) {
            Ok(done) => Ok(Some(done)),
            Err(Fault::Sqlite(error)) if is_busy(&error) => Ok(None),
            Err(fault) => Err(fault.failure(&self.place.path)),
        }
    }

    fn transact<T>(
        &self,
        begin: &str,
        act: impl FnOnce(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let db = self.connection();
        let say = |sql| db.prepare_cached(sql)?.execute([]);
        say(begin)?;
        // The lock may have been long in coming: what time it is counts from here.
        let done = act(&Verbs { db, times: Times::now(self.place.boot) });
        let done = done.and_then(|done| say("COMMIT").map(|_| done).map_err(Fault::Sqlite));
        if done.is_err() && !db.is_autocommit() {
            // Of a connection that can't even do that, no more is asked: what failed is told.
            let _ = say("ROLLBACK");
        }
        done
    }
}

impl Own {
    /// Of the process that enrolled as that generation.
    pub(crate) fn new(connection: Connection, generation: u64) -> Self {
        Self { connection: Some(connection), generation }
    }

    /// Whether it is this process's, not its parent's.
    pub(crate) fn is_ours(&self) -> bool {
        fork::generation() == self.generation
    }
}

impl Deref for Own {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is taken away only by drop")
    }
}

impl DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is taken away only by drop")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if self.is_ours() {
            let _inside = Inside::enter();
            drop(connection);
        } else {
            std::mem::forget(connection);
        }
    }
}

/// Readers don't wait for the writer then, nor it for them, and a commit is one sync.
pub(crate) fn use_wal(
    connection: &Connection,
    path: &Path,
    wait: impl Fn(i32) -> bool,
) -> Result<(), Fault> {
    let mode = |pragma| connection.query_row(pragma, [], |row| row.get::<_, String>(0));
    let mut tries = 0;
    // Asked first: setting it takes the file for oneself alone.
    while mode("PRAGMA journal_mode")? != "wal" {
        match mode("PRAGMA journal_mode = WAL") {
            Ok(mode) if mode == "wal" => {}
            Ok(mode) => {
                return Err(Fault::Ours(Error::store(format!(
                    "{} can't be used: its journal mode is {mode} and can't be made WAL; use a file on a local disk",
                    path.display()
                ))));
            }
            // SQLite doesn't call its busy handler for this.
            Err(error) if is_busy(&error) && wait(tries) => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Place {
    pub(super) fn check(&self) -> Result<(), Error> {
        registry::check(&self.path, &self.identity)
    }
}

pub(crate) fn moment(deadline: Instant) -> Moment {
    clock::after(clock::span(deadline.saturating_duration_since(Instant::now())))
}

/// Waits before a lock is tried again; answers false if there is no time left.
pub(crate) fn wait(tries: i32, until: Moment) -> bool {
    let left = until.saturating_sub(clock::now());
    let pause = Duration::from_millis(1 << tries.clamp(0, 3));
    thread::sleep(pause.min(Duration::from_nanos(left)));
    left > 0
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// A reader would write, and somebody has written since it began.
fn is_stale(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_BUSY_SNAPSHOT)
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
    pub(crate) fn at(self, path: &Path) -> Error {
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
            Some(ErrorCode::DatabaseBusy) if is_stale(&error) => {
                "the transaction has read what is no longer so; begin it with BEGIN IMMEDIATE"
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
