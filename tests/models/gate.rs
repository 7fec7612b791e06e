//! Threads that sleep for one flight, and a call that is for one of them.

use onceflight::ErrorKind;

use crate::harness::{A, Got, Line, SECOND, World, check, threads};

/// The lead is offered to one of three sleepers, and any of them may be the one that is woken.
#[test]
fn misheard() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let line = [w.follow(A), w.follow(A), w.follow(A)];
        threads(|s| {
            for (me, follower) in (1..).zip(line) {
                s.spawn(move || {
                    let got = w.finish(follower.wait(), me);
                    assert_eq!(got, if me == 1 { Got::Led } else { Got::Shared(1) });
                });
            }
            lead.cancel().unwrap();
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// The one that is woken in another's stead is about to leave: its time is up.
#[test]
fn misheard_by_one_that_leaves() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        let hang_on = |mut follower: Line<'_>, me| match follower.wait_timeout(SECOND) {
            Err(error) if error.kind() == ErrorKind::Timeout => drop(follower),
            started => drop(w.finish(started, me)),
        };
        threads(|s| {
            s.spawn(move || {
                let got = w.finish(first.wait(), 1);
                assert_eq!(got, Got::Led);
            });
            s.spawn(move || {
                let got = w.finish(w.table.begin_timeout(&A, SECOND), 3);
                let failed = got == Got::Failed(ErrorKind::Timeout);
                assert!(failed || matches!(got, Got::Led | Got::Shared(1)), "{got:?}");
            });
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| lead.cancel().unwrap());
            hang_on(second, 2);
        });
        assert_eq!(world.table.stats().waiting, 0);
        world.nothing_left();
    });
}

/// One offer lapses and the next is made before the first is heard: two calls at a time, and each
/// of those called has its turn.
#[test]
fn two_calls_at_once() {
    check(|| {
        let world = World::new(|table| table.offer(SECOND));
        let w = &world;
        let lead = w.lead(A);
        w.alone(&lead);
        let line = [w.follow(A), w.follow(A), w.follow(A)];
        threads(|s| {
            for follower in line {
                s.spawn(move || {
                    let lead = w.started(follower.wait()).expect("each leads in its turn");
                    w.alone(&lead);
                    shuttle::thread::yield_now();
                    w.no_more(&lead);
                    lead.cancel().unwrap();
                });
            }
            s.spawn(|| (0..2).for_each(|_| w.pass(SECOND)));
            w.no_more(&lead);
            lead.cancel().unwrap();
        });
        let stats = world.settled(&[A]);
        assert_eq!((stats.leads, stats.cancels, stats.in_flight), (4, 4, 0), "{stats:?}");
        world.nothing_left();
    });
}
