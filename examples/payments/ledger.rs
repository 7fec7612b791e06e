//! Accounts and payments, in the file that the keys' records are in too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use onceflight::Error;
use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};

/// Money is neither made nor lost here, and nobody has less than none.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS accounts (
        name  TEXT PRIMARY KEY,
        cents INTEGER NOT NULL CHECK (cents >= 0)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS payments (
        id    INTEGER PRIMARY KEY,
        payer TEXT    NOT NULL REFERENCES accounts,
        payee TEXT    NOT NULL REFERENCES accounts,
        cents INTEGER NOT NULL CHECK (cents > 0)
    ) STRICT;
    INSERT OR IGNORE INTO accounts VALUES ('ada', 100000), ('bob', 0);";

pub struct Ledger {
    path: PathBuf,
}

/// What a client asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    from: String,
    to: String,
    cents: std::num::NonZeroU32,
}

#[derive(Serialize)]
pub struct Payment {
    pub id: i64,
    from: String,
    to: String,
    cents: i64,
}

#[derive(Serialize)]
pub struct Account {
    name: String,
    cents: i64,
}

/// What became of an order.
pub enum Booked {
    Payment(Payment),
    NoSuchAccount,
    TooLittle,
}

impl Ledger {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let ledger = Self { path: path.into() };
        ledger.connect()?.execute_batch(SCHEMA).map_err(failed)?;
        Ok(ledger)
    }

    /// One for each request: opening a file costs less than a commit to it.
    pub fn connect(&self) -> Result<Connection, Error> {
        let connection = Connection::open(&self.path).map_err(failed)?;
        // Of the payments in this file one commits after the other.
        connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        Ok(connection)
    }

    /// Books an order inside the caller's transaction.
    pub fn book(tx: &Transaction<'_>, order: &Order) -> Result<Booked, Error> {
        book(tx, order).map_err(failed)
    }

    pub fn payments(&self) -> Result<Vec<Payment>, Error> {
        self.all("SELECT id, payer, payee, cents FROM payments ORDER BY id", |row| {
            Ok(Payment { id: row.get(0)?, from: row.get(1)?, to: row.get(2)?, cents: row.get(3)? })
        })
    }

    pub fn accounts(&self) -> Result<Vec<Account>, Error> {
        self.all("SELECT name, cents FROM accounts ORDER BY name", |row| {
            Ok(Account { name: row.get(0)?, cents: row.get(1)? })
        })
    }

    fn all<T>(
        &self,
        select: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let connection = self.connect()?;
        let mut statement = connection.prepare(select).map_err(failed)?;
        let rows = statement.query_map([], read).map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }
}

fn book(tx: &Transaction<'_>, order: &Order) -> rusqlite::Result<Booked> {
    let Order { from, to, cents } = order;
    let cents = i64::from(cents.get());
    let known = "SELECT count(*) FROM accounts WHERE name IN (?1, ?2) AND ?1 <> ?2";
    if tx.query_row(known, params![from, to], |row| row.get::<_, i64>(0))? != 2 {
        return Ok(Booked::NoSuchAccount);
    }
    let take = "UPDATE accounts SET cents = cents - ?2 WHERE name = ?1 AND cents >= ?2";
    if tx.execute(take, params![from, cents])? != 1 {
        return Ok(Booked::TooLittle);
    }
    tx.execute("UPDATE accounts SET cents = cents + ?2 WHERE name = ?1", params![to, cents])?;
    let note = "INSERT INTO payments (payer, payee, cents) VALUES (?1, ?2, ?3)";
    tx.execute(note, params![from, to, cents])?;
    let (id, from, to) = (tx.last_insert_rowid(), from.clone(), to.clone());
    Ok(Booked::Payment(Payment { id, from, to, cents }))
}

#[allow(clippy::needless_pass_by_value)] // as map_err gives it
fn failed(error: rusqlite::Error) -> Error {
    Error::store(format!("the ledger: {error}"))
}
