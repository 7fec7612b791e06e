//! Limits under contention, and keys that have nothing to do with each other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use onceflight::ErrorKind;

use crate::harness::{A, A2, B, Got, World, check, place, threads};

const OVERLOADED: Got = Got::Failed(ErrorKind::Overloaded);

/// One key in flight at most: each caller leads, follows, or is told, and the place is given back.
#[test]
fn one_key_in_flight() {
    check(|| {
        let world = World::new(|table| table.max_in_flight(1));
        let w = &world;
        threads(|s| {
            for (key, me) in [(A, 1), (A, 2), (B, 3)] {
                s.spawn(move || {
                    let got = w.call(key, me);
                    assert!(
                        matches!(got, Got::Led | Got::Shared(_)) || got == OVERLOADED,
                        "{got:?}"
                    );
                });
            }
        });
        assert_eq!(world.settled(&[A, B]).in_flight, 0);
        world.nothing_left();
    });
}

/// Two callers reserve a place for one key: the one that finds the key taken gives its place back.
#[test]
fn an_unused_place_is_given_back() {
    check(|| {
        let world = World::new(|table| table.max_in_flight(2));
        let w = &world;
        threads(|s| {
            for (key, me) in [(A, 1), (A, 2), (B, 3)] {
                s.spawn(move || {
                    let got = w.call(key, me);
                    assert!(
                        matches!(got, Got::Led | Got::Shared(_)) || got == OVERLOADED,
                        "{got:?}"
                    );
                });
            }
        });
        world.settled(&[]);
        for lead in [w.lead(A), w.lead(B)] {
            lead.cancel().unwrap();
        }
        world.nothing_left();
    });
}

/// A flight that lost its leader makes room for another key, unless somebody takes it over.
#[test]
fn a_lost_flight_makes_room() {
    check(|| {
        let world = World::new(|table| table.max_in_flight(1));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| {
                let got = w.call(A, 1);
                assert!(got == Got::Led || got == OVERLOADED, "{got:?}");
            });
            s.spawn(|| {
                let got = w.call(B, 2);
                assert!(got == Got::Led || got == OVERLOADED, "{got:?}");
            });
            drop(lead);
        });
        // An orphan may be left: it makes room too.
        for key in [B, A] {
            assert_eq!(w.call(key, 3), Got::Led);
        }
        world.settled(&[A, B]);
        world.nothing_left();
    });
}

/// One follower at most: the other is told at once, and the place is free again afterwards.
#[test]
fn one_follower() {
    check(|| {
        let world = World::new(|table| table.max_waiters(1));
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| match place(w.table.try_begin(&A)) {
                Ok(follower) => drop(follower),
                Err(started) => {
                    let got = w.finish(started, 1);
                    assert!(got == Got::Led || got == OVERLOADED, "{got:?}");
                }
            });
            for me in 2..=3 {
                s.spawn(move || {
                    let got = w.call(A, me);
                    assert!(
                        matches!(got, Got::Led | Got::Shared(_)) || got == OVERLOADED,
                        "{got:?}"
                    );
                });
            }
            lead.cancel().unwrap();
        });
        assert_eq!(world.settled(&[A]).in_flight, 0);
        world.nothing_left();
    });
}

/// A key that is never settled holds up no other, in its own line or another one.
#[test]
fn distinct_keys_never_wait() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| assert_eq!(w.call(B, 1), Got::Led));
            s.spawn(|| assert_eq!(w.call(A2, 2), Got::Led));
            s.spawn(|| {
                let other = w.lead(3);
                lead.set_checkpoint(b"half").unwrap();
                assert_eq!(w.complete(other, 3), Got::Led);
            });
        });
        assert_eq!(w.complete(lead, 0), Got::Led);
        world.settled(&[A, B, A2]);
        world.nothing_left();
    });
}

/// A small limit holds at every instant, whoever looks, and no place is lost: not by a follower, an
/// orphan that makes room, a cancel or a completion.
#[test]
fn never_more_than_allowed() {
    const KEYS: [u64; 4] = [A, B, A2, 3];
    const LIMIT: u64 = 2;
    check(|| {
        let world = World::new(|table| table.max_in_flight(2));
        let w = &world;
        let leading = AtomicU64::new(0);
        threads(|s| {
            for (key, me) in (KEYS.into_iter()).zip(1..) {
                let leading = &leading;
                s.spawn(move || match w.started(w.table.begin(&key)) {
                    Ok(lead) => {
                        let others = leading.fetch_add(1, Relaxed);
                        assert!(others < LIMIT, "{others} others lead");
                        let in_flight = w.table.stats().in_flight;
                        assert!(in_flight <= LIMIT, "{in_flight} in flight");
                        shuttle::thread::yield_now();
                        leading.fetch_sub(1, Relaxed);
                        match me {
                            1 => drop(lead),
                            2 => assert!(w.in_time(lead.cancel())),
                            _ => assert_eq!(w.complete(lead, me), Got::Led),
                        }
                    }
                    Err(got) => assert_eq!(got, OVERLOADED),
                });
            }
        });
        // As many as are allowed, and no more; the orphan made room, if there was one.
        let leads = [w.lead(B), w.lead(A2)];
        assert_eq!(w.call(3, 9), OVERLOADED);
        for lead in leads {
            lead.cancel().unwrap();
        }
        world.settled(&KEYS);
        world.nothing_left();
    });
}
