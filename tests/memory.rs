//! Memory comes back: what a table has needed is freed once nothing needs it any more. A binary of
//! its own, since the allocator is the program's; one test at a time, since it counts for all.
//!
//! Each bound is a small part of what the same work takes if it leaves one entry behind each time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::session::{Node, SessionRequest};
use onceflight::{Begin, DedupTable, ErrorKind, SessionTable, TryBegin};

/// The system's, counting for all threads: bytes that are held, and pieces ever asked for.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PIECES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        PIECES.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALONE: Mutex<()> = Mutex::new(());

const HOUR: Duration = Duration::from_secs(3600);
const ROUNDS: usize = 10_000;
/// The test harness may report a neighbour meanwhile. An entry left behind each round is far more.
const SLACK: usize = ROUNDS * 16;

type Table = DedupTable<u64, u64>;

fn lead(table: &Table, key: u64) -> onceflight::Lead<'_, u64, u64> {
    match table.begin(&key) {
        Ok(Begin::Lead(lead)) => lead,
        other => panic!("a lead was due: {other:?}"),
    }
}

/// Held for the whole of a test.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What many rounds of `work` leave, with the table's threads started and its first allocations made.
fn left_by(mut work: impl FnMut(usize)) -> usize {
    (0..100).for_each(&mut work);
    let before = HELD.load(Relaxed);
    (100..100 + ROUNDS).for_each(&mut work);
    HELD.load(Relaxed).saturating_sub(before)
}

/// A response that expires before all others brings the sweep forward: it isn't one more.
#[test]
fn a_sweep_brought_forward_is_one_alarm() {
    let _alone = alone();
    let table = Table::new();
    let left = left_by(|round| {
        let ttl = Duration::from_secs(80_000 - round as u64);
        lead(&table, 0).complete_for(1, ttl).unwrap();
        assert!(table.forget(&0).unwrap());
    });
    assert!(left < SLACK, "{left} bytes");
}

#[test]
fn an_accepted_offer_leaves_no_alarm() {
    let _alone = alone();
    let table = DedupTable::builder().offer(HOUR).build();
    let mut leading = Some(lead(&table, 0));
    let left = left_by(|_| {
        let Ok(TryBegin::Follower(mut next)) = table.try_begin(&0) else { panic!("no follower") };
        leading.take().expect("always one").cancel().unwrap();
        let Ok(Begin::Lead(lead)) = next.wait_timeout(Duration::ZERO) else { panic!("no lead") };
        leading = Some(lead);
    });
    assert!(left < SLACK, "{left} bytes");
}

#[test]
fn an_offer_ended_by_the_late_leader_leaves_no_alarm() {
    let _alone = alone();
    let table = DedupTable::builder().offer(HOUR).build();
    let left = left_by(|_| {
        let late = lead(&table, 0);
        let Ok(TryBegin::Follower(mut next)) = table.try_begin(&0) else { panic!("no follower") };
        late.renew(Duration::ZERO).unwrap();
        next.receiver().recv_timeout(HOUR).expect("it is on offer");
        late.complete(1).unwrap();
        assert!(matches!(next.wait_timeout(Duration::ZERO), Ok(Begin::Shared(1))));
    });
    assert!(left < SLACK, "{left} bytes");
}

/// Another table keeps the timers alive, so that nothing goes with them.
#[test]
fn a_freed_table_leaves_no_alarm() {
    let _alone = alone();
    let other = DedupTable::builder().completed_ttl(HOUR).build();
    lead(&other, 0).complete(1).unwrap();
    let left = left_by(|_| {
        let table = DedupTable::builder().completed_ttl(HOUR).lease(HOUR).build();
        lead(&table, 0).complete(1).unwrap();
        let late = lead(&table, 1);
        drop(table.try_begin(&1).unwrap());
        std::mem::forget(late);
    });
    assert!(left < SLACK, "{left} bytes");
    drop(other);
}

/// All keys in one shard, whatever the number of cores.
#[derive(Default)]
struct OneShard(u64);

impl Hasher for OneShard {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, key: u64) {
        // The upper half chooses the shard, and but for its top the index doesn't use it.
        self.0 = key & 0xffff_ffff | key << 57;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn a_peak_is_given_back() {
    let _alone = alone();
    let hasher = BuildHasherDefault::<OneShard>::default();
    let table: DedupTable<u64, u64, _> = DedupTable::builder().hasher(hasher).build();
    let before = HELD.load(Relaxed);
    let leads: Vec<_> = (0..100_000).map(|key| table.begin(&key).unwrap()).collect();
    let peak = HELD.load(Relaxed) - before;
    drop(leads);
    for key in 0..100_000 {
        table.forget(&key).unwrap();
    }
    assert_eq!(0, table.stats().in_flight);
    let left = HELD.load(Relaxed).saturating_sub(before);
    // The index keeps its lines: 64 bytes, for two keys at the least when it has just grown.
    assert!(left < 32 * 100_000 && left < peak / 5, "{left} of {peak} bytes");
}

/// An offer time of nothing must not have two followers hand the lead to each other without end.
#[test]
fn an_offer_stands_a_millisecond_at_least() {
    let _alone = alone();
    let table = DedupTable::builder().offer(Duration::ZERO).build();
    let first = lead(&table, 0);
    let followers = [table.try_begin(&0).unwrap(), table.try_begin(&0).unwrap()];
    let (start, before) = (Instant::now(), PIECES.load(Relaxed));
    first.cancel().unwrap();
    thread::sleep(Duration::from_millis(100));
    let pieces = PIECES.load(Relaxed) - before;
    // Each offer takes a few pieces, and no two come within a millisecond.
    let most = 500 + 10 * start.elapsed().as_millis();
    assert!((pieces as u128) < most, "{pieces} allocations, {most} expected at most");
    drop(followers);
}

/// A snapshot takes no more memory than its length allows: here of sessions that take the most for their
/// bytes, a window of 64 for one short reply each.
#[test]
fn a_restored_table_is_bounded_by_its_snapshot() {
    let _alone = alone();
    let mut table = SessionTable::builder().window(64).build().unwrap();
    for client in 0_u16..5000 {
        let client = client.to_le_bytes();
        let life = table.register(client, "", 0).unwrap();
        table.apply(&SessionRequest::new(&client, life, 64), 0, || (0, "")).unwrap();
    }
    let bytes = table.freeze().unwrap().to_bytes();
    drop(table);
    let before = HELD.load(Relaxed);
    let table = SessionTable::restore(&bytes).unwrap();
    let held = HELD.load(Relaxed) - before;
    assert!(held < 50 * bytes.len(), "{held} bytes for {}", bytes.len());
    assert_eq!(5000, table.len());
}

/// A table whose sessions come and go keeps nothing of those that went.
#[test]
fn sessions_that_are_gone_leave_nothing() {
    let _alone = alone();
    let mut table = SessionTable::builder().max_sessions(50).build().unwrap();
    let left = left_by(|round| {
        let client = [round.to_le_bytes(); 4].concat();
        table.apply(&SessionRequest::implicit(&client, 1), 0, || (0, [0; 100])).unwrap();
        drop(table.freeze().unwrap().to_bytes());
    });
    assert!(left < SLACK, "{left} bytes");
}

/// Of requests that were refused, given up, told by another, or never applied.
#[test]
fn a_node_keeps_nothing_of_those_who_asked() {
    let _alone = alone();
    let node = Node::new(SessionTable::builder().build().unwrap());
    let left = left_by(|round| {
        let request = SessionRequest::implicit(b"client", 1 + round as u64);
        let refuses = || Err(onceflight::Error::from(ErrorKind::Closed));
        assert!(node.submit(&request, HOUR, refuses).is_err());
        let logs = || Ok::<_, onceflight::Error>(());
        assert!(node.submit(&request, Duration::ZERO, logs).is_err());
        let applies = || {
            node.apply(&request, 0, || (0, ""))?;
            Ok::<_, onceflight::Error>(())
        };
        assert!(node.submit(&request, HOUR, applies).is_ok());
    });
    assert!(left < SLACK, "{left} bytes");
}
