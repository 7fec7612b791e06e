//! The completed window: replayed, expired, evicted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::harness::{A, A2, B, Got, SECOND, World, check, threads};

/// A response expires while it is replayed: nobody who begins after that sees it, and the memory
/// comes back though nobody looks.
#[test]
fn replay_or_expiry() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(SECOND));
        let w = &world;
        assert_eq!(w.call(A, 0), Got::Led);
        let expired = AtomicBool::new(false);
        threads(|s| {
            for me in 1..=2 {
                let expired = &expired;
                s.spawn(move || {
                    let late = expired.load(Relaxed);
                    let got = w.call(A, me);
                    assert!(got == Got::Led || got.value().is_some(), "{got:?}");
                    assert!(!late || got.value() != Some(0), "replayed past its ttl");
                });
            }
            s.spawn(|| {
                onceflight::model::advance(SECOND);
                expired.store(true, Relaxed);
                shuttle::thread::yield_now();
                w.pass(SECOND / 10);
            });
        });
        w.pass(SECOND * 2);
        world.settled(&[]);
        world.empty();
    });
}

/// Room for one response, and two keys that complete: one of them goes, whichever it is, and the
/// bound holds all the time.
#[test]
fn one_makes_room_for_the_other() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(SECOND).max_completed(1));
        let w = &world;
        threads(|s| {
            for (key, me) in [(A, 1), (B, 2), (A2, 3), (A, 4)] {
                s.spawn(move || {
                    let got = w.call(key, me);
                    assert!(got == Got::Led || key == A && got.value().is_some(), "{got:?}");
                });
            }
        });
        let stats = world.settled(&[]);
        assert_eq!((stats.completed, stats.evictions + 1), (1, stats.leads), "{stats:?}");
        world.nothing_left();
    });
}

/// The bound in bytes, with a response being forgotten and one expiring at the same time.
#[test]
fn bounded_in_bytes() {
    check(|| {
        let world = World::new(|table| {
            table
                .completed_ttl(SECOND)
                .weigher(|_, value| usize::try_from(value.made_by).unwrap() + 1)
                .max_bytes(4)
        });
        let w = &world;
        assert_eq!(w.call(A, 1), Got::Led);
        threads(|s| {
            s.spawn(|| assert_eq!(w.call(B, 2), Got::Led));
            s.spawn(|| assert_eq!(w.call(A2, 3), Got::Led));
            s.spawn(|| w.table.forget(&A).unwrap());
            s.spawn(|| w.pass(SECOND * 2));
        });
        let stats = world.settled(&[]);
        assert!(stats.completed_bytes <= 4, "{stats:?}");
        w.pass(SECOND * 4);
        world.empty();
    });
}

/// A response is completed while the reaper walks over the lines, behind it or before it: it is
/// given back in its time, though nobody completes another.
#[test]
fn completed_during_the_walk() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(SECOND));
        let w = &world;
        assert_eq!(w.call(A, 0), Got::Led);
        threads(|s| {
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| assert_eq!(w.call(B, 1), Got::Led));
            s.spawn(|| assert_eq!(w.call(A2, 2), Got::Led));
        });
        w.pass(SECOND * 2);
        world.settled(&[]);
        world.empty();
    });
}

/// The same, and the walk takes long: the next one begins later, but it begins.
#[test]
fn a_long_walk() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(SECOND));
        let w = &world;
        assert_eq!(w.call(A, 0), Got::Led);
        threads(|s| {
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| {
                let got = w.call(B, 1);
                assert_eq!(got, Got::Led);
            });
        });
        w.pass(SECOND * 100);
        world.settled(&[]);
        world.empty();
    });
}
