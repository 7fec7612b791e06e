//! What others test of their own in-flight coalescing, asked of this table. A module a peer, each
//! test named after theirs; the code is ours. Where this table answers otherwise, the test says so.

mod go_singleflight;
mod httpower;
mod quick_cache;

use std::time::{Duration, Instant};

use onceflight::DedupTable;

/// Who waits this long has hung.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < PATIENCE, "{what}: it never came");
        std::thread::yield_now();
    }
}

fn in_line<K, V>(table: &DedupTable<K, V>, count: u64)
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    wait_until("followers in line", || table.stats().waiting == count);
}
