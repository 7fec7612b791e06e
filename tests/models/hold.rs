//! Policy HOLD: a lost leader is succeeded only by who says so.

use onceflight::{ErrorKind, OnLeaseExpired};

use crate::harness::{A, Got, KEPT, SECOND, World, check, place, threads};

const UNKNOWN: Got = Got::Failed(ErrorKind::Unknown);

/// The lease passes while followers wait and one recovers: the old leader may complete until it
/// does, and nobody else takes over.
#[test]
fn recovered_or_completed() {
    check(|| {
        let world = World::new(|table| {
            table.lease(SECOND).on_lease_expired(OnLeaseExpired::Hold).completed_ttl(KEPT)
        });
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| {
                let got = w.call(A, 1);
                assert!(got == UNKNOWN || got.value().is_some(), "{got:?}");
            });
            s.spawn(|| {
                let got = w.finish(w.table.request(&A).recover().begin(), 2);
                assert!(got == Got::Led || got.value() == Some(0), "{got:?}");
            });
            s.spawn(|| w.pass(SECOND * 2));
            assert!(matches!(w.complete(lead, 0), Got::Led | Got::Stale));
        });
        assert_eq!(world.completions(), 1, "exactly one completes");
        let stats = world.settled(&[A]);
        assert_eq!(stats.stale, stats.takeovers, "{stats:?}");
        world.nothing_left();
    });
}

/// The lead is dropped: followers are told that nobody knows, but for one that recovers.
#[test]
fn abandoned() {
    check(|| {
        let world =
            World::new(|table| table.on_lease_expired(OnLeaseExpired::Hold).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=2 {
                s.spawn(move || {
                    let got = w.call(A, me);
                    assert!(got == UNKNOWN || got.value() == Some(3), "{got:?}");
                });
            }
            s.spawn(|| assert_eq!(w.finish(w.table.request(&A).recover().begin(), 3), Got::Led));
            drop(lead);
        });
        assert_eq!(world.settled(&[A]).takeovers, 1);
        world.nothing_left();
    });
}

/// A follower that would recover is dropped while it may be on offer to it: the key is unknown
/// again, and the one that doesn't recover is told so.
#[test]
fn the_one_that_recovers_leaves() {
    check(|| {
        let world = World::new(|table| {
            table.on_lease_expired(OnLeaseExpired::Hold).completed_ttl(KEPT).offer(SECOND)
        });
        let w = &world;
        let lead = w.lead(A);
        let plain = w.follow(A);
        let recovers = place(w.table.request(&A).recover().try_begin()).expect("in flight");
        threads(|s| {
            s.spawn(|| assert_eq!(w.finish(plain.wait(), 1), UNKNOWN));
            s.spawn(|| drop(recovers));
            s.spawn(|| w.pass(SECOND * 2));
            drop(lead);
        });
        assert_eq!(w.call(A, 2), UNKNOWN);
        assert_eq!(w.finish(w.table.request(&A).recover().begin(), 3), Got::Led);
        world.settled(&[A]);
        world.nothing_left();
    });
}
