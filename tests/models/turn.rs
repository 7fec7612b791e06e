//! A crowd that returns in turn. (In a model three are a crowd.)

use onceflight::{Begin, ErrorKind};
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread::yield_now;

use crate::harness::{A, Got, SECOND, World, check, threads};

/// Begins in turn, and has what it got while its turn lasts.
fn in_turn(world: &World, me: u64) -> Got {
    let (started, turn) = world.table.request(&A).begin_in_turn();
    let got = world.finish(started, me);
    yield_now();
    drop(turn);
    got
}

/// With four there may be a crowd and one more. No time passes here: whoever isn't woken hangs.
#[test]
fn all_return() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=4 {
                s.spawn(move || {
                    let got = in_turn(w, me);
                    assert!(got == Got::Led || matches!(got, Got::Shared(_)), "{got:?}");
                });
            }
            assert_eq!(w.complete(lead, 9), Got::Led);
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// One that asked for no turn comes while the others have theirs.
#[test]
fn one_comes_late() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=3 {
                s.spawn(move || in_turn(w, me));
            }
            s.spawn(|| w.call(A, 4));
            assert_eq!(w.complete(lead, 9), Got::Led);
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// Nobody waits for ever for the end of another's turn, the usher neither.
#[test]
fn a_turn_that_does_not_end() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let back = &AtomicUsize::new(0);
        threads(|s| {
            for me in 1..=4 {
                s.spawn(move || {
                    let (started, turn) = w.table.request(&A).begin_in_turn();
                    w.finish(started, me);
                    back.fetch_add(1, SeqCst);
                    std::mem::forget(turn);
                });
            }
            assert_eq!(w.complete(lead, 9), Got::Led);
            while back.load(SeqCst) < 4 {
                w.pass(SECOND);
                yield_now();
            }
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// Of a crowd, one has a deadline; it may be the usher, or the one whose turn is next.
#[test]
fn one_leaves() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=3 {
                s.spawn(move || in_turn(w, me));
            }
            s.spawn(|| {
                let (started, turn) = w.table.request(&A).timeout(SECOND).begin_in_turn();
                let got = w.finish(started, 4);
                let late = got == Got::Failed(ErrorKind::Timeout);
                assert!(late || matches!(got, Got::Led | Got::Shared(_)), "{got:?}");
                drop(turn);
            });
            s.spawn(|| w.pass(SECOND * 2));
            assert_eq!(w.complete(lead, 9), Got::Led);
        });
        world.nothing_left();
    });
}

/// The lead is offered to one of the crowd first, which completes; the others return in turn.
#[test]
fn one_succeeds() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=4 {
                s.spawn(move || in_turn(w, me));
            }
            lead.cancel().unwrap();
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// The flight is forgotten and ends without an outcome, so that the crowd begins again.
#[test]
fn all_begin_again() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=4 {
                s.spawn(move || in_turn(w, me));
            }
            w.table.forget(&A).unwrap();
            if let Ok(Begin::Lead(other)) = w.table.begin_timeout(&A, SECOND * 0) {
                lead.cancel().unwrap();
                assert_eq!(w.complete(other, 8), Got::Led);
            } else {
                lead.cancel().unwrap();
            }
        });
        assert_eq!(world.table.stats().waiting, 0);
        world.nothing_left();
    });
}
