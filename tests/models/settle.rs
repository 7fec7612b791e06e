//! A leader settles, in each way that there is, while others come and go.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

use onceflight::{ErrorKind, OnCancel};

use crate::harness::{A, Got, KEPT, SECOND, World, check, place, threads};

/// The leader completes while one follower joins, one times out and one leaves: each has exactly
/// one outcome, and those who get a value get the leader's.
#[test]
fn complete_is_shared() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| assert_eq!(w.call(A, 1).value(), Some(0)));
            s.spawn(|| {
                let got = w.finish(w.table.begin_timeout(&A, SECOND), 2);
                let timed_out = got == Got::Failed(ErrorKind::Timeout);
                assert!(timed_out || got.value() == Some(0), "{got:?}");
            });
            s.spawn(|| match place(w.table.try_begin(&A)) {
                Ok(follower) => drop(follower),
                Err(started) => assert_eq!(w.finish(started, 3), Got::Replayed(0)),
            });
            s.spawn(|| w.pass(SECOND * 2));
            assert_eq!(w.complete(lead, 0), Got::Led);
        });
        assert_eq!(world.completions(), 1);
        assert_eq!(world.settled(&[A]).leads, 1);
        world.nothing_left();
    });
}

/// Each follower that is promoted cancels in its turn: they lead in the order in which they came,
/// one at a time.
#[test]
fn cancel_promotes_in_order() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        let order = Mutex::new(Vec::new());
        let line = [w.follow(A), w.follow(A), w.follow(A)];
        threads(|s| {
            for (me, follower) in line.into_iter().enumerate() {
                let order = &order;
                s.spawn(move || {
                    let lead = w.started(follower.wait()).expect("each is promoted");
                    w.alone(&lead);
                    order.lock().unwrap().push((me, lead.attempt()));
                    w.no_more(&lead);
                    lead.cancel().unwrap();
                });
            }
            w.no_more(&lead);
            lead.cancel().unwrap();
        });
        assert_eq!(order.into_inner().unwrap(), [(0, 2), (1, 3), (2, 4)]);
        let stats = world.settled(&[A]);
        assert_eq!((stats.cancels, stats.promotions, stats.in_flight), (4, 3, 0));
        world.nothing_left();
    });
}

/// A cancel while blocking followers join: whoever leads next does so alone, and nobody is lost
/// between the line and the vacant key.
#[test]
fn cancel_while_others_join() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        threads(|s| {
            for me in 1..=3 {
                s.spawn(move || {
                    let got = w.finish_alone(w.table.begin(&A), me);
                    assert!(matches!(got, Got::Led | Got::Shared(_)), "{got:?}");
                });
            }
            w.no_more(&lead);
            lead.cancel().unwrap();
        });
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}

/// By the other policy all that were in line fail, and those who come later start afresh.
#[test]
fn cancel_fails_all() {
    check(|| {
        let world = World::new(|table| table.on_cancel(OnCancel::FailAll));
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(|| {
                let got = w.finish(follower.wait(), 1);
                assert_eq!(got, Got::Failed(ErrorKind::Cancelled));
            });
            s.spawn(|| {
                let got = w.call(A, 2);
                assert!(matches!(got, Got::Led | Got::Failed(ErrorKind::Cancelled)), "{got:?}");
            });
            lead.cancel().unwrap();
        });
        assert_eq!(world.settled(&[A]).promotions, 0);
        world.nothing_left();
    });
}

/// A leader panics while others run the same key: the panic goes on, one of them leads in its
/// place, and nobody hangs.
#[test]
fn a_panic_is_succeeded() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        threads(|s| {
            for me in 1..=2 {
                s.spawn(move || {
                    let got = w.ran(w.table.run(&A, || w.value(me)));
                    assert!(!matches!(got, Got::Failed(_) | Got::Bypass), "{got:?}");
                });
            }
            // Not `panic!`, whose hook would print each of them.
            let run = || w.table.run(&A, || resume_unwind(Box::new("boom")));
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(outcome) => assert!(w.ran(outcome).value().is_some()),
                Err(panic) => assert_eq!(panic.downcast_ref(), Some(&"boom")),
            }
        });
        let stats = world.settled(&[A]);
        assert_eq!(stats.leads, 1 + stats.takeovers, "one completes: {stats:?}");
        assert!(stats.takeovers <= 1);
        world.nothing_left();
    });
}

/// A lead that is dropped is taken over: by the first in line, or by the next begin.
#[test]
fn a_dropped_lead_is_taken_over() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        threads(|s| {
            for me in 1..=2 {
                s.spawn(move || {
                    let got = w.finish_alone(w.table.begin(&A), me);
                    assert!(got == Got::Led || got.value().is_some(), "{got:?}");
                });
            }
            w.no_more(&lead);
            drop(lead);
        });
        assert_eq!(world.completions(), 1);
        assert_eq!(world.settled(&[A]).takeovers, 1);
        world.nothing_left();
    });
}

/// A decline tells all that were in line to do their own work, and leaves the key vacant.
#[test]
fn decline_bypasses() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(|| assert_eq!(w.finish(follower.wait(), 1), Got::Bypass));
            s.spawn(|| {
                let got = w.call(A, 2);
                assert!(matches!(got, Got::Bypass | Got::Led), "{got:?}");
            });
            lead.decline().unwrap();
        });
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}
