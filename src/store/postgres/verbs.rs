//! The verbs of a lead, over any way to run a statement: on a connection of the pool, or within the
//! caller's own transaction.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::answers::{self, COMPLETED, IN_PROGRESS, RELEASED};
use super::statements::PostgresStatement::{
    self, Abandon, Checkpoint, Claim as ClaimStatement, Complete, Look,
    Release as ReleaseStatement, Renew,
};
use crate::error::{Error, ErrorKind};
use crate::store::{Claim, Claimed, Held, RecordKey, Release, Response, Settled, Token};

/// Runs a statement with its parameters.
pub(super) trait Run {
    fn rows(
        &mut self,
        statement: PostgresStatement,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, Error>;

    /// How many rows it changed.
    fn count(&mut self, statement: PostgresStatement, params: &Params<'_>) -> Result<u64, Error>;
}

pub(super) type Params<'a> = [&'a (dyn ToSql + Sync)];

/// The server takes a gigabyte in one piece. A record has two pieces that may be large.
const MAX_BYTES: usize = 512 << 20;

pub(super) fn claim(
    mut run: impl Run,
    key: &RecordKey,
    claim: &Claim<'_>,
) -> Result<Claimed, Error> {
    fits("key", key.key())?;
    fits("fingerprint", claim.fingerprint.unwrap_or_default())?;
    let rows = run.rows(
        ClaimStatement,
        &[
            &key.id().0.as_slice(),
            &key.scope(),
            &key.key(),
            &claim.fingerprint,
            &claim.token.0.as_slice(),
            &claim.lease.and_then(micros),
            &claim.keep.and_then(micros),
            &claim.take_over,
            &claim.watch,
            &claim.following.map(number),
        ],
    )?;
    let row = rows.first().ok_or_else(|| {
        Error::store("onceflight_claim said nothing: it isn't the function that was made here")
    })?;
    answers::claimed(key, row)
}

pub(super) fn renew(
    run: impl Run,
    key: &RecordKey,
    held: Held,
    lease: Option<Duration>,
) -> Result<Settled, Error> {
    settle(run, key, held, IN_PROGRESS, Renew, &[&lease.and_then(micros)])
}

pub(super) fn checkpoint(
    run: impl Run,
    key: &RecordKey,
    held: Held,
    data: &[u8],
) -> Result<Settled, Error> {
    fits("checkpoint", data)?;
    settle(run, key, held, IN_PROGRESS, Checkpoint, &[&data])
}

pub(super) fn complete(
    run: impl Run,
    key: &RecordKey,
    held: Held,
    response: &Response,
    ttl: Duration,
) -> Result<Settled, Error> {
    fits("response", response.data())?;
    let params: [&(dyn ToSql + Sync); 3] = [&response.status(), &response.data(), &micros(ttl)];
    settle(run, key, held, COMPLETED, Complete, &params)
}

pub(super) fn release(
    run: impl Run,
    key: &RecordKey,
    held: Held,
    release: Release,
) -> Result<Settled, Error> {
    match release {
        Release::Cancel { successor, keep } => {
            let params: [&(dyn ToSql + Sync); 2] = [&successor, &micros(keep)];
            settle(run, key, held, RELEASED, ReleaseStatement, &params)
        }
        Release::Abandon => settle(run, key, held, RELEASED, Abandon, &[]),
    }
}

/// Gives back a claim that nobody knows of.
pub(super) fn withdraw(mut run: impl Run, key: &RecordKey, token: Token) -> Result<(), Error> {
    if let Some((lead, attempt, _)) = look(&mut run, key)?
        && lead.token == token
    {
        let _ = release(run, key, lead, Release::of_withdrawn(attempt))?;
    }
    Ok(())
}

/// Changes the record of a lead that is still that key's. If there was nothing to change, it looks why:
/// what has reached its goal by an earlier call is done.
fn settle(
    mut run: impl Run,
    key: &RecordKey,
    held: Held,
    goal: i16,
    statement: PostgresStatement,
    params: &Params<'_>,
) -> Result<Settled, Error> {
    let (id, token, epoch) = (key.id().0, held.token.0, number(held.epoch));
    let lead: [&(dyn ToSql + Sync); 3] = [&id.as_slice(), &token.as_slice(), &epoch];
    let params = [&lead, params].concat();
    let abandoned = Held { token: Token::NOBODY, ..held };
    loop {
        if run.count(statement, &params)? > 0 {
            return Ok(Settled::Done);
        }
        return Ok(match look(&mut run, key)? {
            None if goal == RELEASED => Settled::Done,
            // A claim or checkpoint was committed between the two.
            Some((lead, _, IN_PROGRESS)) if lead == held => continue,
            Some((lead, _, state)) if lead == held && state == goal => Settled::Done,
            Some((lead, ..)) if lead == abandoned && goal == RELEASED => Settled::Done,
            _ => Settled::Stale,
        });
    }
}

fn look(run: &mut impl Run, key: &RecordKey) -> Result<Option<(Held, u32, i16)>, Error> {
    let rows = run.rows(Look, &[&key.id().0.as_slice()])?;
    rows.first().map(|row| answers::looked(key.id(), row)).transpose()
}

/// As a `bigint`. Sequences never get beyond it.
fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// As a `bigint`; `None`: so long that it is for ever, and its end might be no time that the server knows.
fn micros(duration: Duration) -> Option<i64> {
    const THOUSAND_YEARS: Duration = Duration::from_secs(1000 * 366 * 24 * 60 * 60);
    let micros = (duration < THOUSAND_YEARS).then_some(duration.as_micros());
    micros.and_then(|micros| i64::try_from(micros).ok())
}

fn fits(what: &str, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() <= MAX_BYTES {
        return Ok(());
    }
    let detail =
        format!("a {what} of {} bytes; Postgres is given {MAX_BYTES} at most", bytes.len());
    Err(Error::new(ErrorKind::TooLarge, detail))
}
