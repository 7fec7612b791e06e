//! A crowd that returns in turn. (In a model three are a crowd.)

use onceflight::{Begin, ErrorKind};
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread::yield_now;

use crate::harness::{A, Got, Held, SECOND, World, check, threads};

fn with_a_leader(model: impl Fn(&World, Held<'_>) + Send + Sync + 'static) {
    check(move || {
        let world = World::new(|table| table);
        model(&world, world.lead(A));
        world.nothing_left();
    });
}

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
    with_a_leader(|w, lead| {
        threads(|s| {
            for me in 1..=4 {
                s.spawn(move || {
                    let got = in_turn(w, me);
                    assert!(got == Got::Led || matches!(got, Got::Shared(_)), "{got:?}");
                });
            }
            assert_eq!(w.complete(lead, 9), Got::Led);
        });
        w.settled(&[A]);
    });
}

/// One that asked for no turn comes while the others have theirs.
#[test]
fn one_comes_late() {
    with_a_leader(|w, lead| {
        threads(|s| {
            for me in 1..=3 {
                s.spawn(move || in_turn(w, me));
            }
            s.spawn(|| w.call(A, 4));
            assert_eq!(w.complete(lead, 9), Got::Led);
        });
        w.settled(&[A]);
    });
}

/// Nobody waits for ever for the end of another's turn, the usher neither.
#[test]
fn a_turn_that_does_not_end() {
    with_a_leader(|w, lead| {
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
        w.settled(&[A]);
    });
}

/// Of a crowd, one has a deadline; it may be the usher, or the one whose turn is next.
#[test]
fn one_leaves() {
    with_a_leader(|w, lead| {
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
    });
}

/// The lead is offered to one of the crowd first, which completes; the others return in turn.
#[test]
fn one_succeeds() {
    with_a_leader(|w, lead| {
        threads(|s| {
            for me in 1..=4 {
                s.spawn(move || in_turn(w, me));
            }
            lead.cancel().unwrap();
        });
        w.settled(&[A]);
    });
}

/// The flight is forgotten and ends without an outcome, so that the crowd begins again.
#[test]
fn all_begin_again() {
    with_a_leader(|w, lead| {
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
        assert_eq!(w.table.stats().waiting, 0);
    });
}
