//! `close` with everything in flight.

use onceflight::ErrorKind;

use crate::harness::{A, B, Got, KEPT, SECOND, World, check, threads};

const CLOSED: Got = Got::Failed(ErrorKind::Closed);

/// Leads still settle, every waiter hears of it, and afterwards nothing begins and nothing is held.
#[test]
fn with_everything_in_flight() {
    check(|| {
        let world = World::new(|table| table.completed_ttl(KEPT));
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        assert_eq!(w.call(B, 9), Got::Led);
        threads(|s| {
            s.spawn(|| {
                let got = w.finish(follower.wait(), 1);
                assert!(got == Got::Shared(0) || got == CLOSED, "{got:?}");
            });
            s.spawn(|| {
                let got = w.call(A, 2);
                assert!(got.value() == Some(0) || got == CLOSED, "{got:?}");
            });
            s.spawn(|| {
                let got = w.call(B, 3);
                assert!(got == Got::Replayed(9) || got == CLOSED, "{got:?}");
            });
            s.spawn(|| w.table.close());
            assert_eq!(w.complete(lead, 0), Got::Led);
        });
        assert_eq!(w.call(A, 4), CLOSED);
        assert_eq!(w.call(B, 4), CLOSED);
        world.settled(&[]);
        world.empty();
    });
}

/// The table closes while a lead is on offer: the follower has it and settles, or is told.
#[test]
fn while_on_offer() {
    check(|| {
        let world = World::new(|table| table.offer(SECOND));
        let w = &world;
        let lead = w.lead(A);
        let (first, second) = (w.follow(A), w.follow(A));
        threads(|s| {
            for (me, follower) in [(1, first), (2, second)] {
                s.spawn(move || {
                    let got = w.finish(follower.wait(), me);
                    assert!(
                        !matches!(got, Got::Failed(kind) if kind != ErrorKind::Closed),
                        "{got:?}"
                    );
                });
            }
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| w.table.close());
            lead.cancel().unwrap();
        });
        world.settled(&[]);
        world.empty();
    });
}

/// The table closes while followers of a cancelled flight leave by themselves.
#[test]
fn while_leaving() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(move || drop(follower));
            s.spawn(|| {
                let got = w.finish(w.table.begin_timeout(&A, SECOND), 2);
                let failed = matches!(got, Got::Failed(ErrorKind::Closed | ErrorKind::Timeout));
                assert!(failed || got == Got::Led, "{got:?}");
            });
            s.spawn(|| w.pass(SECOND * 2));
            s.spawn(|| w.table.close());
            lead.cancel().unwrap();
        });
        world.settled(&[]);
        world.empty();
    });
}

/// A lead is dropped as the table closes: nobody is left to take over, so nothing is kept for it.
#[test]
fn while_abandoned() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        let follower = w.follow(A);
        threads(|s| {
            s.spawn(|| {
                let got = w.finish(follower.wait(), 1);
                assert!(got == Got::Led || got == CLOSED, "{got:?}");
            });
            s.spawn(|| w.table.close());
            drop(lead);
        });
        world.settled(&[]);
        world.empty();
    });
}

/// A follower that comes as the table closes is told, whichever comes first: its lead, which is
/// settled only afterwards, could leave it waiting.
#[test]
fn while_joining() {
    check(|| {
        let world = World::new(|table| table);
        let w = &world;
        let lead = w.lead(A);
        threads(|s| {
            for me in 1..=2 {
                s.spawn(move || assert_eq!(w.call(A, me), CLOSED));
            }
            s.spawn(|| w.table.close());
        });
        assert_eq!(w.complete(lead, 0), Got::Led);
        world.settled(&[]);
        world.empty();
    });
}
