//! The wall clock: the only one that memcached's clients have in common.
//!
//! Retention and epochs go by it, so both are as good as the clocks of the machines; who leads never
//! does.

use std::time::{Duration, SystemTime};

use crate::clock::{self, ENDLESS, Span};

/// Microseconds since 1970.
pub(super) type Time = u64;

pub(super) const NEVER: Time = Time::MAX;

pub(super) fn now() -> Time {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(NEVER)
}

/// The time so long from now.
pub(super) fn after(duration: Duration) -> Time {
    match clock::span(duration) {
        ENDLESS => NEVER,
        span => now().saturating_add(span.div_ceil(1000)),
    }
}

pub(super) fn passed(time: Time) -> bool {
    time != NEVER && now() >= time
}

/// How long it is until then, in nanoseconds.
pub(super) fn until(time: Time) -> Span {
    if time == NEVER { ENDLESS } else { time.saturating_sub(now()).saturating_mul(1000) }
}
