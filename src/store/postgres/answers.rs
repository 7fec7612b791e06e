//! What rows say. A row that can't be what it must be is an error that names the record.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::Error;
use crate::store::{
    Claimed, Grant, Held, Record, RecordId, RecordKey, RecordState, Response, Token,
};

/// As they stand in `state`.
pub(super) const IN_PROGRESS: i16 = 1;
pub(super) const COMPLETED: i16 = 2;
pub(super) const RELEASED: i16 = 3;

/// What became of a claim.
pub(super) fn claimed(key: &RecordKey, row: &Row) -> Result<Claimed, Error> {
    let id = key.id();
    Ok(match column::<&str>(row, "verdict", id)? {
        "granted" => Claimed::Lead(Grant {
            epoch: epoch(row, id)?,
            attempt: attempt(row, id)?,
            checkpoint: bytes(row, "checkpoint", id)?,
            taken_over: column(row, "taken_over", id)?,
        }),
        "completed" => Claimed::Completed(response(row, id)?),
        "in progress" => Claimed::InProgress {
            epoch: epoch(row, id)?,
            lease_left: left(column(row, "lease_left", id)?),
        },
        "mismatch" => Claimed::Mismatch,
        "unknown" => Claimed::Unknown,
        "foreign" => {
            key.check(column(row, "scope", id)?, column(row, "key", id)?)?;
            return Err(corrupt(id));
        }
        _ => return Err(corrupt(id)),
    })
}

/// Who leads a record, at which attempt, and its state.
pub(super) fn looked(id: RecordId, row: &Row) -> Result<(Held, u32, i16), Error> {
    let token =
        <[u8; 16]>::try_from(column::<&[u8]>(row, "token", id)?).map_err(|_| corrupt(id))?;
    let held = Held { token: Token(token), epoch: epoch(row, id)? };
    Ok((held, attempt(row, id)?, column(row, "state", id)?))
}

/// A record, if it hasn't expired.
pub(super) fn record(row: &Row) -> Result<Option<Record>, Error> {
    let id = row.try_get::<_, &[u8]>("id").ok().and_then(|id| id.try_into().ok()).map(RecordId);
    let id = id.ok_or_else(|| Error::store("a record's id isn't 16 bytes: it is corrupt"))?;
    let key = RecordKey::new(column::<&[u8]>(row, "scope", id)?, column::<&[u8]>(row, "key", id)?)?;
    let state = match column(row, "state", id)? {
        IN_PROGRESS => RecordState::InProgress,
        COMPLETED => RecordState::Completed,
        RELEASED => RecordState::Released,
        _ => return Err(corrupt(id)),
    };
    if key.id() != id {
        return Err(corrupt(id));
    }
    let expires_in = left(column(row, "expires_in", id)?);
    if expires_in == Some(Duration::ZERO) {
        return Ok(None);
    }
    let led = state == RecordState::InProgress;
    Ok(Some(Record {
        state,
        fingerprint: bytes(row, "fingerprint", id)?,
        epoch: epoch(row, id)?,
        attempt: attempt(row, id)?,
        lease_left: if led { left(column(row, "lease_left", id)?) } else { None },
        expires_in,
        response: None,
        checkpoint: bytes(row, "checkpoint", id)?,
        key,
    }))
}

/// What a completed record has.
pub(super) fn response(row: &Row, id: RecordId) -> Result<Response, Error> {
    Ok(Response::new(column(row, "status", id)?, column(row, "body", id)?))
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str, id: RecordId) -> Result<T, Error> {
    row.try_get(name).map_err(|_| corrupt(id))
}

fn bytes(row: &Row, name: &str, id: RecordId) -> Result<Option<Box<[u8]>>, Error> {
    Ok(column::<Option<&[u8]>>(row, name, id)?.map(Into::into))
}

fn epoch(row: &Row, id: RecordId) -> Result<u64, Error> {
    column::<i64>(row, "epoch", id)?.try_into().map_err(|_| corrupt(id))
}

fn attempt(row: &Row, id: RecordId) -> Result<u32, Error> {
    column::<i32>(row, "attempt", id)?.try_into().map_err(|_| corrupt(id))
}

/// Seconds, less than none if it has passed; infinity: never.
fn left(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

fn corrupt(id: RecordId) -> Error {
    Error::store(format!(
        "record {id} isn't what it must be: it was changed by another program, or is corrupt; look at it in onceflight_records, then evict it"
    ))
}
