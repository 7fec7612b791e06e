//! What the scripts' answers mean, and what they take. An answer that isn't one of theirs is an
//! error: never a panic, and never taken for "there is none".

use std::time::Duration;
use std::vec;

use redis::{FromRedisValue, ServerError, Value, from_redis_value};

use crate::error::Error;
use crate::store::{Claimed, Grant, Record, RecordId, RecordKey, RecordState, Response, Settled};

/// What scripts answer that end or change a lead.
pub(super) const DONE: i64 = 1;
pub(super) const STALE: i64 = 0;

/// The answer of a claim.
pub(super) fn claimed(key: &RecordKey, answer: Value) -> Result<Claimed, Error> {
    if let Value::Int(below_zero @ ..=-1) = answer {
        let epoch = below_zero.unsigned_abs();
        let grant = Grant { epoch, attempt: 1, checkpoint: None, taken_over: false };
        return Ok(Claimed::Lead(grant));
    }
    let mut fields = Fields::of(key.id(), answer)?;
    Ok(match fields.next::<String>()?.as_str() {
        "lead" => Claimed::Lead(Grant {
            epoch: fields.number()?,
            attempt: fields.number()?,
            checkpoint: fields.bytes()?,
            taken_over: fields.next()?,
        }),
        "completed" => Claimed::Completed(fields.response()?),
        "in_progress" => Claimed::InProgress {
            epoch: fields.number()?,
            lease_left: fields.time(Duration::from_micros)?,
        },
        "mismatch" => Claimed::Mismatch,
        "unknown" => Claimed::Unknown,
        "other" => {
            let (scope, other) = fields.name()?;
            key.check(&scope, &other)?;
            return Err(unreadable(key.id()));
        }
        _ => return Err(unreadable(key.id())),
    })
}

/// The answer of the scripts that end or change a lead.
pub(super) fn settled(id: RecordId, answer: &Value) -> Result<Settled, Error> {
    match answer {
        Value::Int(DONE) => Ok(Settled::Done),
        Value::Int(STALE) => Ok(Settled::Stale),
        _ => Err(unreadable(id)),
    }
}

/// The answer of `read.lua`, asked for the whole record or not.
pub(super) fn record(id: RecordId, answer: Value, whole: bool) -> Result<Option<Record>, Error> {
    if answer == Value::Nil {
        return Ok(None);
    }
    let mut fields = Fields::of(id, answer)?;
    let (scope, key) = fields.name()?;
    let key = RecordKey::new(scope, key)?;
    let fingerprint = match fields.next::<Vec<u8>>()?.split_first() {
        None => None,
        Some((b'=', fingerprint)) => Some(fingerprint.into()),
        Some(_) => return Err(unreadable(id)),
    };
    let state = match fields.next::<String>()?.as_str() {
        "P" => RecordState::InProgress,
        "C" => RecordState::Completed,
        "R" => RecordState::Released,
        _ => return Err(unreadable(id)),
    };
    let mut record = Record {
        key,
        state,
        fingerprint,
        epoch: fields.number()?,
        attempt: fields.number()?,
        lease_left: fields.time(Duration::from_micros)?,
        expires_in: fields.time(Duration::from_millis)?,
        checkpoint: None,
        response: None,
    };
    match state {
        RecordState::Completed if whole => record.response = Some(fields.response()?),
        _ => (_, record.checkpoint) = (fields.number::<i32>()?, fields.bytes()?),
    }
    Ok(Some(record))
}

/// The answer of scripts that say whether there was one, or how many.
pub(super) fn existed(id: RecordId, answer: Value) -> Result<bool, Error> {
    parse(id, answer)
}

/// A script's own refusal.
pub(super) fn refusal(id: RecordId, refusal: &ServerError) -> Error {
    let details = refusal.details().unwrap_or_default();
    if refusal.code() == "FORMAT" {
        return Error::store(format!(
            "record {id} has format {details}, which this library doesn't know: use one version everywhere"
        ));
    }
    corrupt(id, details)
}

/// What is left of an answer that is an array.
struct Fields {
    id: RecordId,
    left: vec::IntoIter<Value>,
}

impl Fields {
    fn of(id: RecordId, answer: Value) -> Result<Self, Error> {
        let Value::Array(left) = answer else { return Err(unreadable(id)) };
        Ok(Self { id, left: left.into_iter() })
    }

    fn next<T: FromRedisValue>(&mut self) -> Result<T, Error> {
        parse(self.id, self.left.next().ok_or_else(|| unreadable(self.id))?)
    }

    /// Not as the crate makes a `u64` of an integer: by a cast.
    fn number<T: TryFrom<i64>>(&mut self) -> Result<T, Error> {
        T::try_from(self.next()?).map_err(|_| unreadable(self.id))
    }

    /// A duration, or none.
    fn time(&mut self, unit: fn(u64) -> Duration) -> Result<Option<Duration>, Error> {
        let time = self.next::<Option<i64>>()?.map(u64::try_from).transpose();
        Ok(time.map_err(|_| unreadable(self.id))?.map(unit))
    }

    /// Scope and key.
    fn name(&mut self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let name = self.next::<Vec<u8>>()?;
        let parts = name.split_first_chunk().and_then(|(len, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
        });
        let (scope, key) = parts.ok_or_else(|| unreadable(self.id))?;
        Ok((scope.into(), key.into()))
    }

    /// Nothing isn't the same as no bytes.
    fn bytes(&mut self) -> Result<Option<Box<[u8]>>, Error> {
        Ok(self.next::<Option<Vec<u8>>>()?.map(Into::into))
    }

    fn response(&mut self) -> Result<Response, Error> {
        let status = self.number()?;
        let body = self.bytes()?.ok_or_else(|| corrupt(self.id, "its response is missing"))?;
        Ok(Response::new(status, &body))
    }
}

fn parse<T: FromRedisValue>(id: RecordId, answer: Value) -> Result<T, Error> {
    // The crate's own text quotes what it read.
    from_redis_value(answer).map_err(|_| unreadable(id))
}

fn unreadable(id: RecordId) -> Error {
    corrupt(id, "it has a value that can't be")
}

fn corrupt(id: RecordId, what: &str) -> Error {
    Error::store(format!("record {id} is corrupt ({what}): look at it, then evict it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn key() -> RecordKey {
        RecordKey::new("scope", "key").unwrap()
    }

    #[test]
    fn answers_that_no_script_gives_are_errors_that_name_the_record() {
        let one = || Value::Int(1);
        let answers = [
            Value::Nil,
            Value::Okay,
            one(),
            Value::Int(0),
            Value::Array(vec![]),
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![text("lead")]),
            Value::Array(vec![text("lead"), Value::Int(-1), one(), Value::Nil, one()]),
            Value::Array(vec![text("lead"), one(), Value::Int(1 << 33), Value::Nil, one()]),
            Value::Array(vec![text("completed"), text("200"), Value::Nil]),
            Value::Array(vec![text("completed"), Value::Nil, text("body")]),
            Value::Array(vec![text("completed"), text("two"), text("body")]),
            Value::Array(vec![text("in_progress"), one(), Value::Int(-1)]),
            Value::Array(vec![text("other"), text("scope"), text("key")]),
            Value::Array(vec![text("?")]),
        ];
        for answer in answers {
            let error = claimed(&key(), answer.clone()).expect_err(&format!("{answer:?}"));
            assert!(error.to_string().contains(&key().id().to_string()), "{error}");
            if answer != Value::Nil {
                assert!(record(key().id(), answer.clone(), true).is_err(), "{answer:?}");
            }
            if !matches!(answer, Value::Int(DONE | STALE)) {
                assert!(settled(key().id(), &answer).is_err(), "{answer:?}");
            }
        }
    }

    #[test]
    fn a_number_below_zero_is_the_first_lead_of_a_flight() {
        let Ok(Claimed::Lead(grant)) = claimed(&key(), Value::Int(-7)) else { panic!() };
        assert_eq!((grant.epoch, grant.attempt, grant.taken_over), (7, 1, false));
        assert!(settled(key().id(), &Value::Int(-7)).is_err());
        assert!(record(key().id(), Value::Int(-7), true).is_err());
    }

    #[test]
    fn an_empty_body_is_a_body() {
        let answer = Value::Array(vec![text("completed"), text("-7"), text("")]);
        let Ok(Claimed::Completed(response)) = claimed(&key(), answer) else { panic!() };
        assert_eq!(response, Response::new(-7, b""));
    }
}
