//! What a call costs in allocations. A binary of its own, since the allocator is the program's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use onceflight::{Begin, DedupTable, ErrorKind, TryBegin};

/// The system's, counting what this thread asks for.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged. The cells are constants without a
// destructor, so touching them allocates nothing and works at any time of a thread's life.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates, and the largest piece.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, usize) {
    COUNT.set(0);
    LARGEST.set(0);
    let done = work();
    let counted = (COUNT.get(), LARGEST.get());
    drop(done);
    counted
}

/// A key that shows up if it is copied: nothing else here is so large.
fn key() -> String {
    "k".repeat(1 << 16)
}

type Table = DedupTable<String, u64>;

fn lead(table: &Table, key: &str) {
    match table.begin(key).unwrap() {
        Begin::Lead(lead) => lead.complete(1).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_count_counts() {
    let (count, largest) = allocations(key);
    assert_eq!((1, 1 << 16), (count, largest));
}

#[test]
fn a_replay_allocates_nothing() {
    let table: Table = DedupTable::builder().completed_ttl(Duration::from_secs(3600)).build();
    let key = key();
    lead(&table, &key);
    let replay = || {
        assert!(matches!(table.begin(&*key), Ok(Begin::Replayed(1))));
        assert!(matches!(table.try_begin(&*key), Ok(TryBegin::Replayed(1))));
        assert_eq!(1, table.run(&*key, || 2).unwrap().value);
    };
    assert_eq!(0, allocations(replay).0);
}

#[test]
fn a_look_that_may_not_wait_allocates_nothing() {
    let table = Table::new();
    let key = key();
    let _lead = table.begin(&*key).unwrap();
    let look = || {
        let result = table.begin_timeout(&*key, Duration::ZERO);
        assert_eq!(ErrorKind::Timeout, result.map(drop).unwrap_err().kind());
    };
    assert_eq!(0, allocations(look).0);
}

#[test]
fn a_mismatch_or_forget_allocates_nothing() {
    let table: Table = DedupTable::builder().completed_ttl(Duration::from_secs(3600)).build();
    let key = key();
    lead(&table, &key);
    let calls = || {
        let result = table.request(&*key).fingerprint(b"f").begin();
        assert_eq!(ErrorKind::Mismatch, result.map(drop).unwrap_err().kind());
        assert!(table.forget(&*key).unwrap());
    };
    assert_eq!(0, allocations(calls).0);
}

/// Its place in line is the follower's own; the room and the line are made by the first of them.
#[test]
fn a_follower_never_copies_the_key() {
    let table = Table::new();
    let key = key();
    let _lead = table.begin(&*key).unwrap();
    let first = allocations(|| table.try_begin(&*key).unwrap());
    assert!(first.1 < 4096, "an allocation of {} bytes", first.1);
    let _stays = table.try_begin(&*key).unwrap();
    let next = allocations(|| table.try_begin(&*key).unwrap());
    assert!(next.1 < 4096, "an allocation of {} bytes", next.1);
    assert!(next.0 <= 3, "{} allocations for a place in line", next.0);
}

/// The key is made owned, and that is all.
#[test]
fn an_uncontended_flight_allocates_its_key() {
    let table = Table::new();
    let key = key();
    // The first one makes the thread's part of the table.
    lead(&table, &key);
    assert_eq!((1, key.len()), allocations(|| lead(&table, &key)));
    let cancelled = || match table.begin(&*key).unwrap() {
        Begin::Lead(lead) => lead.cancel().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!((1, key.len()), allocations(cancelled));
}

/// No matter how many: a thousand flights one after the other take what one takes.
#[test]
fn flights_leave_nothing_behind() {
    let table = Table::new();
    let keys: Vec<_> = (0..1_000).map(|i| format!("key {i}")).collect();
    let round = || keys.iter().for_each(|key| lead(&table, key));
    allocations(round);
    allocations(round);
    assert_eq!(keys.len(), allocations(round).0);
}

/// With a seal of its own. It tells the numbers of an honest table, but for those at `places`.
fn forged(table: &onceflight::SessionTable, places: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = table.freeze().unwrap().to_bytes();
    bytes.truncate(bytes.len() - 8);
    for (place, number) in places {
        bytes[*place..place + 4].copy_from_slice(&number.to_le_bytes());
    }
    let mut seal = siphasher::sip::SipHasher24::new();
    std::hash::Hasher::write(&mut seal, &bytes);
    bytes.extend(std::hash::Hasher::finish(&seal).to_le_bytes());
    bytes
}

/// No room is made for what a snapshot says that it has, only for what it has.
#[test]
fn a_snapshot_that_lies_about_its_numbers_takes_no_room() {
    let most = usize::try_from(u32::MAX).unwrap();
    let limits = onceflight::SessionTable::builder().max_response_len(1 << 31);
    let mut table = limits.max_bytes(most).max_session_bytes(most).build().unwrap();
    let request = onceflight::session::SessionRequest::implicit(b"c", 1);
    table.apply(&request, 0, || (0, "data")).unwrap();
    let end = table.freeze().unwrap().to_bytes().len() - 8;
    // max_sessions and how many there are; the length of a response.
    for lies in [&[(16, u32::MAX - 1), (20, u32::MAX - 1)][..], &[(end - 8, 1 << 31)]] {
        let bytes = forged(&table, lies);
        let (count, largest) = allocations(|| {
            let error = onceflight::SessionTable::restore(&bytes).unwrap_err();
            assert_eq!(ErrorKind::Format, error.kind());
        });
        assert!(count < 20 && largest < 1 << 13, "{count} pieces, one of {largest} bytes");
    }
    assert!(onceflight::SessionTable::restore(&forged(&table, &[])).is_ok());
}
