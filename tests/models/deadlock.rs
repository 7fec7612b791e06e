//! Waits that would never end are found; those that end are left alone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use onceflight::ErrorKind;
use shuttle::sync::Barrier;

use crate::harness::{A, B, Got, World, check, threads};

const C: u64 = 2;
const RING: Got = Got::Failed(ErrorKind::WouldDeadlock);

/// A closure that begins its own key is told at once, whoever else waits for it.
#[test]
fn its_own_key() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        threads(|s| {
            s.spawn(|| {
                let got = w.ran(w.table.run(&A, || {
                    assert_eq!(w.ran(w.table.run(&A, || w.value(9))), RING);
                    w.value(1)
                }));
                assert!(matches!(got, Got::Led | Got::Shared(2)), "{got:?}");
            });
            s.spawn(|| {
                let got = w.ran(w.table.run(&A, || w.value(2)));
                assert!(matches!(got, Got::Led | Got::Shared(1)), "{got:?}");
            });
        });
        world.settled(&[A]);
        world.nothing_left();
    });
}

/// A ring of threads, each leading what the one before waits for: at least one is told, and none
/// hangs.
fn ring(keys: &'static [u64]) {
    check(move || {
        let world = World::new(|table| table);
        let w = &world;
        let all_lead = Barrier::new(keys.len());
        let told = AtomicU64::new(0);
        threads(|s| {
            for (index, key) in keys.iter().enumerate() {
                let next = &keys[(index + 1) % keys.len()];
                let (all_lead, told) = (&all_lead, &told);
                s.spawn(move || {
                    let got = w.ran(w.table.run(key, || {
                        all_lead.wait();
                        match w.ran(w.table.run(next, || w.value(9))) {
                            RING => drop(told.fetch_add(1, Relaxed)),
                            got => assert!(matches!(got, Got::Shared(_) | Got::Led), "{got:?}"),
                        }
                        w.value(*key)
                    }));
                    assert_eq!(got, Got::Led);
                });
            }
        });
        assert!(told.load(Relaxed) > 0, "somebody is told");
        assert!(told.load(Relaxed) < keys.len() as u64 || keys.len() == 2, "not all of them are");
        world.settled(keys);
        world.nothing_left();
    });
}

#[test]
fn a_ring_of_two() {
    ring(&[A, B]);
}

#[test]
fn a_ring_of_three() {
    ring(&[A, B, C]);
}

/// A chain is no ring: each waits for the next, and the last one ends.
#[test]
fn a_chain_is_no_ring() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        threads(|s| {
            for (key, next) in [(A, B), (B, C)] {
                s.spawn(move || {
                    let got = w.ran(w.table.run(&key, || {
                        let inner = w.ran(w.table.run(&next, || w.value(9)));
                        assert!(matches!(inner, Got::Led | Got::Shared(_)), "{inner:?}");
                        w.value(key)
                    }));
                    assert!(matches!(got, Got::Led | Got::Shared(_)), "{got:?}");
                });
            }
            s.spawn(|| {
                let got = w.ran(w.table.run(&C, || w.value(C)));
                assert!(matches!(got, Got::Led | Got::Shared(_)), "{got:?}");
            });
        });
        world.settled(&[A, B, C]);
        world.nothing_left();
    });
}

/// A promotion changes whom the others wait for: what was no ring stays none, and one that it
/// closes is found.
#[test]
fn promoted_into_a_ring() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            s.spawn(|| {
                // Leads B, waits for A, and may come to lead that too.
                let got = w.ran(w.table.run(&B, || {
                    let inner = w.ran(w.table.run(&A, || w.value(1)));
                    assert!(matches!(inner, Got::Led | Got::Shared(_)) || inner == RING);
                    w.value(2)
                }));
                assert!(matches!(got, Got::Led | Got::Shared(_)) || got == RING, "{got:?}");
            });
            s.spawn(|| {
                // Waits for A, and may come to lead it and wait for B.
                let got = w.ran(w.table.run(&A, || {
                    let inner = w.ran(w.table.run(&B, || w.value(3)));
                    assert!(matches!(inner, Got::Led | Got::Shared(_)) || inner == RING);
                    w.value(4)
                }));
                assert!(matches!(got, Got::Led | Got::Shared(_)) || got == RING, "{got:?}");
            });
            lead.cancel().unwrap();
        });
        assert_eq!(world.table.stats().waiting, 0);
        world.nothing_left();
    });
}
