//! The peers, as their users take them.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use once_map::OnceMap;
use quick_cache::sync::{Cache, GuardResult};

use crate::contestant::{Contestant, Keep, Value};
use crate::keys::Key;

/// quick_cache with its own hasher. `room` is how many it may hold.
pub struct QuickCache<K> {
    cache: Cache<K, Value>,
    keeps: bool,
}

impl<K: Key> QuickCache<K> {
    pub fn new(keep: Keep, room: usize) -> Self {
        Self { cache: Cache::new(room), keeps: keep != Keep::Nothing }
    }

    fn lead<'w>(&self, key: &K, keeps: bool, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        match self.cache.get_value_or_guard(key, None) {
            GuardResult::Value(value) => Some(value),
            GuardResult::Guard(guard) => {
                let _ = guard.insert(Value::clone(work()));
                if !keeps {
                    self.cache.remove(key);
                }
                None
            }
            GuardResult::Timeout => unreachable!("there is no timeout"),
        }
    }
}

impl<K: Key> Contestant<K> for QuickCache<K> {
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        self.lead(key, self.keeps, work)
    }

    #[inline]
    fn pass<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        self.lead(key, false, work)
    }

    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool {
        let mut guards = Vec::with_capacity(keys.len());
        for key in keys {
            match self.cache.get_value_or_guard(key, None) {
                GuardResult::Guard(guard) => {
                    if guards.is_empty() {
                        crate::heap::not_counted(guards.capacity() * size_of_val(&guard));
                    }
                    guards.push(guard);
                }
                _ => panic!("the key is in flight already"),
            }
        }
        look();
        true
    }

    fn held(&self) -> Option<usize> {
        Some(self.cache.len())
    }
}

/// quick_cache with keys that are bytes of any length, as the C ABI's are.
pub struct QuickCacheBytes(Cache<Vec<u8>, Value>);

impl QuickCacheBytes {
    pub fn new(room: usize) -> Self {
        Self(Cache::new(room))
    }
}

impl<K: Key + AsRef<[u8]>> Contestant<K> for QuickCacheBytes {
    type Got = Value;

    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        match self.0.get_value_or_guard(key.as_ref(), None) {
            GuardResult::Value(value) => Some(value),
            GuardResult::Guard(guard) => {
                let _ = guard.insert(Value::clone(work()));
                None
            }
            GuardResult::Timeout => unreachable!("there is no timeout"),
        }
    }

    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool {
        let mut guards = Vec::with_capacity(keys.len());
        for key in keys {
            match self.0.get_value_or_guard(key.as_ref(), None) {
                GuardResult::Guard(guard) => {
                    if guards.is_empty() {
                        crate::heap::not_counted(guards.capacity() * size_of_val(&guard));
                    }
                    guards.push(guard);
                }
                _ => panic!("the key is in flight already"),
            }
        }
        look();
        true
    }

    fn held(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// quick_cache with a ttl, which it doesn't have: the expiry stands in the value and is looked at
/// by whoever finds it.
pub struct QuickCacheTtl<K> {
    cache: Cache<K, (Value, Instant)>,
    ttl: Duration,
}

impl<K: Key> QuickCacheTtl<K> {
    pub fn new(ttl: Duration, room: usize) -> Self {
        Self { cache: Cache::new(room), ttl }
    }
}

impl<K: Key> Contestant<K> for QuickCacheTtl<K> {
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        loop {
            match self.cache.get_value_or_guard(key, None) {
                GuardResult::Value((value, expiry)) => {
                    if Instant::now() < expiry {
                        return Some(value);
                    }
                    self.cache.remove_if(key, |(_, held)| *held == expiry);
                }
                GuardResult::Guard(guard) => {
                    let value = Value::clone(work());
                    let _ = guard.insert((value, Instant::now() + self.ttl));
                    return None;
                }
                GuardResult::Timeout => unreachable!("there is no timeout"),
            }
        }
    }

    fn held(&self) -> Option<usize> {
        Some(self.cache.len())
    }
}

pub struct Moka<K> {
    cache: moka::sync::Cache<K, Value>,
    keeps: bool,
}

impl<K: Key> Moka<K> {
    pub fn new(keep: Keep, room: usize) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(room as u64);
        let cache = match keep {
            Keep::For(ttl) => builder.time_to_live(ttl).build(),
            Keep::Nothing | Keep::Always => builder.build(),
        };
        Self { cache, keeps: keep != Keep::Nothing }
    }
}

impl<K: Key> Contestant<K> for Moka<K> {
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        let entry = self.cache.entry_by_ref(key).or_insert_with(|| Value::clone(work()));
        if !entry.is_fresh() {
            return Some(entry.into_value());
        }
        if !self.keeps {
            self.cache.invalidate(key);
        }
        None
    }

    fn held(&self) -> Option<usize> {
        self.cache.run_pending_tasks();
        Some(self.cache.entry_count() as usize)
    }
}

/// The recipe with a concurrent map of cells that are filled once.
pub struct DashCell<K: Key> {
    cells: DashMap<K, Arc<OnceLock<Value>>>,
    keeps: bool,
}

impl<K: Key> DashCell<K> {
    pub fn new(keep: Keep) -> Self {
        Self { cells: DashMap::new(), keeps: keep != Keep::Nothing }
    }

    fn cell(&self, key: &K) -> Arc<OnceLock<Value>> {
        // Where most are hits, a look under the read lock first.
        if self.keeps
            && let Some(cell) = self.cells.get(key)
        {
            return Arc::clone(&cell);
        }
        Arc::clone(&self.cells.entry(*key).or_default())
    }
}

impl<K: Key> Contestant<K> for DashCell<K> {
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        let cell = self.cell(key);
        let mut led = false;
        let value = cell.get_or_init(|| {
            led = true;
            Value::clone(work())
        });
        if !led {
            return Some(Value::clone(value));
        }
        if !self.keeps {
            self.cells.remove_if(key, |_, held| Arc::ptr_eq(held, &cell));
        }
        None
    }

    /// What the map holds of a key in flight is a cell that isn't filled.
    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool {
        for key in keys {
            self.cell(key);
        }
        look();
        true
    }

    fn held(&self) -> Option<usize> {
        Some(self.cells.len())
    }
}

/// once_map can't remove through a shared reference, so it only ever keeps.
pub struct Once<K> {
    map: OnceMap<K, Value>,
}

impl<K: Key> Once<K> {
    pub fn new() -> Self {
        Self { map: OnceMap::new() }
    }
}

impl<K: Key> Contestant<K> for Once<K> {
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        let mut led = false;
        let value = self.map.insert_cloned(*key, |_| {
            led = true;
            Value::clone(work())
        });
        (!led).then_some(value)
    }
}

/// The singleflight crate. It works under the lock of its whole map, so only an uncontended cycle
/// compares. Its keys are text: here seven bits of each byte, which nobody else holds meanwhile.
pub struct SingleFlight {
    group: singleflight::Group<Value>,
}

impl SingleFlight {
    pub fn new() -> Self {
        Self { group: singleflight::Group::new() }
    }
}

impl<const N: usize> Contestant<[u8; N]> for SingleFlight
where
    [u8; N]: Key,
{
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &[u8; N], work: impl FnOnce() -> &'w Value) -> Option<Value> {
        let text = key.map(|byte| byte & 0x7f);
        // SAFETY: bytes below 0x80 are ASCII.
        let text = unsafe { std::str::from_utf8_unchecked(&text) };
        let work = Cell::new(Some(work));
        Some(self.group.work(text, || Value::clone(work.take().expect("called once")())))
    }
}
