//! What a table has done, in numbers that add up.

/// Counters since the table was made, and how it stands now.
///
/// Each thread counts for itself, and their counters are read one after the other: exact when the
/// table is at rest, and while it works never off by more than what happened during the reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Leads given: first ones, promotions and takeovers.
    pub leads: u64,
    /// Responses given to followers of a flight.
    pub shared: u64,
    /// Responses given from the completed window.
    pub replayed: u64,
    /// Followers told to do their own work.
    pub bypassed: u64,
    /// Callers that left because their time was up, those that would not wait at all included.
    pub timeouts: u64,
    /// Leads cancelled.
    pub cancels: u64,
    /// Leads given to a follower because the one before was cancelled.
    pub promotions: u64,
    /// Leads given because the one before was abandoned or overdue.
    pub takeovers: u64,
    /// Leads refused as stale.
    pub stale: u64,
    /// Completed responses dropped before their time to make room.
    pub evictions: u64,
    /// Keys in flight now, orphaned and detached ones included.
    pub in_flight: u64,
    /// Followers in line now.
    pub waiting: u64,
    /// Completed responses held now.
    pub completed: u64,
    /// What they weigh: by the weigher, or in C key and response bytes.
    pub completed_bytes: u64,
}
