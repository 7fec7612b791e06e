//! Sessions on one machine: the requests, what they change and what was said to them, in one SQLite file
//! and in one transaction.
//!
//! | call | transaction | in memory |
//! |-|-|-|
//! | executed; registered, kept alive, ... | the user's rows, the sessions' rows, committed | as in the file |
//! | replayed, or refused | nothing is written | the use, the ack and the time, saved with the next that writes |
//! | failed, anywhere | rolled back | counts for nothing: loaded anew by the next call |
//! | another process has written | | loaded anew |
//!
//! What is in memory is a copy of the file. The table's own row has the number of the last change, which
//! every transaction compares: so nothing depends on how the last call ended, nor on who else writes.
//! What a replay or a refusal leaves may be lost with the process: an ack comes again with the next
//! request, and a session that was only asked for its past expires by its last request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::builder::Limits;
use super::{Applied, Builder, Save, SessionBegin, SessionRequest, SessionTable};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::store::sqlite::{self, FLAGS, Fault, Inside, Listing, Own};

/// How long a call waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

const VERSION: i64 = 1;

/// Beside the tables of an application, and those of a store.
const SCHEMA: &str = "
    CREATE TABLE onceflight_session_table (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        version INTEGER NOT NULL,
        change  INTEGER NOT NULL,
        row     BLOB NOT NULL
    ) STRICT;
    CREATE TABLE onceflight_sessions (
        client BLOB PRIMARY KEY NOT NULL,
        row    BLOB NOT NULL
    ) STRICT;";

/// A [`SessionTable`] in a SQLite file: requests are executed once, though the process is killed at any
/// moment.
///
/// What a request changes in the same file is there after a crash if and only if its response is. Several
/// processes may share a file; that costs each a look, and loading all sessions if another has written.
///
/// ```
/// use onceflight::SessionTable;
/// use onceflight::session::{DurableSessions, SessionRequest};
///
/// # let directory = std::env::temp_dir().join(format!("onceflight-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("accounts.db");
/// let mut sessions = DurableSessions::open(&path, SessionTable::builder())?;
/// sessions.connection().execute_batch("CREATE TABLE payments (amount INTEGER)")?;
///
/// let request = SessionRequest::implicit(b"client", 1);
/// for now in [1_000, 2_000] {
///     let applied = sessions.apply(&request, now, |transaction| {
///         transaction.execute("INSERT INTO payments VALUES (10)", [])?;
///         Ok::<_, Box<dyn std::error::Error>>((0, "paid"))
///     })?;
///     assert_eq!(applied.response.data(), b"paid");
/// }
/// let count = "SELECT count(*) FROM payments";
/// let count: i64 = sessions.connection().query_row(count, [], |row| row.get(0))?;
/// assert_eq!(1, count);
/// # drop(sessions);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DurableSessions {
    connection: Own,
    place: Place,
    table: SessionTable,
    /// The change that `table` is a copy of. `None`: of nothing.
    copied: Option<i64>,
}

struct Place {
    path: PathBuf,
    /// Of a file that was opened here, not by the user.
    listing: Option<Listing>,
}

/// What a call has done to the table in memory.
enum Done<T> {
    /// Nothing that must outlive the process.
    Told(Result<T, Error>),
    /// Nobody is told before it is on the disk.
    Changed(Result<T, Error>),
}

impl DurableSessions {
    /// Opens a file, which is made if there is none, with those limits. It is used in WAL mode, and synced
    /// at every commit.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): a limit out of its range, or not that of the file's sessions.
    /// [`Store`](ErrorKind::Store): the file can't be used, or its tables are a later version's.
    /// [`Format`](ErrorKind::Format): they were changed by others. [`Forked`](ErrorKind::Forked): it was
    /// open when this process was forked.
    pub fn open(path: impl AsRef<Path>, limits: Builder) -> Result<Self, Error> {
        let (path, listing) = sqlite::list(path.as_ref())?;
        let place = Place { path, listing: Some(listing) };
        let _inside = Inside::enter();
        let connection = connect(&place.path).map_err(|fault| fault.at(&place.path))?;
        Self::set_up(connection, place, limits)
    }

    /// On a connection of the user's, which stays as it is: what survives a power cut, and how long a call
    /// waits for other processes, is what that connection was set up for.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_connection(connection: Connection, limits: Builder) -> Result<Self, Error> {
        let path = PathBuf::from(connection.path().unwrap_or_default());
        let place = Place { path, listing: None };
        let _inside = Inside::enter();
        Self::set_up(connection, place, limits)
    }

    fn set_up(connection: Connection, place: Place, limits: Builder) -> Result<Self, Error> {
        let connection = Own::new(connection, fork::enrol());
        let mut sessions = Self { connection, place, table: limits.build()?, copied: None };
        let Self { connection, place, table, copied } = &mut sessions;
        prepare(connection, table, copied).map_err(|fault| fault.at(&place.path))?;
        Ok(sessions)
    }

    /// Executes a request unless it was, as [`SessionTable::apply`] does. What `execute` changes by the
    /// transaction that it is given is committed together with the response, which is handed out after
    /// that. `execute` must not end the transaction.
    ///
    /// # Errors
    /// As [`SessionTable::apply`]. That of `execute`, which leaves no trace: the request may be sent again.
    /// [`Store`](ErrorKind::Store): if the commit failed it may be executed or not, and the next call
    /// finds out. [`Format`](ErrorKind::Format), [`Forked`](ErrorKind::Forked) as [`open`](Self::open).
    pub fn apply<D: AsRef<[u8]>, E: From<Error>>(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce(&Transaction<'_>) -> Result<(i32, D), E>,
    ) -> Result<Applied, E> {
        self.transact(|table, transaction| {
            Ok(match table.begin(request, now_ms) {
                Err(refused) => Done::Told(Err(refused)),
                Ok(SessionBegin::Replayed(response)) => {
                    Done::Told(Ok(Applied { response, replayed: true }))
                }
                Ok(SessionBegin::Lead) => {
                    let (status, data) = execute(transaction)?;
                    let recorded = table.record(request, status, data.as_ref());
                    Done::Changed(recorded.map(|response| Applied { response, replayed: false }))
                }
            })
        })
    }

    /// [`SessionTable::register`].
    ///
    /// # Errors
    /// As there, and [`Store`](ErrorKind::Store), [`Format`](ErrorKind::Format),
    /// [`Forked`](ErrorKind::Forked).
    pub fn register(
        &mut self,
        client: impl AsRef<[u8]>,
        nonce: impl AsRef<[u8]>,
        now_ms: u64,
    ) -> Result<u64, Error> {
        self.change(|table| table.register(client, nonce, now_ms))
    }

    /// [`SessionTable::keep_alive`].
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn keep_alive(
        &mut self,
        client: impl AsRef<[u8]>,
        incarnation: u64,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.change(|table| table.keep_alive(client, incarnation, now_ms))
    }

    /// [`SessionTable::unregister`].
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn unregister(&mut self, client: impl AsRef<[u8]>) -> Result<(), Error> {
        self.change(|table| table.unregister(client))
    }

    /// [`SessionTable::expire`].
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn expire(&mut self, now_ms: u64) -> Result<u64, Error> {
        self.change(|table| table.expire(now_ms))
    }

    /// The sessions as they are in the file, to look at.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn sessions(&mut self) -> Result<&SessionTable, Error> {
        self.check()?;
        let _inside = Inside::enter();
        let Self { connection, place, table, copied } = self;
        // In a transaction, so that the rows are those of one moment.
        let transaction = connection.transaction().map_err(Fault::from);
        transaction
            .and_then(|transaction| copy(&transaction, table, copied))
            .map_err(|fault| fault.at(&place.path))?;
        Ok(table)
    }

    /// The connection, to read what was committed, and to set up tables.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn check(&self) -> Result<(), Error> {
        if !self.connection.is_ours() {
            return Err(ErrorKind::Forked.into());
        }
        self.place.listing.as_ref().map_or(Ok(()), |listing| listing.check(&self.place.path))
    }

    fn change<T>(
        &mut self,
        act: impl FnOnce(&mut SessionTable) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transact(|table, _| {
            let told = act(table);
            Ok(if told.is_ok() { Done::Changed(told) } else { Done::Told(told) })
        })
    }

    fn transact<T, E: From<Error>>(
        &mut self,
        act: impl FnOnce(&mut SessionTable, &Transaction<'_>) -> Result<Done<T>, E>,
    ) -> Result<T, E> {
        self.check()?;
        let _inside = Inside::enter();
        let Self { connection, place, table, copied } = self;
        let at = |fault: Fault| fault.at(&place.path);
        let transaction = lock(connection).map_err(at)?;
        copy(&transaction, table, copied).map_err(at)?;
        // Whatever ends this early, by an error or a panic: it is rolled back, and copied anew.
        let change = copied.take();
        let told = match act(table, &transaction)? {
            Done::Told(told) => told,
            Done::Changed(told) => {
                commit(transaction, table).map_err(at)?;
                *copied = change.map(|change| change + 1);
                return Ok(told?);
            }
        };
        *copied = change;
        Ok(told?)
    }
}

fn connect(path: &Path) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(PATIENCE)?;
    // A commit is on the disk before anybody is told of it.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let until = sqlite::moment(Instant::now() + PATIENCE);
    sqlite::use_wal(&connection, path, |tries| sqlite::wait(tries, until))?;
    Ok(connection)
}

/// With the write lock from the start, so that what is read stays so until the commit.
fn lock(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Sees to it that the file has our tables, with the limits of `table`, and copies them.
fn prepare(
    connection: &mut Connection,
    table: &mut SessionTable,
    copied: &mut Option<i64>,
) -> Result<(), Fault> {
    let transaction = lock(connection)?;
    let ours = "SELECT 1 FROM sqlite_schema WHERE name = 'onceflight_session_table'";
    if !transaction.prepare(ours)?.exists([])? {
        transaction.execute_batch(SCHEMA)?;
        table.save(&mut Rows(&transaction))?;
    }
    copy(&transaction, table, copied)?;
    Ok(transaction.commit()?)
}

/// Loads the table, unless it is a copy of what is there.
fn copy(
    transaction: &Transaction<'_>,
    table: &mut SessionTable,
    copied: &mut Option<i64>,
) -> Result<(), Fault> {
    let state = "SELECT version, change FROM onceflight_session_table";
    let state = transaction
        .prepare_cached(state)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match state {
        Some((VERSION, change)) if *copied == Some(change) => Ok(()),
        Some((VERSION, change)) => {
            *table = load(transaction, &table.limits)?;
            *copied = Some(change);
            Ok(())
        }
        other => Err(Fault::Ours(unknown(other.map_or(0, |(version, _)| version)))),
    }
}

fn load(transaction: &Transaction<'_>, limits: &Limits) -> Result<SessionTable, Fault> {
    let row: Vec<u8> = transaction
        .prepare_cached("SELECT row FROM onceflight_session_table")?
        .query_row([], |row| row.get(0))?;
    let mut rows = transaction.prepare_cached("SELECT row FROM onceflight_sessions")?;
    let rows: Vec<Vec<u8>> =
        rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let table = SessionTable::load(&row, rows)?;
    if table.limits == *limits {
        return Ok(table);
    }
    let detail = format!(
        "other limits than those of the file's sessions: {limits:?} for {:?}",
        table.limits
    );
    Err(Fault::Ours(Error::new(ErrorKind::Invalid, detail)))
}

fn commit(transaction: Transaction<'_>, table: &mut SessionTable) -> Result<(), Fault> {
    // SQLite itself may have ended it, at an error that `execute` has passed over.
    if transaction.is_autocommit() {
        let detail = "the transaction was ended within the request: what it changed may be lost";
        return Err(Fault::Ours(Error::new(ErrorKind::Invalid, detail)));
    }
    table.save(&mut Rows(&transaction))?;
    Ok(transaction.commit()?)
}

fn unknown(version: i64) -> Error {
    Error::store(format!(
        "the tables of sessions have version {version}, and this build knows {VERSION}: use a build that knows it, or another file"
    ))
}

/// Where the rows go.
struct Rows<'t>(&'t Transaction<'t>);

impl Save for Rows<'_> {
    type Error = Fault;

    fn put_table(&mut self, row: &[u8]) -> Result<(), Fault> {
        let put = "INSERT INTO onceflight_session_table VALUES (1, ?1, 1, ?2)
            ON CONFLICT DO UPDATE SET change = change + 1, row = excluded.row";
        self.0.prepare_cached(put)?.execute((VERSION, row))?;
        Ok(())
    }

    fn put_session(&mut self, client: &[u8], row: &[u8]) -> Result<(), Fault> {
        let put = "INSERT INTO onceflight_sessions VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET row = excluded.row";
        self.0.prepare_cached(put)?.execute((client, row))?;
        Ok(())
    }

    fn delete_session(&mut self, client: &[u8]) -> Result<(), Fault> {
        let delete = "DELETE FROM onceflight_sessions WHERE client = ?1";
        self.0.prepare_cached(delete)?.execute([client])?;
        Ok(())
    }
}

impl fmt::Debug for DurableSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableSessions").field("path", &self.place.path).finish_non_exhaustive()
    }
}
