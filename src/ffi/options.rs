//! The options of a table, one setter each.

use std::time::Duration;

use super::code::{Failure, ONCEFLIGHT_OK, entry};
use crate::clock::FOREVER;
use crate::table::internal::Config;
use crate::{OnCancel, OnLeaseExpired};

/// No limit in time.
pub const ONCEFLIGHT_FOREVER: u64 = u64::MAX;
/// The table's own setting.
pub const ONCEFLIGHT_DEFAULT: u64 = u64::MAX - 1;

/// on_cancel: the first follower in line leads (the default).
pub const ONCEFLIGHT_PROMOTE: u64 = 0;
/// on_cancel: all followers get ONCEFLIGHT_E_CANCELLED.
pub const ONCEFLIGHT_FAIL_ALL: u64 = 1;

/// on_lease_expired: the first follower in line, or the next begin, leads (the default).
pub const ONCEFLIGHT_TAKE_OVER: u64 = 0;
/// on_lease_expired: nobody leads, and all get ONCEFLIGHT_E_UNKNOWN.
pub const ONCEFLIGHT_HOLD: u64 = 1;

/// Options of a table to be made. Not thread-safe; free it once the table is made.
#[derive(Clone, Default)]
pub struct onceflight_options {
    completed_ttl_ms: Option<u64>,
    lease_ms: Option<u64>,
    heartbeat: Option<bool>,
    max_lead_ms: Option<u64>,
    offer_ms: Option<u64>,
    store_timeout_ms: Option<u64>,
    max_in_flight: Option<usize>,
    max_waiters: Option<usize>,
    max_completed: Option<usize>,
    max_completed_bytes: Option<usize>,
    max_key_len: Option<usize>,
    max_response_len: Option<usize>,
    on_cancel: Option<OnCancel>,
    on_lease_expired: Option<OnLeaseExpired>,
}

/// The limits that the C ABI checks itself, since only it knows that keys and responses are bytes.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    pub key: usize,
    pub response: usize,
}

/// Milliseconds from C.
pub(super) fn duration(ms: u64) -> Duration {
    if ms == ONCEFLIGHT_FOREVER { FOREVER } else { Duration::from_millis(ms) }
}

impl onceflight_options {
    pub(super) fn lengths(&self) -> Lengths {
        // Lengths are kept in 32 bits, and their sum has to be one too where addresses have 32.
        const MOST: usize =
            if usize::BITS > 32 { (u32::MAX - 4096) as usize } else { usize::MAX >> 3 };
        Lengths {
            key: self.max_key_len.unwrap_or(64 << 10).min(MOST),
            response: self.max_response_len.unwrap_or(16 << 20).min(MOST),
        }
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config::default();
        let set = |slot: &mut Duration, value: Option<u64>| {
            if let Some(ms) = value {
                *slot = duration(ms);
            }
        };
        set(&mut config.completed_ttl, self.completed_ttl_ms);
        set(&mut config.lease, self.lease_ms);
        set(&mut config.max_lead, self.max_lead_ms);
        set(&mut config.offer, self.offer_ms);
        config.heartbeat = self.heartbeat.unwrap_or(config.heartbeat);
        config.max_in_flight = self.max_in_flight.unwrap_or(config.max_in_flight);
        config.max_waiters = self.max_waiters.unwrap_or(config.max_waiters);
        config.max_completed = self.max_completed.unwrap_or(config.max_completed);
        config.max_bytes = self.max_completed_bytes.unwrap_or(config.max_bytes);
        config.on_cancel = self.on_cancel.unwrap_or(config.on_cancel);
        config.on_lease_expired = self.on_lease_expired.unwrap_or(config.on_lease_expired);
        config
    }
}

#[cfg(feature = "store")]
impl onceflight_options {
    /// For a table over a store. What bounds responses in memory says nothing there.
    pub(super) fn store_config(&self) -> crate::idempotency::internal::Config {
        let mut config = crate::idempotency::internal::Config::default();
        let set = |slot: &mut Duration, value: Option<u64>| {
            if let Some(ms) = value {
                *slot = duration(ms);
            }
        };
        set(&mut config.ttl, self.completed_ttl_ms);
        set(&mut config.max_lead, self.max_lead_ms);
        set(&mut config.offer, self.offer_ms);
        set(&mut config.store_timeout, self.store_timeout_ms);
        if let Some(ms) = self.lease_ms {
            config.lease = (ms != ONCEFLIGHT_FOREVER).then(|| duration(ms));
        }
        config.heartbeat = self.heartbeat.unwrap_or(config.heartbeat);
        config.max_in_flight = self.max_in_flight.unwrap_or(config.max_in_flight);
        config.max_waiters = self.max_waiters.unwrap_or(config.max_waiters);
        config.on_cancel = self.on_cancel.unwrap_or(config.on_cancel);
        config.on_lease_expired = self.on_lease_expired.unwrap_or(config.on_lease_expired);
        let lengths = self.lengths();
        (config.max_key_len, config.max_response_len) = (lengths.key, lengths.response);
        config
    }
}

/// New options, all at their defaults. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn onceflight_options_new() -> *mut onceflight_options {
    Box::into_raw(Box::default())
}

/// Frees options. NULL does nothing. Tables made from them are not concerned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_free(options: *mut onceflight_options) {
    if !options.is_null() {
        // SAFETY: it came from `onceflight_options_new`, and the caller gives it up.
        drop(unsafe { Box::from_raw(options) });
    }
}

/// One setter: what its value becomes, or why it can't.
unsafe fn set<T>(
    options: *mut onceflight_options,
    value: u64,
    slot: impl FnOnce(&mut onceflight_options) -> &mut Option<T>,
    parse: impl FnOnce(u64) -> Result<T, Failure>,
) -> i32 {
    entry(|| {
        // SAFETY: NULL, or options that the caller hasn't freed and that no other thread uses.
        let options = unsafe { options.as_mut() }.ok_or_else(|| Failure::null("options"))?;
        let value = if value == ONCEFLIGHT_DEFAULT { None } else { Some(parse(value)?) };
        *slot(options) = value;
        Ok(ONCEFLIGHT_OK)
    })
}

#[allow(clippy::unnecessary_wraps)] // the shape that `set` takes
fn millis(value: u64) -> Result<u64, Failure> {
    Ok(value)
}

/// A duration of zero would be over before anybody could use it.
fn some_millis(value: u64) -> Result<u64, Failure> {
    if value == 0 {
        return Err(Failure::invalid("0 ms would be over at once; ONCEFLIGHT_FOREVER is no limit"));
    }
    Ok(value)
}

#[allow(clippy::unnecessary_wraps)] // the shape that `set` takes
fn count(value: u64) -> Result<usize, Failure> {
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

fn some(value: u64) -> Result<usize, Failure> {
    if value == 0 {
        return Err(Failure::invalid("0 would let nothing in; ONCEFLIGHT_FOREVER is no limit"));
    }
    count(value)
}

/// How long a completed response is replayed, in ms, from its completion on. Default: 0, in flight
/// only (24 h over a store).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_completed_ttl_ms(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.completed_ttl_ms, millis) }
}

/// How long a leader may take before another may take over, in ms. Default: ONCEFLIGHT_FOREVER
/// (30000 over a store).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_lease_ms(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.lease_ms, some_millis) }
}

/// 1: leases are renewed while the process lives, up to max_lead_ms. Default: 0 (1 over a store).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_heartbeat(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe {
        set(
            options,
            value,
            |options| &mut options.heartbeat,
            |value| match value {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(Failure::invalid("heartbeat is 1 or 0")),
            },
        )
    }
}

/// How long a heartbeat keeps a lead that doesn't settle, in ms. Default: 600000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_lead_ms(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_lead_ms, some_millis) }
}

/// How long an unread LEAD event is on offer before it passes on, in ms. Default: 5000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_offer_ms(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.offer_ms, some_millis) }
}

/// How long a store may take to answer, in ms; what settles a lead is tried again that long. Default:
/// 5000. Without effect on a table in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_store_timeout_ms(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.store_timeout_ms, some_millis) }
}

/// Keys in flight at once. Default: 1048576.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_in_flight(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_in_flight, some) }
}

/// Followers of one key at once. Default: 16384.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_waiters(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_waiters, count) }
}

/// Completed responses held; the one that would expire soonest goes first. Default: 1048576. Without
/// effect over a store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_completed(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_completed, count) }
}

/// Bytes of completed responses held, keys included. Default: 268435456. Without effect over a store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_completed_bytes(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_completed_bytes, count) }
}

/// The longest key, in bytes. Default: 65536.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_key_len(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_key_len, count) }
}

/// The longest response or checkpoint, in bytes. Default: 16777216.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_max_response_len(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe { set(options, value, |options| &mut options.max_response_len, count) }
}

/// ONCEFLIGHT_PROMOTE or ONCEFLIGHT_FAIL_ALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_on_cancel(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe {
        set(
            options,
            value,
            |options| &mut options.on_cancel,
            |value| match value {
                ONCEFLIGHT_PROMOTE => Ok(OnCancel::Promote),
                ONCEFLIGHT_FAIL_ALL => Ok(OnCancel::FailAll),
                _ => {
                    Err(Failure::invalid("on_cancel is ONCEFLIGHT_PROMOTE or ONCEFLIGHT_FAIL_ALL"))
                }
            },
        )
    }
}

/// ONCEFLIGHT_TAKE_OVER or ONCEFLIGHT_HOLD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_options_set_on_lease_expired(
    options: *mut onceflight_options,
    value: u64,
) -> i32 {
    // SAFETY: the caller's pointer, as `set` wants it.
    unsafe {
        set(
            options,
            value,
            |options| &mut options.on_lease_expired,
            |value| match value {
                ONCEFLIGHT_TAKE_OVER => Ok(OnLeaseExpired::TakeOver),
                ONCEFLIGHT_HOLD => Ok(OnLeaseExpired::Hold),
                _ => Err(Failure::invalid(
                    "on_lease_expired is ONCEFLIGHT_TAKE_OVER or ONCEFLIGHT_HOLD",
                )),
            },
        )
    }
}
