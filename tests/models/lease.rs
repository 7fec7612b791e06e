//! Leases pass while their leaders still work.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use onceflight::ErrorKind;

use crate::harness::{A, Got, KEPT, SECOND, World, check, threads};

/// The lease passes while followers wait, and the old leader completes late. Either nobody took
/// over and it completes, or somebody did and it is stale: never both, never neither.
#[test]
fn a_late_complete_wins_or_is_stale() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=2 {
                s.spawn(move || {
                    let got = w.call(A, me);
                    assert!(got == Got::Led || got.value().is_some(), "{got:?}");
                });
            }
            s.spawn(|| w.pass(SECOND * 2));
            let got = w.complete(lead, 0);
            assert!(matches!(got, Got::Led | Got::Stale));
        });
        assert_eq!(world.completions(), 1, "exactly one completes");
        let stats = world.settled(&[A]);
        assert_eq!(stats.stale, stats.takeovers, "overtaken is stale: {stats:?}");
        world.nothing_left();
    });
}

/// The old leader cancels or abandons late: it can't take the lead from its successor.
#[test]
fn a_late_cancel_disturbs_nobody() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=2 {
                s.spawn(move || {
                    let got = w.call(A, me);
                    // Promoted in time, it may be overdue itself once time has passed.
                    assert!(
                        matches!(got, Got::Led | Got::Stale) || got.value().is_some(),
                        "{got:?}"
                    );
                });
            }
            s.spawn(|| w.pass(SECOND * 2));
            w.in_time(lead.cancel());
        });
        assert_eq!(world.completions(), 1);
        let stats = world.settled(&[A]);
        assert_eq!(stats.stale, stats.takeovers, "{stats:?}");
        world.nothing_left();
    });
}

/// A renewal either comes in time, and then the lead is safe, or finds its lead taken.
#[test]
fn renewed_is_safe() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| w.call(A, 1));
            s.spawn(|| w.pass(SECOND * 2));
            let renewed = w.in_time(lead.renew(SECOND * 100));
            let completed = w.complete(lead, 0) == Got::Led;
            assert_eq!(renewed, completed, "a renewed lead completes, one that isn't is stale");
        });
        assert_eq!(world.completions(), 1);
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// The lease of a follower that was promoted is as good as the first one's: when it passes, the
/// next in line takes over, though nobody else begins.
#[test]
fn a_promoted_leader_is_watched_too() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        let done = AtomicBool::new(false);
        threads(|s| {
            let done = &done;
            s.spawn(move || {
                let lead = w.started(first.wait()).expect("the first in line leads");
                while !done.load(Relaxed) {
                    w.pass(SECOND);
                    shuttle::thread::yield_now();
                }
                assert_eq!(w.complete(lead, 1), Got::Stale);
            });
            s.spawn(move || {
                assert_eq!(w.finish(second.wait(), 2), Got::Led);
                done.store(true, Relaxed);
            });
            lead.cancel().unwrap();
        });
        assert_eq!(world.completions(), 1);
        assert_eq!(world.settled(&[A]).takeovers, 1);
        world.nothing_left();
    });
}

/// The same for one that took over by beginning.
#[test]
fn a_successor_is_watched_too() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        let done = AtomicBool::new(false);
        onceflight::model::advance(SECOND * 2);
        threads(|s| {
            for me in 1..=2 {
                let done = &done;
                s.spawn(move || match w.started(w.table.begin(&A)) {
                    // The first of the two hangs, as the one before it did.
                    Ok(lead) if !done.swap(true, Relaxed) => std::mem::forget(lead),
                    Ok(lead) => assert_eq!(w.complete(lead, me), Got::Led),
                    Err(got) => panic!("{got:?}"),
                });
            }
            s.spawn(|| {
                while w.completions() == 0 {
                    w.pass(SECOND);
                    shuttle::thread::yield_now();
                }
            });
        });
        assert_eq!(w.complete(lead, 0), Got::Stale);
        assert_eq!(world.settled(&[A]).takeovers, 2);
        world.nothing_left();
    });
}

/// A follower's time is up at the moment it is promoted: it leads or it is gone, and the next in
/// line never waits for a lead that nobody took.
#[test]
fn promoted_while_timing_out() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        threads(|s| {
            s.spawn(|| {
                let got = w.finish_alone(w.table.begin_timeout(&A, SECOND), 1);
                assert!(!matches!(got, Got::Failed(kind) if kind != ErrorKind::Timeout), "{got:?}");
            });
            s.spawn(|| {
                let got = w.finish_alone(w.table.begin(&A), 2);
                assert!(matches!(got, Got::Led | Got::Shared(1)), "{got:?}");
            });
            s.spawn(|| w.pass(SECOND * 2));
            w.no_more(&lead);
            lead.cancel().unwrap();
        });
        let stats = world.settled(&[A]);
        assert_eq!(stats.in_flight, 0, "{stats:?}");
        world.nothing_left();
    });
}
