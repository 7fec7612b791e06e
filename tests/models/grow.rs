//! The index grows under its keys: a table in a model begins with two lines, and a line has six
//! places. Even keys share a line; those that leave 2 when divided by 4 go to its twin.

use std::time::Duration;

use onceflight::ErrorKind;

use crate::harness::{Got, KEPT, SECOND, World, check, threads};

/// They fill a line between them: three that stay, and three that go.
const STAY: [u64; 3] = [4, 8, 12];
const GO: [u64; 3] = [2, 6, 10];
/// One more in that line.
const SEVENTH: u64 = 14;

/// While one caller makes the index grow, others find their keys in flight: never vacant, though
/// they move, and each is there once when it is completed and forgotten.
#[test]
fn never_lost_and_never_twice() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let [stays, goes] = [STAY, GO].map(|keys| keys.map(|key| w.lead(key)));
        threads(|s| {
            s.spawn(|| assert_eq!(w.call(SEVENTH, 7), Got::Led));
            for key in [GO[0], STAY[0]] {
                s.spawn(move || assert_eq!(w.call(key, 9).value(), Some(0)));
            }
            s.spawn(|| {
                assert!(w.table.forget(&GO[1]).unwrap(), "it is there");
                assert_eq!(w.call(GO[1], 6), Got::Led);
            });
            for lead in stays.into_iter().chain(goes) {
                assert_eq!(w.complete(lead, 0), Got::Led);
            }
        });
        let mut all = [STAY, GO].concat();
        all.push(SEVENTH);
        world.settled(&all);
        for key in &all {
            assert!(w.table.forget(key).unwrap(), "kept: {key}");
            assert!(!w.table.forget(key).unwrap(), "kept once: {key}");
        }
        world.empty();
    });
}

/// Fences grow with every leader of a key, whichever line it stands in by then.
#[test]
fn fences_go_on() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let others = [STAY[0], STAY[1], STAY[2], GO[1], GO[2]].map(|key| w.lead(key));
        let lead_again = |key, before: u64| {
            let lead = w.lead(key);
            let fence = lead.fence();
            assert!(fence > before, "{key} had {before:#x}, and now has {fence:#x}");
            assert_eq!(w.complete(lead, 0), Got::Led);
            fence
        };
        let before = lead_again(GO[0], 0);
        threads(|s| {
            s.spawn(|| {
                // Two more: one of them at least is past the last place, whether that key is led or not.
                for lead in [SEVENTH, 18].map(|key| w.lead(key)) {
                    lead.cancel().unwrap();
                }
            });
            s.spawn(|| {
                let between = lead_again(GO[0], before);
                lead_again(GO[0], between);
            });
        });
        for lead in others {
            lead.cancel().unwrap();
        }
        world.settled(&[GO[0], SEVENTH]);
        world.nothing_left();
    });
}

/// The table closes while it grows: every follower hears of it, wherever its key has moved, and no
/// response stays behind.
#[test]
fn closed_meanwhile() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let leads = [STAY[0], STAY[1], GO[0], GO[1]].map(|key| w.lead(key));
        let followers = [STAY[0], GO[0]].map(|key| w.follow(key));
        for key in [STAY[2], GO[2]] {
            assert_eq!(w.call(key, 5), Got::Led);
        }
        threads(|s| {
            for follower in followers {
                s.spawn(move || {
                    let got = w.finish(follower.wait(), 1);
                    assert_eq!(got, Got::Failed(ErrorKind::Closed));
                });
            }
            s.spawn(|| {
                let got = w.call(SEVENTH, 7);
                assert!(matches!(got, Got::Led | Got::Failed(ErrorKind::Closed)), "{got:?}");
            });
            s.spawn(|| w.table.close());
        });
        for lead in leads {
            assert_eq!(w.complete(lead, 0), Got::Led);
        }
        world.settled(&[]);
        world.empty();
    });
}

/// It doubles twice before anybody looks at the odd half: what stands there parts twice at once.
#[test]
fn twice() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let leads = [4, 8, 12, 16, 20, 2, 1, 3, 7].map(|key| w.lead(key));
        threads(|s| {
            s.spawn(|| {
                // Each is one too many: the first has the place of the one that goes.
                for key in [24, 28] {
                    assert_eq!(w.call(key, key), Got::Led);
                }
            });
            for key in [3, 7, 2] {
                s.spawn(move || assert_eq!(w.call(key, 9).value(), Some(0)));
            }
            for lead in leads {
                assert_eq!(w.complete(lead, 0), Got::Led);
            }
        });
        let all = [1, 2, 3, 4, 7, 8, 12, 16, 20, 24, 28];
        world.settled(&all);
        for key in &all {
            assert!(w.table.forget(key).unwrap(), "kept: {key}");
        }
        world.empty();
    });
}

/// Responses move while the reaper walks: it comes for them too, though nobody completes another.
#[test]
fn swept_meanwhile() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(SECOND));
        let w = &world;
        assert_eq!(w.call(STAY[0], 0), Got::Led);
        onceflight::model::advance(SECOND / 2);
        for key in GO {
            assert_eq!(w.call(key, 0), Got::Led);
        }
        let others = [STAY[1], STAY[2]].map(|key| w.lead(key));
        threads(|s| {
            // The first one has expired, the others haven't.
            s.spawn(|| w.pass(SECOND * 3 / 4));
            s.spawn(|| w.lead(SEVENTH).cancel().unwrap());
        });
        for lead in others {
            lead.cancel().unwrap();
        }
        for _ in 0..2 {
            w.pass(SECOND * 10);
        }
        world.settled(&[]);
        world.empty();
    });
}

/// A flight that lost its leader moves while another key needs its place: it makes room.
#[test]
fn reclaimed_meanwhile() {
    check(|| {
        let world = World::new(|table| table.max_in_flight(7));
        let w = &world;
        let others = [STAY[0], STAY[1], STAY[2], GO[1], GO[2]].map(|key| w.lead(key));
        drop(w.lead(GO[0]));
        let mut seventh = None;
        threads(|s| {
            let leads = s.spawn(|| w.lead(SEVENTH));
            s.spawn(|| {
                let got = w.finish(w.table.begin_timeout(&1, Duration::ZERO), 1);
                assert_eq!(got, Got::Led, "there is one to make room");
            });
            seventh = Some(leads.join().unwrap());
        });
        for lead in others.into_iter().chain(seventh) {
            lead.cancel().unwrap();
        }
        world.settled(&[GO[0], 1, SEVENTH]);
        world.nothing_left();
    });
}
