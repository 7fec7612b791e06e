//! Makes a file's tables, once, brings those of an earlier version up to date, and refuses those of a later one.
//!
//! The version stands in a table of ours, not in `user_version`: the file may be an application's own,
//! so that its transactions and ours are one.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::connection::Fault;
use crate::error::Error;

const VERSION: i64 = 2;

/// Version 1 had what is in progress in the index, too.
const FROM_1: &str = "
    DROP INDEX IF EXISTS onceflight_records_expires;
    CREATE INDEX onceflight_records_expires ON onceflight_records (expires)
        WHERE state <> 1 AND expires IS NOT NULL;
    UPDATE onceflight_meta SET value = 2 WHERE name = 'schema';";

/// Sees to it that the file has our tables. Any number of processes may do so at once.
pub(super) fn prepare(db: &Connection) -> Result<(), Fault> {
    if version(db)? == Some(VERSION) {
        return Ok(());
    }
    // Under the write lock, and looked at again: another process may have been quicker.
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        None => transaction.execute_batch(include_str!("schema.sql"))?,
        Some(1) => transaction.execute_batch(FROM_1)?,
        Some(VERSION) => {}
        Some(other) => return Err(Fault::Ours(unknown(other))),
    }
    Ok(transaction.commit()?)
}

/// `None`: there are no tables yet.
fn version(db: &Connection) -> rusqlite::Result<Option<i64>> {
    let meta = "SELECT 1 FROM sqlite_schema WHERE name = 'onceflight_meta'";
    if !db.prepare(meta)?.exists([])? {
        return Ok(None);
    }
    // Without the row it is no version that we ever wrote.
    let version = "SELECT ifnull(max(value), 0) FROM onceflight_meta WHERE name = 'schema'";
    db.query_row(version, [], |row| row.get(0)).map(Some)
}

fn unknown(version: i64) -> Error {
    Error::store(format!(
        "the tables have schema version {version}, and this build knows {VERSION}: use a build that knows it, or another file"
    ))
}
