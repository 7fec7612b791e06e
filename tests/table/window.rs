//! The completed window: how long a response is replayed, and how many there may be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use onceflight::{Begin, DedupTable};

use crate::support::*;

type Counts = DedupTable<u64, Counted>;

fn complete(table: &Counts, census: &Census, key: u64) {
    table.begin(&key).lead().complete(census.member(key)).unwrap();
}

fn held(table: &Counts, keys: std::ops::Range<u64>) -> Vec<u64> {
    keys.filter(|key| match table.begin_timeout(key, Duration::ZERO).unwrap() {
        Begin::Replayed(value) => value.id == *key,
        Begin::Lead(lead) => lead.cancel().is_err(),
        other => panic!("{other:?}"),
    })
    .collect()
}

// ---- time ----

/// The instants around each call bound when it looked, however slow the machine is.
#[test]
fn a_response_is_replayed_for_its_ttl_and_no_longer() {
    const EARLY: Duration = Duration::from_millis(5);
    let table = Table::builder().completed_ttl(SHORT).build();
    for round in 0..20 {
        let lead = table.begin("k").lead();
        let before = Instant::now();
        lead.complete(round).unwrap();
        let after = Instant::now();
        loop {
            let asked = Instant::now();
            match table.begin_timeout("k", Duration::ZERO).unwrap() {
                Begin::Replayed(value) => {
                    assert_eq!(round, value);
                    assert!(asked < after + SHORT, "replayed past its ttl");
                }
                Begin::Lead(lead) => {
                    assert!(Instant::now() + EARLY >= before + SHORT, "expired early");
                    lead.cancel().unwrap();
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_ttl_starts_at_completion() {
    let table = Table::builder().completed_ttl(Duration::from_millis(200)).build();
    wait_until("a completion and a look in time", || {
        let lead = table.begin("k").lead();
        pass(Duration::from_millis(200));
        let before = Instant::now();
        lead.complete(1).unwrap();
        let replayed = match table.begin("k").unwrap() {
            Begin::Replayed(_) => true,
            Begin::Lead(lead) => lead.cancel().is_err(),
            other => panic!("{other:?}"),
        };
        assert!(replayed || before.elapsed() >= Duration::from_millis(195));
        replayed
    });
}

/// Sends when it is dropped.
struct Tells(mpsc::Sender<(u64, Instant)>, u64);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send((self.1, Instant::now()));
    }
}

#[test]
fn memory_is_given_back_without_a_look_up() {
    let (sender, dropped) = mpsc::channel();
    let table: DedupTable<u64, std::sync::Arc<Tells>> = DedupTable::new();
    let mut earliest = Vec::new();
    // The long one first: a shorter one after it must not wait for it. And one more, so that what
    // is left after a sweep is swept too.
    for (key, ttl) in [(0, LONG), (1, SHORT), (2, SHORT * 3)] {
        let Ok(Begin::Lead(lead)) = table.begin(&key) else { panic!() };
        earliest.push(Instant::now() + ttl.saturating_sub(Duration::from_millis(5)));
        lead.complete_for(std::sync::Arc::new(Tells(sender.clone(), key)), ttl).unwrap();
    }
    for (expected, earliest) in [(1, earliest[1]), (2, earliest[2])] {
        let (key, at) = dropped.recv_timeout(PATIENCE).unwrap();
        assert_eq!(expected, key);
        assert!(at >= earliest);
    }
    wait_until("the count", || table.stats().completed == 1);
    drop(table);
    assert_eq!(0, dropped.recv_timeout(PATIENCE).unwrap().0);
}

#[test]
fn a_window_of_many_responses_is_given_back_without_a_look_up() {
    let census = Census::default();
    let table: Counts = DedupTable::builder().completed_ttl(SHORT).weigher(|_, _| 10).build();
    for key in 0..1_000 {
        complete(&table, &census, key);
    }
    wait_until("the memory", || census.alive() == 0);
    wait_until("the counts", || {
        let stats = table.stats();
        (stats.completed, stats.completed_bytes) == (0, 0)
    });
    assert_eq!(0, table.stats().evictions);
}

#[test]
fn a_ttl_beyond_the_clock_is_for_ever() {
    let table = Table::builder().completed_ttl(Duration::MAX).build();
    table.begin("k").lead().complete(1).unwrap();
    assert_eq!(1, table.begin("k").replayed());
}

// ---- bounds ----

#[test]
fn the_oldest_response_makes_room() {
    let census = Census::default();
    let table: Counts = DedupTable::builder().completed_ttl(LONG).max_completed(3).build();
    for key in 0..5 {
        complete(&table, &census, key);
        assert_eq!(census.alive() as u64, table.stats().completed);
    }
    assert_eq!(vec![2, 3, 4], held(&table, 0..5));
    let stats = table.stats();
    assert_eq!((3, 2, 3), (stats.completed, stats.evictions, census.alive()));
}

#[test]
fn the_one_that_would_expire_soonest_makes_room() {
    let census = Census::default();
    let table: Counts = DedupTable::builder().max_completed(3).build();
    for (key, hours) in [(0, 3), (1, 1), (2, 2), (3, 4), (4, 5)] {
        let ttl = LONG * hours;
        table.begin(&key).lead().complete_for(census.member(key), ttl).unwrap();
    }
    assert_eq!(vec![0, 3, 4], held(&table, 0..5));
}

#[test]
fn bytes_make_room_too() {
    let census = Census::default();
    let table: Counts = DedupTable::builder()
        .completed_ttl(LONG)
        .max_bytes(100)
        .weigher(|key, value: &Counted| {
            assert_eq!(*key, value.id);
            usize::try_from(value.id).unwrap()
        })
        .build();
    for key in [10, 20, 30, 40] {
        complete(&table, &census, key);
    }
    assert_eq!(100, table.stats().completed_bytes);
    // 5 costs the oldest, 10; 60 then costs 20 and 30, and 40 too.
    complete(&table, &census, 5);
    assert_eq!(vec![5, 20, 30, 40], held(&table, 1..41));
    complete(&table, &census, 60);
    assert_eq!(vec![5, 60], held(&table, 1..61));
    let stats = table.stats();
    assert_eq!((2, 65, 4), (stats.completed, stats.completed_bytes, stats.evictions));
}

#[test]
fn a_response_too_heavy_for_the_window_is_shared_and_not_kept() {
    let census = Census::default();
    let table: Counts = DedupTable::builder()
        .completed_ttl(LONG)
        .max_bytes(100)
        .weigher(|_, value: &Counted| usize::try_from(value.id).unwrap())
        .build();
    complete(&table, &census, 50);
    let lead = table.begin(&101).lead();
    let mut waiting = follower(table.try_begin(&101));
    lead.complete(census.member(101)).unwrap();
    assert_eq!(101, waiting.wait_timeout(PATIENCE).shared().id);
    // It evicted nobody in vain.
    assert_eq!(vec![50], held(&table, 1..102));
    assert_eq!(0, table.stats().evictions);
}

#[test]
fn a_window_of_none_keeps_none() {
    for table in [
        Table::builder().completed_ttl(LONG).max_completed(0).build(),
        Table::builder().completed_ttl(LONG).max_bytes(0).weigher(|_, _| 1).build(),
    ] {
        table.begin("k").lead().complete(1).unwrap();
        table.begin("k").lead().complete(2).unwrap();
        assert_eq!(0, table.stats().completed);
    }
}

#[test]
fn a_response_that_is_not_to_be_kept_is_still_shared() {
    let table: DedupTable<String, u64> =
        DedupTable::builder().completed_ttl(LONG).retain(|status| *status < 500).build();
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    lead.complete(503).unwrap();
    assert_eq!(503, waiting.wait_timeout(PATIENCE).shared());
    table.begin("k").lead().complete(200).unwrap();
    assert_eq!(200, table.begin("k").replayed());
}

/// No more values are ever alive than the window may hold, and what the threads have in their
/// hands: one to put in, and one that they have just taken out.
#[test]
fn the_bounds_hold_at_every_instant_of_a_storm() {
    const THREADS: usize = 4;
    const MAX: usize = 16;
    let census = Census::default();
    for by_bytes in [false, true] {
        let builder = DedupTable::builder().completed_ttl(LONG);
        let table: Counts = if by_bytes {
            builder.max_bytes(MAX * 3).weigher(|_, _| 3).build()
        } else {
            builder.max_completed(MAX).build()
        };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let observer = scope.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(census.alive());
                }
                most
            });
            let workers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (table, census) = (&table, &census);
                    scope.spawn(move || {
                        for i in 0..3_000 {
                            complete(table, census, (i * THREADS + thread) as u64);
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            let most = observer.join().unwrap();
            assert!(most <= MAX + 2 * THREADS, "{most} values at once");
        });
        let stats = table.stats();
        assert_eq!(MAX as u64, stats.completed);
        assert_eq!((3_000 * THREADS - MAX) as u64, stats.evictions);
        assert_eq!(if by_bytes { 3 * MAX as u64 } else { 0 }, stats.completed_bytes);
        drop(table);
        assert_eq!(0, census.alive());
    }
}
