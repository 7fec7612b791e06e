//! Limits under contention, and keys that have nothing to do with each other.

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

/// A key that is never settled holds up no other, in its own shard or another one.
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
