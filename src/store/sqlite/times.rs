//! The two clocks of a file, read once for each statement.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;

/// Longer spans count as endless: 285,000 years in milliseconds. Sums of them don't overflow.
const LONGEST: i64 = 1 << 53;

/// What time it is.
pub(super) struct Times {
    /// Which boot `uptime` counts in.
    pub(super) boot: [u8; 16],
    /// For leases: nanoseconds since the boot, on a clock that nobody sets.
    pub(super) uptime: i64,
    /// For retention, which outlives a boot: milliseconds since 1970.
    pub(super) wall: i64,
}

impl Times {
    pub(super) fn now(boot: [u8; 16]) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            boot,
            uptime: i64::try_from(clock::uptime()).unwrap_or(i64::MAX),
            wall: millis(since_1970).unwrap_or(LONGEST),
        }
    }

    /// When a lease that begins now ends, on the clock of leases.
    pub(super) fn lease_until(&self, lease: Option<Duration>) -> Option<i64> {
        let nanos = i64::try_from(lease?.as_nanos()).ok()?;
        self.uptime.checked_add(nanos)
    }

    /// `span` from now on the wall clock. Fractions are cut off: nothing is kept for longer than it may.
    pub(super) fn wall_after(&self, span: Option<Duration>) -> Option<i64> {
        Some(self.wall + millis(span?)?)
    }
}

/// `None`: endless.
pub(super) fn millis(span: Duration) -> Option<i64> {
    i64::try_from(span.as_millis()).ok().filter(|millis| *millis < LONGEST)
}
