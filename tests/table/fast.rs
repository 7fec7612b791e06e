//! What a table laid out for speed must not lose: an index that grows under those who walk over it,
//! places that threads take in advance, ids drawn in blocks, leads given up half-way.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use onceflight::{DedupTable, ErrorKind};

use crate::support::*;

/// A key's number is its hash: it says where it stands.
#[derive(Clone, Copy, Debug, Default)]
struct Plain;

impl BuildHasher for Plain {
    type Hasher = Number;
    fn build_hasher(&self) -> Number {
        Number(0)
    }
}

struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers")
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Leads so many keys at once, from `first` on, and completes them without keeping anything.
fn peak<V: Clone + Default + Send + Sync + std::fmt::Debug + 'static, S: BuildHasher>(
    table: &DedupTable<u64, V, S>,
    first: u64,
    keys: u64,
) {
    let leads: Vec<_> = (first..first + keys).map(|key| table.begin(&key).lead()).collect();
    for lead in leads {
        lead.complete_for(V::default(), Duration::ZERO).unwrap();
    }
}

// ---- a lead whose completion panics ----

#[derive(Clone, Debug)]
struct Brittle(#[allow(dead_code)] Arc<Shard>); // dropped is all that it is

#[derive(Debug)]
struct Shard(AtomicBool);

impl Drop for Shard {
    fn drop(&mut self) {
        if self.0.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("broken"));
        }
    }
}

fn brittle(breaks: bool) -> Brittle {
    Brittle(Arc::new(Shard(AtomicBool::new(breaks))))
}

/// The destructor of a response that makes room runs in a completion of another key.
#[test]
fn a_panic_in_a_destructor_that_makes_room_abandons() {
    let table: DedupTable<u64, Brittle> =
        DedupTable::builder().completed_ttl(LONG).max_completed(1).build();
    table.begin(&1).lead().complete(brittle(true)).unwrap();
    let lead = table.begin(&2).lead();
    let mut next = follower(table.try_begin(&2));
    let completed = catch_unwind(AssertUnwindSafe(|| lead.complete(brittle(false)).is_ok()));
    assert!(completed.is_err(), "the destructor didn't run there");
    next.wait_timeout(SHORT).lead().complete(brittle(false)).unwrap();
    assert_eq!(0, table.stats().in_flight);
}

// ---- the reaper, and an index that grows ----

#[derive(Clone, Debug, Default)]
struct Slow(#[allow(dead_code)] Option<Arc<Held>>); // dropped is all that it is

#[derive(Debug)]
struct Held {
    begun: mpsc::Sender<()>,
    go_on: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.begun.send(());
        let _ = self.go_on.lock().unwrap().recv_timeout(PATIENCE);
    }
}

/// What goes into the new half of the index while the reaper walks over the old one.
#[test]
fn the_reaper_misses_nothing_that_moves() {
    let table: DedupTable<u64, Slow, Plain> = DedupTable::builder().hasher(Plain).build();
    let ((begun, was_begun), (go, go_on)) = (mpsc::channel(), mpsc::channel());
    let held = Held { begun, go_on: std::sync::Mutex::new(go_on) };
    // These stand in the second half of any index that has grown, and none in the first line.
    for key in 1..512 {
        table.begin(&(512 + key)).lead().complete_for(Slow(None), 10 * SHORT).unwrap();
    }
    table.begin(&0).lead().complete_for(Slow(Some(Arc::new(held))), SHORT).unwrap();
    was_begun.recv_timeout(PATIENCE).expect("the reaper");
    peak(&table, 1024, 1 << 13);
    go.send(()).unwrap();
    let start = std::time::Instant::now();
    while table.stats().completed > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "kept: {:?}", table.stats());
        std::thread::sleep(SHORT);
    }
}

// ---- places taken in advance ----

/// Threads that lead nothing leave the places to others, however many there are.
#[test]
fn idle_threads_take_no_room() {
    const THREADS: u64 = 2200;
    let table: DedupTable<u64, u64> = DedupTable::builder().max_in_flight(1 << 16).build();
    let all = Barrier::new(usize::try_from(THREADS).unwrap() + 1);
    let refused = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for key in 0..THREADS {
            let once = || {
                let (table, all, refused) = (&table, &all, &refused);
                move || {
                    let led = table.run(&key, || key).is_ok();
                    refused.fetch_add(u64::from(!led), Ordering::SeqCst);
                    all.wait();
                }
            };
            std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, once()).unwrap();
        }
        all.wait();
    });
    assert_eq!((0, 0), (refused.load(Ordering::SeqCst), table.stats().in_flight));
    assert!(table.begin(&THREADS).is_ok());
}

// ---- ids ----

/// Two keys of one line of one table, and one of them in another table.
#[test]
fn no_two_leads_of_a_process_have_one_id() {
    const LEADS: u64 = 20_000;
    let [one, other] = [(); 2]
        .map(|()| -> DedupTable<u64, u64, Plain> { DedupTable::builder().hasher(Plain).build() });
    let lead = |table: &DedupTable<u64, u64, Plain>, key: u64| {
        let lead = table.begin(&key).lead();
        let id = lead.fence();
        lead.complete(0).unwrap();
        id
    };
    let mut ids = HashSet::new();
    // The line draws its ids for the first of the two.
    for _ in 0..LEADS {
        assert!(ids.insert(lead(&one, 0)));
        assert!(ids.insert(lead(&one, 512)));
    }
    let again = (0..LEADS).filter(|_| !ids.insert(lead(&other, 512))).count();
    assert_eq!(0, again, "ids given twice");
}

/// Fences grow with every leader of a key while the index grows past it.
#[test]
fn fences_grow_while_the_index_does() {
    let table: DedupTable<u64, u64, Plain> = DedupTable::builder().hasher(Plain).build();
    let keys = [0, 512, 1024, 1536, 1 << 19, (1 << 19) + 512];
    let mut last = [0; 6];
    for round in 0..6_u32 {
        for _ in 0..100 {
            for (key, last) in keys.iter().zip(&mut last) {
                let lead = table.begin(key).lead();
                assert!(lead.fence() > *last, "round {round}");
                *last = lead.fence();
                lead.complete(0).unwrap();
            }
        }
        peak(&table, 1 << 32, 1 << (10 + round));
    }
}

// ---- what makes room ----

/// A window this small is looked at as a whole, however large the index has become.
#[test]
fn the_soonest_goes_in_a_large_index_too() {
    let table: DedupTable<u64, u64> = DedupTable::builder().max_completed(4).build();
    peak(&table, 1 << 32, 1 << 16);
    for round in 0..20 {
        let first = round * 100;
        for (key, ttl) in [(0, 4), (1, 3), (2, 1), (3, 2)] {
            table.begin(&(first + key)).lead().complete_for(key, ttl * LONG).unwrap();
        }
        table.begin(&(first + 4)).lead().complete_for(4, LONG * 5).unwrap();
        let kept = [0, 1, 2, 3, 4]
            .map(|key| kind_or(table.begin_timeout(&(first + key), Duration::ZERO)).is_some());
        assert_eq!([true, true, false, true, true], kept, "round {round}");
        for key in 0..5 {
            table.forget(&(first + key)).unwrap();
        }
    }
}

/// The value, where there is one.
fn kind_or(begun: Result<onceflight::Begin<'_, u64, u64>, onceflight::Error>) -> Option<u64> {
    match begun {
        Ok(onceflight::Begin::Replayed(value)) => Some(value),
        Ok(onceflight::Begin::Lead(lead)) => {
            lead.cancel().unwrap();
            None
        }
        other => panic!("neither a replay nor a lead: {other:?}"),
    }
}

// ---- the C ABI ----

/// 0 is no lead's token, and so settles nothing: a flight without a leader least of all.
#[cfg(feature = "capi")]
#[test]
fn the_token_0_is_stale() {
    use onceflight::ffi::*;
    use std::ptr::{null, null_mut};
    let mut table = null_mut();
    // SAFETY: the pointers are to locals, each for its call; the table is freed last.
    unsafe {
        assert_eq!(ONCEFLIGHT_OK, onceflight_table_new(null(), &raw mut table));
        for key in 0..4096_u64 {
            let (key, mut lead, mut response) = (key.to_ne_bytes(), 0, null_mut());
            let (lead_at, response_at) = (&raw mut lead, &raw mut response);
            let begun = onceflight_begin(table, key.as_ptr(), 8, 0, lead_at, response_at);
            assert_eq!(ONCEFLIGHT_LEAD, begun);
            assert_eq!(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
        }
        let told = onceflight_complete_for(table, 0, 1, b"x".as_ptr(), 1, 60_000);
        let cancelled = onceflight_cancel(table, 0);
        onceflight_table_free(table);
        assert_eq!((ONCEFLIGHT_E_STALE, ONCEFLIGHT_E_STALE), (told, cancelled));
    }
}

/// A begin at once and one in full answer alike.
#[test]
fn both_paths_of_begin_answer_alike() {
    let table: DedupTable<u64, u64> = DedupTable::builder().completed_ttl(LONG).build();
    // The first begin of a table has no spare flight; those after it have.
    for key in 0..3 {
        table.request(&key).fingerprint(b"f").begin().lead().complete(key).unwrap();
        assert_eq!(ErrorKind::Mismatch, kind(table.begin(&key)));
        assert_eq!(key, table.request(&key).fingerprint(b"f").begin().replayed());
        let lead = table.begin(&(10 + key)).lead();
        assert_eq!(1, lead.attempt());
        assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout(&(10 + key), Duration::ZERO)));
        lead.complete_for(0, Duration::ZERO).unwrap();
    }
    let stats = table.stats();
    assert_eq!(
        (6, 3, 3, 0, 3),
        (stats.leads, stats.replayed, stats.timeouts, stats.in_flight, stats.completed)
    );
}
