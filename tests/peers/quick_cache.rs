//! `quick_cache`: placeholders, their guards, and those who wait for them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::{Begin, DedupTable, ErrorKind, Role, TryBegin};

use super::{PATIENCE, in_line};

type Cache = DedupTable<u64, u64>;

fn cache() -> Cache {
    DedupTable::builder().completed_ttl(Duration::from_secs(3600)).build()
}

#[test]
fn quick_cache_get_or_insert() {
    let cache = cache();
    let Ok(Begin::Lead(guard)) = cache.begin(&0) else { panic!() };
    guard.complete(0).unwrap();
    assert!(matches!(cache.begin(&0), Ok(Begin::Replayed(0))));
    assert_eq!(0, cache.run(&0, || panic!()).unwrap().value);
    assert_eq!(3, cache.run(&3, || 3).unwrap().value);
    assert_eq!(Role::Replayed, cache.run(&3, || panic!()).unwrap().role);
}

/// A closure that fails leaves no value, and the next caller tries again.
#[test]
fn quick_cache_get_or_insert_with_error() {
    let cache: DedupTable<u64, Result<u64, ()>> = DedupTable::builder()
        .completed_ttl(Duration::from_secs(3600))
        .retain(|value: &Result<u64, ()>| value.is_ok())
        .build();
    assert_eq!(Err(()), cache.run(&4, || Err(())).unwrap().value);
    assert_eq!(Ok(4), cache.run(&4, || Ok(4)).unwrap().value);
    assert_eq!(Ok(4), cache.run(&4, || panic!()).unwrap().value);
}

/// Many race for one key and drop their guards, until the nth inserts: exactly n + 1 get a guard.
#[test]
fn quick_cache_value_or_guard() {
    const THREADS: usize = 16;
    for round in 0..100 {
        let cache = cache();
        let entered = AtomicUsize::new(0);
        let start = Barrier::new(THREADS);
        // A different one each round, no two neighbours alike.
        let solve_at = round * 7 % THREADS;
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    loop {
                        match cache.begin_timeout(&1, Duration::from_millis(1)) {
                            Ok(Begin::Lead(guard)) => {
                                if entered.fetch_add(1, Ordering::SeqCst) == solve_at {
                                    guard.complete(1).unwrap();
                                }
                                break;
                            }
                            Ok(Begin::Shared(value) | Begin::Replayed(value)) => {
                                break assert_eq!(1, value);
                            }
                            Ok(Begin::Bypass) => panic!("nobody declined"),
                            Err(error) => assert_eq!(ErrorKind::Timeout, error.kind()),
                        }
                    }
                });
            }
        });
        assert_eq!(solve_at + 1, entered.into_inner());
        assert_eq!(0, cache.stats().waiting);
    }
}

/// The same through `run`, whose closure fails until the nth.
#[test]
fn quick_cache_get_or_insert_race() {
    const THREADS: usize = 16;
    for round in 0..100 {
        let cache: DedupTable<u64, Result<u64, ()>> = DedupTable::builder()
            .completed_ttl(Duration::from_secs(3600))
            .retain(|value: &Result<u64, ()>| value.is_ok())
            .build();
        let entered = AtomicUsize::new(0);
        let start = Barrier::new(THREADS);
        let solve_at = round * 5 % THREADS;
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    // A failure is shared too: whoever gets one asks again.
                    loop {
                        let outcome = cache.run(&1, || {
                            let before = entered.fetch_add(1, Ordering::SeqCst);
                            if before >= solve_at { Ok(1) } else { Err(()) }
                        });
                        if outcome.unwrap().value == Ok(1) {
                            break;
                        }
                    }
                });
            }
        });
        assert_eq!(solve_at + 1, entered.into_inner());
        assert_eq!(Ok(1), cache.run(&1, || panic!()).unwrap().value);
    }
}

/// A timeout of zero is a try.
#[test]
fn quick_cache_guard_timeout_zero() {
    let cache = cache();
    let _guard = cache.begin(&0).unwrap();
    let result = cache.begin_timeout(&0, Duration::ZERO);
    assert_eq!(ErrorKind::Timeout, result.map(drop).unwrap_err().kind());
}

#[test]
fn quick_cache_guard_timeout() {
    let cache = cache();
    let wait = Duration::from_millis(10);
    let Ok(Begin::Lead(guard)) = cache.begin(&0) else { panic!() };
    let start = Instant::now();
    let result = cache.begin_timeout(&0, wait);
    assert_eq!(ErrorKind::Timeout, result.map(drop).unwrap_err().kind());
    assert!(start.elapsed() >= wait);
    guard.complete(1).unwrap();
    assert!(matches!(cache.begin_timeout(&0, wait), Ok(Begin::Replayed(1))));
}

/// A dropped guard wakes one waiter, which gets the guard; an insertion wakes all the rest.
#[test]
fn quick_cache_guard_dropped_with_waiters() {
    let cache = cache();
    let guards = AtomicUsize::new(0);
    let Ok(Begin::Lead(guard)) = cache.begin(&0) else { panic!() };
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| match cache.begin_timeout(&0, PATIENCE).unwrap() {
                Begin::Lead(guard) => {
                    // The first two give up, the third inserts.
                    if guards.fetch_add(1, Ordering::SeqCst) == 2 {
                        guard.complete(9).unwrap();
                    }
                }
                Begin::Shared(value) => assert_eq!(9, value),
                other => panic!("{other:?}"),
            });
        }
        in_line(&cache, 6);
        drop(guard);
    });
    assert_eq!(3, guards.into_inner());
    assert!(matches!(cache.begin(&0), Ok(Begin::Replayed(9))));
}

/// A waiter that is dropped while the guard is on its way to it (their leak, their lost wake-up).
#[test]
fn quick_cache_waiter_cancelled_when_notified() {
    let cache = cache();
    let Ok(Begin::Lead(guard)) = cache.begin(&0) else { panic!() };
    let Ok(TryBegin::Follower(cancelled)) = cache.try_begin(&0) else { panic!() };
    let Ok(TryBegin::Follower(mut next)) = cache.try_begin(&0) else { panic!() };
    drop(guard);
    drop(cancelled);
    let Ok(Begin::Lead(guard)) = next.wait_timeout(PATIENCE) else { panic!() };
    guard.complete(2).unwrap();
    assert_eq!((0, 0), (cache.stats().waiting, cache.stats().in_flight));
}

/// Theirs lets an insertion or a removal by somebody else race with the placeholder. Here only a
/// lead inserts; `forget` is the removal, and the waiters of the guard it hides still get a value.
#[test]
fn quick_cache_remove_during_insertion() {
    for _ in 0..200 {
        let cache = cache();
        let Ok(Begin::Lead(guard)) = cache.begin(&0) else { panic!() };
        thread::scope(|scope| {
            let waiter = scope.spawn(|| cache.run(&0, || 2).unwrap().value);
            let remover = scope.spawn(|| cache.forget(&0).unwrap());
            guard.complete(1).unwrap();
            let value = waiter.join().unwrap();
            // 1: it joined the guard or found its value. 2: it came after the removal.
            assert!(value == 1 || value == 2);
            remover.join().unwrap();
        });
        assert_eq!(0, cache.stats().in_flight);
    }
}

/// A channel asked for anew, as a future is polled with another waker, loses no wake-up.
#[test]
fn quick_cache_waker_change_race() {
    for _ in 0..200 {
        let cache = cache();
        let Ok(Begin::Lead(guard)) = cache.begin(&0) else { panic!() };
        let Ok(TryBegin::Follower(mut waiter)) = cache.try_begin(&0) else { panic!() };
        thread::scope(|scope| {
            scope.spawn(|| guard.complete(42).unwrap());
            waiter.receiver().recv_timeout(PATIENCE).unwrap();
        });
        assert!(matches!(waiter.wait_timeout(Duration::ZERO), Ok(Begin::Shared(42))));
    }
}
