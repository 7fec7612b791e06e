//! The verbs, on any connection to a file with our tables: the store's own, or a caller's in the
//! middle of his transaction.
//!
//! What writes runs in a transaction that has had the write lock since its start: so what a look finds
//! is still so when the next statement acts on it, and the times are not older than the lock. Or in one
//! that takes the lock with its first change, and fails if anybody has written since its look; its times
//! are a moment older than the lock then, and nobody waits for that there.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params};

use super::connection::Fault;
use super::row::{self, Row};
use super::statements as sql;
use super::times::{self, Times};
use crate::store::{
    Claim, Claimed, GRACE, Grant, Held, Record, RecordId, RecordKey, RecordState, Release,
    Response, Settled, Token,
};

pub(super) struct Verbs<'a> {
    pub(super) db: &'a Connection,
    pub(super) times: Times,
}

/// What a claim is answered, as the record stands.
pub(super) enum Look {
    Answer(Claimed),
    /// The same, once the record has the mark that somebody waits.
    Mark(Claimed),
    /// The caller may lead.
    Vacant(Succession),
}

/// What a new lead takes over from the one before it.
pub(super) struct Succession {
    attempt: u32,
    checkpoint: Option<Box<[u8]>>,
    lost: bool,
}

impl Succession {
    const NONE: Self = Self { attempt: 1, checkpoint: None, lost: false };
}

impl Verbs<'_> {
    /// The same at the present time.
    pub(super) fn now(&self) -> Self {
        Self { db: self.db, times: Times::now(self.times.boot) }
    }

    /// Looks and acts on it. In a transaction that has the write lock.
    pub(super) fn claim(&self, key: &RecordKey, claim: &Claim<'_>) -> Result<Claimed, Fault> {
        self.act(key, claim, self.look(key, claim)?)
    }

    /// On what a look in this transaction has found.
    pub(super) fn act(
        &self,
        key: &RecordKey,
        claim: &Claim<'_>,
        found: Look,
    ) -> Result<Claimed, Fault> {
        match found {
            Look::Answer(claimed) => Ok(claimed),
            Look::Mark(claimed) => {
                self.db.prepare_cached(sql::MARK)?.execute(named_params! {":id": key.id().0})?;
                Ok(claimed)
            }
            Look::Vacant(succession) => self.lead(key, claim, succession),
        }
    }

    /// Takes the write lock, where the caller's transaction hasn't yet: a look without it would be at a
    /// snapshot that nothing may be written to once another has written.
    pub(super) fn lock(&self) -> Result<(), Fault> {
        self.db.prepare_cached(sql::LOCK)?.execute([])?;
        Ok(())
    }

    /// What a claim would be answered.
    pub(super) fn look(&self, key: &RecordKey, claim: &Claim<'_>) -> Result<Look, Fault> {
        let mut statement = self.db.prepare_cached(sql::LOOK)?;
        let mut rows = statement.query(named_params! {
            ":id": key.id().0,
            ":token": claim.token.0,
            ":fingerprint": claim.fingerprint,
            ":following": claim.following.map(sqlite_epoch),
            ":take_over": claim.take_over,
            ":boot": self.times.boot,
            ":now": self.times.uptime,
            ":wall": self.times.wall,
        })?;
        let Some(row) = rows.next()? else { return Ok(Look::Vacant(Succession::NONE)) };
        let row = Row::of(row, key)?;
        Ok(match row.verdict()? {
            "held" => Look::Answer(Claimed::Lead(Grant {
                epoch: row.epoch,
                attempt: row.attempt,
                checkpoint: row.checkpoint()?,
                taken_over: false,
            })),
            "completed" => Look::Answer(Claimed::Completed(row.response()?)),
            "mismatch" => Look::Answer(Claimed::Mismatch),
            "unknown" => Look::Answer(Claimed::Unknown),
            "in progress" => {
                let lease_left = row.lease_left(&self.times);
                let claimed = Claimed::InProgress { epoch: row.epoch, lease_left };
                if claim.watch && !row.watched {
                    Look::Mark(claimed)
                } else {
                    Look::Answer(claimed)
                }
            }
            "vacant" => Look::Vacant(Succession::NONE),
            "succeed" => Look::Vacant(Succession {
                attempt: row.attempt.saturating_add(1),
                checkpoint: row.checkpoint()?,
                lost: row.state == RecordState::InProgress,
            }),
            other => return Err(row.corrupt(other).into()),
        })
    }

    fn lead(&self, key: &RecordKey, claim: &Claim<'_>, from: Succession) -> Result<Claimed, Fault> {
        let epoch: i64 = self.db.prepare_cached(sql::LEAD)?.query_row(
            named_params! {
                ":id": key.id().0,
                ":scope": key.scope(),
                ":key": key.key(),
                ":fingerprint": claim.fingerprint,
                ":token": claim.token.0,
                ":attempt": from.attempt,
                ":checkpoint": from.checkpoint,
                ":boot": self.times.boot,
                ":lease_until": self.times.lease_until(claim.lease),
                ":ends": self.times.wall_after(claim.lease),
                ":keep": claim.keep.and_then(times::millis),
            },
            |row| row.get(0),
        )?;
        let Succession { attempt, checkpoint, lost } = from;
        let epoch = row::epoch_of(epoch, key.id())?;
        Ok(Claimed::Lead(Grant { epoch, attempt, checkpoint, taken_over: lost }))
    }

    pub(super) fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
    ) -> Result<Settled, Fault> {
        let changed = self.db.prepare_cached(sql::RENEW)?.execute(named_params! {
            ":id": key.id().0,
            ":token": held.token.0,
            ":epoch": sqlite_epoch(held.epoch),
            ":boot": self.times.boot,
            ":lease_until": self.times.lease_until(lease),
            ":ends": self.times.wall_after(lease),
        })?;
        Ok(if changed == 1 { Settled::Done } else { Settled::Stale })
    }

    pub(super) fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
    ) -> Result<Settled, Fault> {
        let changed = self.db.prepare_cached(sql::CHECKPOINT)?.execute(named_params! {
            ":id": key.id().0,
            ":token": held.token.0,
            ":epoch": sqlite_epoch(held.epoch),
            ":data": data,
        })?;
        Ok(if changed == 1 { Settled::Done } else { Settled::Stale })
    }

    pub(super) fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Fault> {
        let changed = self.db.prepare_cached(sql::COMPLETE)?.execute(named_params! {
            ":id": key.id().0,
            ":token": held.token.0,
            ":epoch": sqlite_epoch(held.epoch),
            ":status": response.status(),
            ":body": response.data(),
            ":expires": self.times.wall_after(Some(ttl)),
        })?;
        if changed == 1 { Ok(Settled::Done) } else { self.again(key, held, RecordState::Completed) }
    }

    pub(super) fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
    ) -> Result<Settled, Fault> {
        let (id, token, epoch) = (key.id().0, held.token.0, sqlite_epoch(held.epoch));
        let changed = match release {
            Release::Abandon => self.db.prepare_cached(sql::ABANDON)?.execute(named_params! {
                ":id": id, ":token": token, ":epoch": epoch,
            })?,
            Release::Cancel { successor, keep } => {
                let handed_on = self.db.prepare_cached(sql::HAND_ON)?.execute(named_params! {
                    ":id": id, ":token": token, ":epoch": epoch,
                    ":successor": successor,
                    ":expires": self.times.wall_after(Some(keep)),
                })?;
                if handed_on == 1 {
                    handed_on
                } else {
                    self.db.prepare_cached(sql::CANCEL)?.execute(named_params! {
                        ":id": id, ":token": token, ":epoch": epoch,
                    })?
                }
            }
        };
        if changed == 1 { Ok(Settled::Done) } else { self.again(key, held, RecordState::Released) }
    }

    /// Nothing was changed. Did an earlier call of this lead reach the goal?
    fn again(&self, key: &RecordKey, held: Held, goal: RecordState) -> Result<Settled, Fault> {
        let found = self.holder(key.id())?;
        let abandoned = (Held { token: Token::NOBODY, ..held }, RecordState::InProgress);
        let done = match found {
            None => goal == RecordState::Released,
            Some(found) if found == abandoned => goal == RecordState::Released,
            Some(found) => found == (held, goal),
        };
        Ok(if done { Settled::Done } else { Settled::Stale })
    }

    fn holder(&self, id: RecordId) -> Result<Option<(Held, RecordState)>, Fault> {
        let mut statement = self.db.prepare_cached(sql::HOLDER)?;
        let mut rows = statement.query(named_params! {":id": id.0})?;
        Ok(match rows.next()? {
            Some(row) => Some(row::holder(row, id)?),
            None => None,
        })
    }

    pub(super) fn withdraw(&self, key: &RecordKey, token: Token) -> Result<(), Fault> {
        let parameters = named_params! {":id": key.id().0, ":token": token.0};
        let claimed = self
            .db
            .prepare_cached(sql::CLAIMED)?
            .query_row(parameters, |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
        if let Some((epoch, attempt)) = claimed.optional()? {
            let held = Held { token, epoch: epoch.cast_unsigned() };
            let _ = self.release(key, held, Release::of_withdrawn(attempt))?;
        }
        Ok(())
    }

    pub(super) fn forget(&self, key: &RecordKey) -> Result<bool, Fault> {
        let parameters = named_params! {":id": key.id().0, ":wall": self.times.wall};
        let lasted = self.db.prepare_cached(sql::FORGET)?.query_row(parameters, |row| row.get(0));
        Ok(lasted.optional()?.unwrap_or(false))
    }

    pub(super) fn evict(&self, key: &RecordKey) -> Result<bool, Fault> {
        let changed =
            self.db.prepare_cached(sql::EVICT)?.execute(named_params! {":id": key.id().0})?;
        Ok(changed == 1)
    }

    pub(super) fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        let mut statement = self.db.prepare_cached(sql::READ)?;
        let mut rows = statement.query(named_params! {
            ":id": key.id().0,
            ":boot": self.times.boot,
            ":now": self.times.uptime,
            ":wall": self.times.wall,
        })?;
        Ok(match rows.next()? {
            Some(row) => Some(Row::of(row, key)?.record(&self.times, true)?),
            None => None,
        })
    }

    pub(super) fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
    ) -> Result<Vec<Record>, Fault> {
        let mut statement = self.db.prepare_cached(sql::LIST)?;
        let mut rows = statement.query(named_params! {
            ":scope": scope,
            // No bytes come before all others.
            ":after": after.as_ref().map_or(&[][..], |id| &id.0),
            ":max": i64::try_from(max).unwrap_or(i64::MAX),
            ":boot": self.times.boot,
            ":now": self.times.uptime,
            ":wall": self.times.wall,
        })?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(Row::listed(row)?.record(&self.times, false)?);
        }
        Ok(records)
    }

    /// Of lost leads, those among the first [`LOOKED_THROUGH`] records after that epoch. Answers how many went,
    /// and from where to look on.
    pub(super) fn purge(&self, max: usize, after: i64) -> Result<(usize, i64), Fault> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let before = self.times.wall - times::millis(GRACE).unwrap_or(0);
        let looked_at = named_params! {":after": after, ":most": LOOKED_THROUGH};
        let next = self.db.prepare_cached(sql::LOOKED_AT)?.query_row(looked_at, |row| row.get(0));
        let next = next.optional()?.unwrap_or(0);
        let settled = self
            .db
            .prepare_cached(sql::PURGE)?
            .execute(named_params! {":max": max, ":before": before})?;
        let lost = self.db.prepare_cached(sql::PURGE_LEADS)?.execute(named_params! {
            ":after": after,
            ":most": LOOKED_THROUGH,
            ":max": max.saturating_sub_unsigned(u64::try_from(settled).unwrap_or(u64::MAX)),
            ":before": before,
            ":boot": self.times.boot,
            ":now": self.times.uptime,
        })?;
        Ok((settled + lost, next))
    }
}

/// How many records a purge looks through for lost leads: some milliseconds with the write lock.
const LOOKED_THROUGH: i64 = 4096;

/// An epoch as SQLite's integer. One that no lead was ever given finds none.
fn sqlite_epoch(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}
