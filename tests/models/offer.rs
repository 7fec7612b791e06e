//! Leads on offer to followers that don't block: taken up, let lapse, dropped.

use onceflight::Begin;

use crate::harness::{A, Got, Held, KEPT, Line, SECOND, World, check, threads};

/// Followers are dropped while the lead is on its way to them: it goes on to the one that stays.
#[test]
fn dropped_while_offered() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let (first, second, third) = (w.follow(A), w.follow(A), w.follow(A));
        threads(|s| {
            s.spawn(move || drop(first));
            s.spawn(move || drop(second));
            s.spawn(move || assert_eq!(w.finish(third.wait(), 3), Got::Led));
            lead.cancel().unwrap();
        });
        let stats = world.settled(&[A]);
        assert_eq!((stats.leads, stats.promotions), (2, 1), "{stats:?}");
        world.nothing_left();
    });
}

/// The last follower is dropped while the lead is on offer to it, and somebody begins.
#[test]
fn all_dropped_while_offered() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let only = w.follow(A);
        threads(|s| {
            s.spawn(move || drop(only));
            s.spawn(|| assert_eq!(w.call(A, 2), Got::Led));
            drop(lead);
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// An offer lapses while its follower looks at it: it leads now, or after the other one.
#[test]
fn lapsing_while_accepted() {
    check(|| {
        let world = World::new(|table| table.offer(SECOND));
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        let (first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            s.spawn(move || cancel_in_turn(w, first));
            s.spawn(move || cancel_in_turn(w, second));
            s.spawn(|| w.pass(SECOND * 2));
            w.no_more(&lead);
            lead.cancel().unwrap();
        });
        let stats = world.settled(&[A]);
        assert_eq!((stats.leads, stats.cancels, stats.in_flight), (3, 3, 0), "{stats:?}");
        world.nothing_left();
    });
}

fn cancel_in_turn(w: &World, follower: Line<'_>) {
    let lead = w.started(follower.wait()).expect("each leads in its turn");
    w.alone(&lead);
    shuttle::thread::yield_now();
    w.no_more(&lead);
    lead.cancel().unwrap();
}

/// An offer lapses with nobody else in line: the next begin leads, and the follower is told the
/// outcome; or the follower takes it up after all.
#[test]
fn lapsed_with_nobody_else() {
    check(|| {
        let world = World::new(|table| table.offer(SECOND));
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(move || {
                let got = w.finish_alone(follower.wait(), 1);
                assert!(matches!(got, Got::Led | Got::Shared(2)), "{got:?}");
            });
            s.spawn(|| {
                let got = w.finish_alone(w.table.begin(&A), 2);
                assert!(matches!(got, Got::Led | Got::Shared(1)), "{got:?}");
            });
            s.spawn(|| w.pass(SECOND * 2));
            w.no_more(&lead);
            lead.cancel().unwrap();
        });
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}

/// An offer is made, lapses and is made again while the first one is still being told: the newer
/// one counts, whatever is heard last.
#[test]
fn offered_again() {
    check(|| {
        let world = World::new(|table| table.offer(SECOND));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            s.spawn(move || assert_eq!(w.finish(first.wait(), 1), Got::Led));
            s.spawn(|| {
                w.pass(SECOND * 2);
                drop(second);
            });
            lead.cancel().unwrap();
        });
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}

/// The lease of an offered lead passes before it is accepted.
#[test]
fn overdue_while_offered() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(SECOND * 100));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            for (me, follower) in [(1, first), (2, second)] {
                s.spawn(move || {
                    let got = w.finish(follower.wait(), me);
                    assert!(!matches!(got, Got::Failed(_) | Got::Bypass), "{got:?}");
                });
            }
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| {
                let got = w.call(A, 3);
                assert!(!matches!(got, Got::Failed(_) | Got::Bypass), "{got:?}");
            });
            w.in_time(lead.abandon());
        });
        assert_eq!(world.completions(), 1, "exactly one completes");
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// The receiver has a message once there is something to see, whichever comes first: the message
/// being asked for, or the outcome.
#[test]
fn the_receiver_rings() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let (mut first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            s.spawn(move || {
                // It would block the one thread that all of the model runs on.
                while first.receiver().try_recv().is_err() {
                    shuttle::thread::yield_now();
                }
                let started = first.wait_timeout(std::time::Duration::ZERO);
                assert!(matches!(started, Ok(Begin::Lead(_))), "it is there: {started:?}");
                assert_eq!(w.finish(started, 1), Got::Led);
            });
            s.spawn(move || assert_eq!(w.finish(second.wait(), 2), Got::Shared(1)));
            lead.cancel().unwrap();
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// The lease has passed and the lead is on offer: that is no takeover yet. The late leader completes
/// while the follower accepts; exactly one of them wins.
#[test]
fn completed_while_the_offer_is_accepted() {
    overdue_on_offer(|w, late| {
        w.complete(late, 0);
    });
}

/// It cancels instead: then the follower leads because nothing happened, and otherwise because it
/// took over.
#[test]
fn cancelled_while_the_offer_is_accepted() {
    overdue_on_offer(|w, late| {
        w.in_time(late.cancel());
    });
}

/// It renews: then it is safe, and the follower goes on waiting.
#[test]
fn renewed_while_the_offer_is_accepted() {
    overdue_on_offer(|w, late| {
        let renewed = w.in_time(late.renew(KEPT));
        shuttle::thread::yield_now();
        let completed = w.complete(late, 0) == Got::Led;
        assert_eq!(renewed, completed, "renewed, it completes; overtaken, it is stale");
    });
}

/// It is lost after all: the offer isn't.
#[test]
fn abandoned_while_the_offer_is_accepted() {
    overdue_on_offer(|w, late| {
        w.in_time(late.abandon());
    });
}

/// `late` does something about its lead, which is on offer to the first of two followers, while
/// both come for it, and a third one begins.
fn overdue_on_offer(late: impl Fn(&World, Held<'_>) + Copy + Send + Sync + 'static) {
    check(move || {
        let world = World::new(|table| table.lease(SECOND).completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        w.pass(SECOND * 2);
        threads(|s| {
            for (me, follower) in [(1, first), (2, second)] {
                s.spawn(move || answered(w.finish(follower.wait(), me)));
            }
            s.spawn(|| answered(w.call(A, 3)));
            late(w, lead);
        });
        assert_eq!(world.completions(), 1, "exactly one completes");
        let stats = world.settled(&[A]);
        assert!(stats.stale == 0 || stats.takeovers == 1, "overtaken is stale: {stats:?}");
        assert_eq!((stats.promotions, stats.in_flight), (stats.cancels, 0), "{stats:?}");
        world.nothing_left();
    });
}

fn answered(got: Got) {
    assert!(got == Got::Led || got.value().is_some(), "{got:?}");
}

/// The offer lapses, is taken back by a renewal or accepted, all at once, and somebody joins the
/// line behind it: nobody waits for an offer that was forgotten.
#[test]
fn joined_and_renewed_while_lapsing() {
    check(|| {
        let world = World::new(|table| table.lease(SECOND).offer(SECOND).completed_ttl(KEPT));
        let w = &world;
        let late = w.lead(A);
        // Asleep: it holds its place and looks at nothing.
        let asleep = w.follow(A);
        w.pass(SECOND * 2);
        threads(|s| {
            s.spawn(|| answered(w.call(A, 1)));
            s.spawn(|| {
                while w.completions() == 0 {
                    w.pass(SECOND);
                    shuttle::thread::yield_now();
                }
            });
            w.in_time(late.renew(SECOND));
            std::mem::forget(late);
        });
        assert_eq!(w.finish(asleep.wait(), 2), Got::Shared(1));
        assert_eq!(world.completions(), 1);
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// The same for an outcome.
#[test]
fn the_receiver_rings_at_the_end() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let mut follower = w.follow(A);
        threads(|s| {
            s.spawn(move || {
                while follower.receiver().try_recv().is_err() {
                    shuttle::thread::yield_now();
                }
                let started = follower.wait_timeout(std::time::Duration::ZERO);
                assert_eq!(w.finish(started, 1), Got::Shared(0));
            });
            assert_eq!(w.complete(lead, 0), Got::Led);
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}
