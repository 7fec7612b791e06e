//! What is said to SQLite: every statement, each with named parameters.

/// The columns that `row.rs` reads, in its order. The response comes last, so that a record can be
/// looked at without reading through it.
macro_rules! columns {
    () => {
        "epoch, scope, key, fingerprint, state, token, attempt, boot, lease_until, expires, watched, status, checkpoint, "
    };
}

/// The lease has not passed.
macro_rules! live {
    () => {
        "(state = 1 AND (lease_until IS NULL OR (boot = :boot AND lease_until > :now)))"
    };
}

/// The record counts as gone. Never while its lease lasts: no step of the wall clock ends one.
macro_rules! expired {
    () => {
        concat!("(expires IS NOT NULL AND expires <= :wall AND NOT ", live!(), ")")
    };
}

/// This lead's, and not settled.
macro_rules! held {
    () => {
        "epoch = :epoch AND id = :id AND token = :token AND state = 1"
    };
}

/// For programs in other languages that claim and settle in a transaction of their own, on a file that
/// a [`SqliteStore`](super::SqliteStore) has made. All in one transaction, begun with `BEGIN IMMEDIATE`.
///
/// | parameter | |
/// |-|-|
/// | `:id` | 16 bytes, [`RecordKey::id`](crate::store::RecordKey::id) |
/// | `:scope`, `:key` | bytes |
/// | `:fingerprint` | bytes, or NULL, which equals only NULL |
/// | `:token` | 16 random bytes, drawn for each claim |
/// | `:epoch` | of the lead, as `lead` gave it |
/// | `:boot` | 16 bytes that name the boot: `/proc/sys/kernel/random/boot_id` without its dashes, from hexadecimal |
/// | `:now` | `CLOCK_BOOTTIME` in nanoseconds |
/// | `:wall` | milliseconds since 1970 |
/// | `:following` | NULL, or the epoch of a flight waited for |
/// | `:take_over` | 1 or 0 |
/// | `:lease_until`, `:ends` | when the lease ends, by `:now`'s clock and by `:wall`'s; NULL: it doesn't. A lead that is settled in the transaction that claimed needs none |
/// | `:attempt`, `:checkpoint` | 1 and NULL, or as `look` says |
/// | `:keep` | milliseconds that a lost lead is remembered past its lease; NULL: for ever |
/// | `:expires` | when the response is forgotten, by `:wall`'s clock; NULL: never |
/// | `:status`, `:body` | the response: an integer of 32 bits, and bytes |
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SqliteStatements {
    /// Tells in its column `verdict` what a claim is answered. No row: the key is vacant. Takes `:id`,
    /// `:token`, `:fingerprint`, `:following`, `:take_over`, `:boot`, `:now`, `:wall`.
    ///
    /// | verdict | |
    /// |-|-|
    /// | `held` | this token leads already |
    /// | `completed` | `status` and `body` are the response |
    /// | `mismatch` | in use with another fingerprint |
    /// | `in progress` | somebody leads |
    /// | `unknown` | a lead was lost, and this claim doesn't take over |
    /// | `vacant` | the caller may lead: `lead` with attempt 1 and no checkpoint |
    /// | `succeed` | the caller may lead: `lead` with attempt + 1 and the same checkpoint |
    ///
    /// Whoever gets a row compares `scope` and `key` with its own: the id is but a hash.
    pub look: &'static str,
    /// Makes the caller lead, if `look` said so in this transaction, and returns the `epoch`. Takes `:id`,
    /// `:scope`, `:key`, `:fingerprint`, `:token`, `:attempt`, `:checkpoint`, `:boot`, `:lease_until`, `:ends`, `:keep`.
    pub lead: &'static str,
    /// Completes: one row changes, or the lead is stale. Takes `:id`, `:token`, `:epoch`, `:status`,
    /// `:body`, `:expires`.
    pub complete: &'static str,
    /// Cancels, nothing having happened: one row changes, or the lead is stale. Takes `:id`, `:token`,
    /// `:epoch`.
    pub cancel: &'static str,
}

pub(super) const SQL: SqliteStatements =
    SqliteStatements { look: LOOK, lead: LEAD, complete: COMPLETE, cancel: CANCEL };

/// Changes nothing, and takes the write lock.
pub(super) const LOCK: &str = "UPDATE onceflight_meta SET value = value WHERE 0";

pub(super) const LOOK: &str = concat!(
    "SELECT ",
    columns!(),
    "body, CASE
        WHEN state = 1 AND token = :token THEN 'held'
        WHEN state = 2 AND same AND (NOT expired OR ifnull(epoch >= :following, 0)) THEN 'completed'
        WHEN expired THEN 'vacant'
        WHEN NOT same AND (state <> 3 OR checkpoint IS NOT NULL) THEN 'mismatch'
        WHEN live THEN 'in progress'
        WHEN NOT same THEN 'vacant'
        WHEN state = 1 AND NOT :take_over THEN 'unknown'
        ELSE 'succeed' END AS verdict
    FROM (SELECT *, fingerprint IS :fingerprint AS same, ",
    live!(),
    " AS live, ",
    expired!(),
    " AS expired FROM onceflight_records WHERE id = :id)"
);

pub(super) const LEAD: &str = "INSERT OR REPLACE INTO onceflight_records
    (id, scope, key, fingerprint, state, token, attempt, checkpoint, boot, lease_until, keep, expires)
    VALUES (:id, :scope, :key, :fingerprint, 1, :token, :attempt, :checkpoint, :boot, :lease_until, :keep,
        :ends + :keep)
    RETURNING epoch";

/// Somebody waits for this one, which was just seen in progress.
pub(super) const MARK: &str =
    "UPDATE onceflight_records SET watched = 1 WHERE id = :id AND state = 1";

pub(super) const RENEW: &str = concat!(
    "UPDATE onceflight_records SET boot = :boot, lease_until = :lease_until, expires = :ends + keep WHERE ",
    held!()
);

pub(super) const CHECKPOINT: &str =
    concat!("UPDATE onceflight_records SET checkpoint = :data WHERE ", held!());

pub(super) const COMPLETE: &str = concat!(
    "UPDATE onceflight_records SET state = 2, status = :status, body = :body, checkpoint = NULL,
        lease_until = NULL, expires = :expires, watched = 0 WHERE ",
    held!()
);

/// The lease is over, whichever clock one asks.
/// The token goes: a renewal that was under way must not revive the lead.
pub(super) const ABANDON: &str = concat!(
    "UPDATE onceflight_records SET token = zeroblob(16), lease_until = 0, watched = 0 WHERE ",
    held!()
);

/// Cancels where something stays for a successor.
pub(super) const HAND_ON: &str = concat!(
    "UPDATE onceflight_records SET state = 3, lease_until = NULL, expires = :expires, watched = 0 WHERE ",
    held!(),
    " AND (:successor OR watched OR checkpoint IS NOT NULL)"
);

pub(super) const CANCEL: &str = concat!("DELETE FROM onceflight_records WHERE ", held!());

/// Which lead a record is of: asked where a statement found none to change.
pub(super) const HOLDER: &str = "SELECT token, epoch, state FROM onceflight_records WHERE id = :id";

pub(super) const CLAIMED: &str =
    "SELECT epoch, attempt FROM onceflight_records WHERE id = :id AND token = :token";

pub(super) const FORGET: &str = "DELETE FROM onceflight_records WHERE id = :id AND state <> 1
    RETURNING NOT (expires IS NOT NULL AND expires <= :wall)";

/// Of that id alone: the way out for one that is corrupt.
pub(super) const EVICT: &str = "DELETE FROM onceflight_records WHERE id = :id";

pub(super) const READ: &str = concat!(
    "SELECT ",
    columns!(),
    "body FROM onceflight_records WHERE id = :id AND NOT ",
    expired!()
);

/// A page of a scope. What was completed shows an empty response, so that none is read.
pub(super) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    "iif(state = 2, x'', NULL), id FROM onceflight_records WHERE scope = :scope AND id > :after AND NOT ",
    expired!(),
    " ORDER BY id LIMIT :max"
);

/// What was settled and expired before `:before`, some seconds ago.
pub(super) const PURGE: &str = "DELETE FROM onceflight_records WHERE epoch IN
    (SELECT epoch FROM onceflight_records WHERE state <> 1 AND expires <= :before LIMIT :max)";

/// The same of lost leads, which stand in no index: of the next `:most` records after `:after`.
pub(super) const PURGE_LEADS: &str = concat!(
    "DELETE FROM onceflight_records WHERE epoch IN
    (SELECT epoch FROM (SELECT * FROM onceflight_records WHERE epoch > :after ORDER BY epoch LIMIT :most)
    WHERE expires <= :before AND NOT ",
    live!(),
    " AND state = 1 LIMIT :max)"
);

/// Up to where those `:most` are; no row if there are fewer.
pub(super) const LOOKED_AT: &str = "SELECT epoch FROM onceflight_records WHERE epoch > :after
    ORDER BY epoch LIMIT 1 OFFSET :most - 1";

pub(super) const LAST_NEWS: &str = "SELECT ifnull(max(number), 0) FROM onceflight_news";

pub(super) const NEWS: &str =
    "SELECT number, id FROM onceflight_news WHERE number > :read ORDER BY number";
