//! A row as what it must be, or an error that names the record. Nothing that a file holds is believed:
//! other programs write to it, and disks rot.

use std::fmt::Display;
use std::time::Duration;

use rusqlite::types::FromSql;

use super::times::Times;
use crate::error::Error;
use crate::store::{Held, Record, RecordId, RecordKey, RecordState, Response, Token};

/// A record that was read, still in the hands of SQLite.
pub(super) struct Row<'r> {
    columns: &'r rusqlite::Row<'r>,
    id: RecordId,
    pub(super) state: RecordState,
    pub(super) epoch: u64,
    pub(super) attempt: u32,
    boot: [u8; 16],
    lease_until: Option<i64>,
    expires: Option<i64>,
    pub(super) watched: bool,
}

/// Where the columns stand in every statement that gives records.
mod column {
    pub const EPOCH: usize = 0;
    pub const SCOPE: usize = 1;
    pub const KEY: usize = 2;
    pub const FINGERPRINT: usize = 3;
    pub const STATE: usize = 4;
    pub const TOKEN: usize = 5;
    pub const ATTEMPT: usize = 6;
    pub const BOOT: usize = 7;
    pub const LEASE_UNTIL: usize = 8;
    pub const EXPIRES: usize = 9;
    pub const WATCHED: usize = 10;
    pub const STATUS: usize = 11;
    pub const CHECKPOINT: usize = 12;
    pub const BODY: usize = 13;
    /// What a statement has beyond them: a verdict, an id.
    pub const LAST: usize = 14;
}

impl<'r> Row<'r> {
    /// A row of `LOOK` or `READ`.
    pub(super) fn of(row: &'r rusqlite::Row<'r>, key: &RecordKey) -> Result<Self, Error> {
        let row = Self::parse(row, key.id())?;
        key.check(row.bytes(column::SCOPE)?, row.bytes(column::KEY)?)?;
        Ok(row)
    }

    /// A row of `LIST`, which tells its id.
    pub(super) fn listed(row: &'r rusqlite::Row<'r>) -> Result<Self, Error> {
        let id = row.get(column::LAST).map_err(|_| {
            Error::store(
                "a record's id hasn't 16 bytes: the file is corrupt; restore it from a backup",
            )
        })?;
        Self::parse(row, RecordId(id))
    }

    fn parse(row: &'r rusqlite::Row<'r>, id: RecordId) -> Result<Self, Error> {
        let parsed = Self {
            columns: row,
            id,
            state: state_of(get(row, id, column::STATE)?, id)?,
            epoch: epoch_of(get(row, id, column::EPOCH)?, id)?,
            attempt: get(row, id, column::ATTEMPT)?,
            boot: get(row, id, column::BOOT)?,
            lease_until: get(row, id, column::LEASE_UNTIL)?,
            expires: get(row, id, column::EXPIRES)?,
            watched: get(row, id, column::WATCHED)?,
        };
        get::<[u8; 16]>(row, id, column::TOKEN)?;
        Ok(parsed)
    }

    pub(super) fn verdict(&self) -> Result<&'r str, Error> {
        self.columns
            .get_ref(column::LAST)
            .ok()
            .and_then(|verdict| verdict.as_str().ok())
            .ok_or_else(|| self.corrupt("no verdict"))
    }

    /// What was completed.
    pub(super) fn response(&self) -> Result<Response, Error> {
        let status = get(self.columns, self.id, column::STATUS)?;
        Ok(Response::new(status, self.bytes(column::BODY)?))
    }

    pub(super) fn checkpoint(&self) -> Result<Option<Box<[u8]>>, Error> {
        Ok(self.optional_bytes(column::CHECKPOINT)?.map(Into::into))
    }

    /// What is left of its lease; `None`: it has none.
    pub(super) fn lease_left(&self, times: &Times) -> Option<Duration> {
        let until = self.lease_until?;
        let left = if self.boot == times.boot { until.saturating_sub(times.uptime) } else { 0 };
        Some(Duration::from_nanos(u64::try_from(left).unwrap_or(0)))
    }

    /// As operators see it.
    pub(super) fn record(&self, times: &Times, whole: bool) -> Result<Record, Error> {
        let key = RecordKey::new(self.bytes(column::SCOPE)?, self.bytes(column::KEY)?)?;
        if key.id() != self.id {
            return Err(self.corrupt("its id isn't that of its scope and key"));
        }
        // A response that can't be read is told here too.
        let completed = self.state == RecordState::Completed;
        let response = if completed { Some(self.response()?) } else { None };
        let lease_left = match self.state {
            RecordState::InProgress => self.lease_left(times),
            RecordState::Completed | RecordState::Released => None,
        };
        let expires_in =
            self.expires.map(|at| u64::try_from(at.saturating_sub(times.wall)).unwrap_or(0));
        Ok(Record {
            key,
            state: self.state,
            fingerprint: self.optional_bytes(column::FINGERPRINT)?.map(Into::into),
            epoch: self.epoch,
            attempt: self.attempt,
            lease_left,
            expires_in: expires_in.map(Duration::from_millis),
            response: response.filter(|_| whole),
            checkpoint: if whole { self.checkpoint()? } else { None },
        })
    }

    fn bytes(&self, column: usize) -> Result<&'r [u8], Error> {
        self.optional_bytes(column)?
            .ok_or_else(|| self.corrupt(format_args!("nothing in column {column}")))
    }

    fn optional_bytes(&self, column: usize) -> Result<Option<&'r [u8]>, Error> {
        let value = self.columns.get_ref(column).map_err(|error| self.corrupt(error))?;
        value.as_blob_or_null().map_err(|error| self.corrupt(error))
    }

    pub(super) fn corrupt(&self, what: impl Display) -> Error {
        corrupt(self.id, what)
    }
}

/// Which lead a row of `HOLDER` is of.
pub(super) fn holder(row: &rusqlite::Row<'_>, id: RecordId) -> Result<(Held, RecordState), Error> {
    let held = Held { token: Token(get(row, id, 0)?), epoch: epoch_of(get(row, id, 1)?, id)? };
    Ok((held, state_of(get(row, id, 2)?, id)?))
}

/// SQLite's integers have a sign.
pub(super) fn epoch_of(number: i64, id: RecordId) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| corrupt(id, format_args!("epoch {number}")))
}

fn get<T: FromSql>(row: &rusqlite::Row<'_>, id: RecordId, column: usize) -> Result<T, Error> {
    row.get(column).map_err(|error| corrupt(id, error))
}

fn state_of(number: i64, id: RecordId) -> Result<RecordState, Error> {
    match number {
        1 => Ok(RecordState::InProgress),
        2 => Ok(RecordState::Completed),
        3 => Ok(RecordState::Released),
        _ => Err(corrupt(id, format_args!("state {number}"))),
    }
}

fn corrupt(id: RecordId, what: impl Display) -> Error {
    Error::store(format!(
        "record {id} can't be read: {what}; find out what its request did, then evict it or restore the file"
    ))
}
