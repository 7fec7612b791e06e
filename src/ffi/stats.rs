//! What a table has done, in numbers.

use super::code::{ONCEFLIGHT_OK, entry};
use super::request::{Versioned, check_out, write};
use super::table::{given, onceflight_table};
use crate::Stats;

/// What a table has done; start from ONCEFLIGHT_STATS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_stats {
    /// sizeof(onceflight_stats).
    pub struct_size: usize,
    /// Leads given: first ones, promotions and takeovers.
    pub leads: u64,
    /// Responses given to followers.
    pub shared: u64,
    /// Responses given from the window.
    pub replayed: u64,
    /// Followers told to do their own work.
    pub bypassed: u64,
    /// Callers whose time was up, timeout 0 included.
    pub timeouts: u64,
    /// Leads cancelled.
    pub cancels: u64,
    /// Leads given because the one before was cancelled.
    pub promotions: u64,
    /// Leads given because the one before was abandoned or overdue.
    pub takeovers: u64,
    /// Leads refused as stale.
    pub stale: u64,
    /// Responses dropped before their time to make room.
    pub evictions: u64,
    /// Keys in flight now.
    pub in_flight: u64,
    /// Followers in line now.
    pub waiting: u64,
    /// Responses held now.
    pub completed: u64,
    /// Their bytes, keys included.
    pub completed_bytes: u64,
}

// SAFETY: repr(C), struct_size first, integers only.
unsafe impl Versioned for onceflight_stats {
    const FIRST: usize = size_of::<Self>();
}

/// Counters since the table was made, and how it stands now. Over a store they are this process's, and
/// completed, completed_bytes and evictions are 0: records are the store's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_stats(
    table: *const onceflight_table,
    stats: *mut onceflight_stats,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call; all zeros is a valid value.
        let table = unsafe {
            check_out(stats, "stats")?;
            write(stats, &std::mem::zeroed());
            given(table)?
        };
        table.check_fork()?;
        let now: Stats = table.stats();
        let told = onceflight_stats {
            struct_size: 0,
            leads: now.leads,
            shared: now.shared,
            replayed: now.replayed,
            bypassed: now.bypassed,
            timeouts: now.timeouts,
            cancels: now.cancels,
            promotions: now.promotions,
            takeovers: now.takeovers,
            stale: now.stale,
            evictions: now.evictions,
            in_flight: now.in_flight,
            waiting: now.waiting,
            completed: now.completed,
            completed_bytes: now.completed_bytes,
        };
        // SAFETY: accepted above.
        unsafe { write(stats, &told) };
        Ok(ONCEFLIGHT_OK)
    })
}
