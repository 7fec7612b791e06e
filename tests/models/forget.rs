//! `forget` while a flight goes on.

use crate::harness::{A, Got, KEPT, SECOND, World, check, threads};

/// A flight is forgotten and completes: it completes whatever comes first, its followers have its
/// value, and what was forgotten is never replayed.
#[test]
fn then_complete() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(|| assert_eq!(w.finish(follower.wait(), 1), Got::Shared(0)));
            s.spawn(|| {
                let got = w.call(A, 2);
                assert!(got == Got::Led || matches!(got.value(), Some(0 | 3)), "{got:?}");
            });
            s.spawn(|| {
                assert!(w.table.forget(&A).unwrap(), "there is a flight, or its response");
                let after = w.call(A, 3);
                assert!(after == Got::Led || after.value() == Some(2), "forgotten: {after:?}");
            });
            assert_eq!(w.complete(lead, 0), Got::Led);
        });
        let last = w.call(A, 4).value();
        assert!(matches!(last, Some(2 | 3)), "what was begun afterwards is kept: {last:?}");
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// A flight is forgotten and cancelled: its followers begin again, and none is lost on the way.
#[test]
fn then_cancel() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            for (me, follower) in [(1, first), (2, second)] {
                s.spawn(move || {
                    let got = w.finish(follower.wait(), me);
                    assert!(got == Got::Led || got.value().is_some(), "{got:?}");
                });
            }
            s.spawn(|| {
                // The flight is there until the last of its followers has completed it, and then
                // its response is.
                assert!(w.table.forget(&A).unwrap() || w.completions() == 0);
            });
            lead.cancel().unwrap();
        });
        let stats = world.settled(&[A]);
        assert!(stats.in_flight == 0 && world.completions() > 0, "{stats:?}");
        world.nothing_left();
    });
}

/// A forgotten flight is abandoned while its followers leave: nobody takes over what nobody sees,
/// and its place is free again.
#[test]
fn then_abandon() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT).max_in_flight(2));
        let w = &world;
        let lead = w.lead(A);
        let (stays, leaves) = (w.follow(A), w.follow(A));
        assert!(w.table.forget(&A).unwrap());
        threads(|s| {
            s.spawn(|| {
                let got = w.finish(stays.wait(), 1);
                assert!(got == Got::Led || got == Got::Shared(2) || got == Got::Replayed(2));
            });
            s.spawn(|| drop(leaves));
            s.spawn(|| {
                let got = w.call(A, 2);
                assert!(got == Got::Led || got == Got::Shared(1) || got == Got::Replayed(1));
            });
            drop(lead);
        });
        assert_eq!(world.completions(), 1, "one flight came after it");
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}

/// The lease of a forgotten flight passes: its followers begin again though nobody looks for it,
/// and the old leader is stale, or was in time.
#[test]
fn then_the_lease_passes() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT).lease(SECOND));
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(|| {
                let got = w.finish(follower.wait(), 1);
                assert!(got == Got::Led || got.value().is_some(), "{got:?}");
            });
            s.spawn(|| {
                w.table.forget(&A).unwrap();
            });
            s.spawn(|| w.pass(SECOND * 2));
            assert!(matches!(w.complete(lead, 0), Got::Led | Got::Stale));
        });
        assert!(world.completions() > 0);
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}

/// An offer stands while its flight is forgotten: its follower leads it to its end.
#[test]
fn while_on_offer() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT).offer(SECOND));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            s.spawn(move || {
                let got = w.finish(first.wait(), 1);
                assert!(got == Got::Led || got.value().is_some(), "{got:?}");
            });
            s.spawn(move || drop(second));
            s.spawn(|| {
                w.table.forget(&A).unwrap();
                w.pass(SECOND * 2);
            });
            lead.cancel().unwrap();
        });
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}
