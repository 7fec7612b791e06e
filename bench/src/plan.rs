//! How much is measured.

use std::time::Duration;

pub struct Plan {
    pub rounds: usize,
    /// Shorter measurements of fewer keys, to see that all of it works.
    pub quick: bool,
    /// 10^7 keys too, which takes some 10 GB.
    pub huge: bool,
}

impl Plan {
    /// How long one contestant is measured in one round.
    pub fn time(&self, ms: u64) -> Duration {
        Duration::from_millis(if self.quick { ms.div_ceil(4) } else { ms })
    }
}

pub fn threads(count: usize) -> String {
    format!("{count} thread{}", if count == 1 { "" } else { "s" })
}
