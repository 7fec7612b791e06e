//! What others test of their own in-flight coalescing, asked of this table. A module a peer, each
//! test named after theirs; the code is ours. Where this table answers otherwise, the test says so.

mod go_singleflight;
mod httpower;
#[path = "../support/patience.rs"]
#[allow(dead_code, reason = "shared")]
mod patience;
mod quick_cache;

use onceflight::DedupTable;
use patience::{PATIENCE, wait_until};

fn in_line<K, V>(table: &DedupTable<K, V>, count: u64)
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    wait_until("followers in line", || table.stats().waiting == count);
}
