//! When a lead may be taken over, and when not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::store::{Claim, Claimed, Release, Settled};

use crate::harness::*;

suite!(
    a_lead_without_a_lease_is_never_taken_over,
    a_passed_lease_permits_a_takeover,
    a_lease_of_zero_is_not_none,
    without_leave_to_take_over_the_outcome_is_unknown,
    an_abandoned_lead_can_be_taken_over_at_once,
    an_abandoned_lead_without_a_lease_can_be_taken_over,
    of_forty_takeovers_one_succeeds,
    takeovers_that_race_with_renewals_never_make_two_leads,
    a_renewed_lease_does_not_pass,
    a_renewed_lease_passes_at_its_new_end,
    a_renewal_can_end_the_lease_and_take_it_away,
    a_late_lead_that_nobody_took_over_renews,
    a_late_lead_that_nobody_took_over_completes,
    who_waits_does_not_make_a_lease_last,
    a_lost_lead_is_forgotten_in_time,
    a_lost_lead_without_keep_is_remembered,
    a_lease_lasts_though_nothing_is_remembered_past_it,
    a_takeover_has_a_lease_of_its_own,
    endless_times_do_not_end,
);

/// A live record without a lease's end isn't an orphan (#24).
fn a_lead_without_a_lease_is_never_taken_over(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &Claim { lease: None, keep: Some(Duration::ZERO), ..claim() });
    thread::sleep(SHORT); // a store that takes none for zero would now call it passed
    for other in [store.clone(), world.another()] {
        assert_eq!(in_progress(other.claim(&key, &claim())), (led.held.epoch, None));
    }
    let record = store.record(&key);
    assert_eq!(record.lease_left, None);
    assert_eq!(record.expires_in, None);
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
}

fn a_passed_lease_permits_a_takeover(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &brief());
    let claim = claim();
    let second = led(&claim, world.another().outwait(&key, &claim));
    assert!(second.grant.taken_over);
    assert_eq!(second.grant.attempt, 2);
    assert!(second.held.epoch > first.held.epoch);
    assert_eq!(in_progress(store.claim(&key, &brief())).0, second.held.epoch);
}

/// Nobody leads before the moment that an earlier answer promised, to a fraction of a millisecond.
fn a_lease_lasts_though_nothing_is_remembered_past_it(world: &World) {
    let (store, lease) = (world.store(), Some(Duration::from_micros(5_900)));
    let brief = || Claim { lease, keep: Some(Duration::ZERO), ..claim() };
    for number in 0..60 {
        let key = world.key(&number.to_string());
        let first = store.lead(&key, &brief());
        if number % 2 == 0 {
            let _ = store.renew(&key, first.held, lease); // done, or too late
        }
        let mut promised = Instant::now();
        loop {
            let asked = Instant::now();
            match store.claim(&key, &brief()) {
                Claimed::InProgress { lease_left, .. } => {
                    promised = promised.max(asked + lease_left.expect("a lease"));
                }
                next => break assert!(Instant::now() >= promised, "{next:?}"),
            }
        }
        assert!(store.evict(&key));
    }
}

/// No time left isn't time without end (#23).
fn a_lease_of_zero_is_not_none(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let _ = store.lead(&key, &Claim { lease: Some(Duration::ZERO), ..claim() });
    let claim = claim();
    let second = led(&claim, world.another().outwait(&key, &claim));
    assert_eq!(second.grant.attempt, 2);
}

/// The policy to hold what may have happened (#28): every claim is told so, until one has leave.
fn without_leave_to_take_over_the_outcome_is_unknown(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &brief());
    let hold = || Claim { take_over: false, ..claim() };
    unknown(&store.outwait(&key, &hold()));
    unknown(&world.another().outwait(&key, &hold()));
    mismatch(&store.claim(&key, &Claim { fingerprint: None, ..claim() }));
    let record = store.record(&key);
    assert_eq!((record.epoch, record.attempt), (first.held.epoch, 1));
    assert_eq!(record.lease_left, Some(Duration::ZERO));
    assert_eq!(store.lead(&key, &claim()).grant.attempt, 2);
}

fn an_abandoned_lead_can_be_taken_over_at_once(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &claim());
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    unknown(&world.another().claim(&key, &Claim { take_over: false, ..claim() }));
    assert_eq!(store.record(&key).lease_left, Some(Duration::ZERO));
    let second = world.another().lead(&key, &claim());
    assert!(second.grant.taken_over);
    assert_eq!(second.grant.attempt, 2);
    assert!(second.held.epoch > first.held.epoch);
}

fn an_abandoned_lead_without_a_lease_can_be_taken_over(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &Claim { lease: None, keep: None, ..claim() });
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    assert_eq!(world.another().lead(&key, &claim()).grant.attempt, 2);
}

/// A takeover compares with what it saw, and swaps (#25).
fn of_forty_takeovers_one_succeeds(world: &World) {
    let stores = world.others(4);
    for round in 0..3 {
        let key = world.key(&format!("round {round}"));
        let first = stores[0].lead(&key, &brief());
        let answers = at_once(40, |number| {
            let store = &stores[number % 4];
            eventually("a takeover", || match store.claim(&key, &claim()) {
                Claimed::InProgress { epoch, .. } if epoch == first.held.epoch => None,
                other => Some(other),
            })
        });
        let takes = |answer: &Claimed| matches!(answer, Claimed::Lead(_));
        let leads: Vec<_> = answers.iter().filter(|answer| takes(answer)).collect();
        let [Claimed::Lead(second)] = *leads else { panic!("one takeover was due: {answers:?}") };
        assert!(second.taken_over && second.attempt == 2 && second.epoch > first.held.epoch);
        let epoch = second.epoch;
        for answer in answers.into_iter().filter(|answer| !takes(answer)) {
            assert_eq!(in_progress(answer).0, epoch);
        }
    }
}

/// The old lead renews as its lease passes, and another takes over: one of them has it then.
fn takeovers_that_race_with_renewals_never_make_two_leads(world: &World) {
    let (old, new) = (world.another(), world.another());
    for round in 0..10 {
        let key = world.key(&format!("round {round}"));
        let first = old.lead(&key, &brief());
        let renewing = AtomicBool::new(true);
        let (overtaken, second) = thread::scope(|scope| {
            let renewals = scope.spawn(|| {
                eventually("the takeover", || {
                    let last = !renewing.load(Ordering::SeqCst);
                    let renewed = old.renew(&key, first.held, Some(Duration::from_micros(300)));
                    assert!(!last || renewed == Settled::Stale, "renewed after the takeover");
                    (renewed == Settled::Stale).then_some(())
                });
                old.complete(&key, first.held, b"first", LONG)
            });
            let claim = claim();
            let second = led(&claim, new.outwait(&key, &claim));
            renewing.store(false, Ordering::SeqCst);
            (renewals.join().expect("no panic"), second)
        });
        assert_eq!(overtaken, Settled::Stale);
        assert_eq!(new.complete(&key, second.held, b"second", LONG), Settled::Done);
        assert_eq!(completed(old.claim(&key, &claim())).data(), b"second");
    }
}

fn a_renewed_lease_does_not_pass(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &brief());
    // Whether or not it has passed meanwhile: nobody has taken over.
    assert_eq!(store.renew(&key, led.held, Some(LONG)), Settled::Done);
    thread::sleep(2 * SHORT);
    let (epoch, left) = in_progress(world.another().claim(&key, &claim()));
    assert_eq!(epoch, led.held.epoch);
    assert!(left.expect("a lease") > LONG / 2);
    in_progress(store.claim(&key, &claim()));
}

fn a_renewed_lease_passes_at_its_new_end(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &claim());
    in_progress(world.another().claim(&key, &claim()));
    assert_eq!(store.renew(&key, led.held, Some(SHORT)), Settled::Done);
    unknown(&world.another().outwait(&key, &Claim { take_over: false, ..claim() }));
}

fn a_renewal_can_end_the_lease_and_take_it_away(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &brief());
    assert_eq!(store.renew(&key, led.held, None), Settled::Done);
    thread::sleep(2 * SHORT);
    assert_eq!(in_progress(world.another().claim(&key, &claim())), (led.held.epoch, None));
    assert_eq!(store.renew(&key, led.held, Some(Duration::ZERO)), Settled::Done);
    unknown(&world.another().outwait(&key, &Claim { take_over: false, ..claim() }));
}

fn a_late_lead_that_nobody_took_over_renews(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &brief());
    unknown(&store.outwait(&key, &Claim { take_over: false, ..claim() }));
    assert_eq!(store.renew(&key, led.held, Some(LONG)), Settled::Done);
    assert_eq!(in_progress(world.another().claim(&key, &claim())).0, led.held.epoch);
    assert_eq!(in_progress(store.claim(&key, &claim())).0, led.held.epoch);
}

fn a_late_lead_that_nobody_took_over_completes(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let led = store.lead(&key, &brief());
    unknown(&store.outwait(&key, &Claim { take_over: false, ..claim() }));
    assert_eq!(store.checkpoint(&key, led.held, b"late"), Settled::Done);
    assert_eq!(store.complete(&key, led.held, b"late", LONG), Settled::Done);
    assert_eq!(completed(world.another().claim(&key, &claim())).data(), b"late");
}

/// The mark that somebody waits is no sign of the lead's.
fn who_waits_does_not_make_a_lease_last(world: &World) {
    let (key, stores) = (world.key("k"), world.others(2));
    let _ = stores[0].lead(&key, &brief());
    at_once(4, |number| {
        let hold = Claim { take_over: false, watch: true, ..claim() };
        unknown(&stores[number % 2].outwait(&key, &hold));
    });
}

/// As if it had never been, but for the epoch.
fn a_lost_lead_is_forgotten_in_time(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &Claim { keep: Some(SHORT), ..brief() });
    assert_eq!(store.checkpoint(&key, first.held, b"half"), Settled::Done);
    let second = eventually("that it is forgotten", || {
        let claim = Claim { take_over: false, ..claim() };
        match store.claim(&key, &claim) {
            Claimed::InProgress { .. } | Claimed::Unknown => None,
            lead => Some(led(&claim, lead)),
        }
    });
    assert_eq!((second.grant.attempt, second.grant.taken_over), (1, false));
    assert_eq!(second.grant.checkpoint, None);
    assert!(second.held.epoch > first.held.epoch);
}

fn a_lost_lead_without_keep_is_remembered(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let _ = store.lead(&key, &Claim { keep: None, ..brief() });
    unknown(&store.outwait(&key, &Claim { take_over: false, ..claim() }));
    assert_eq!(store.record(&key).expires_in, None);
    thread::sleep(2 * SHORT);
    unknown(&store.claim(&key, &Claim { take_over: false, ..claim() }));
}

/// And a time of its own that it is remembered.
fn a_takeover_has_a_lease_of_its_own(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    let first = store.lead(&key, &Claim { lease: None, keep: None, ..claim() });
    assert_eq!(store.release(&key, first.held, Release::Abandon), Settled::Done);
    let second = store.lead(&key, &claim());
    let left = in_progress(store.claim(&key, &claim())).1.expect("a lease");
    assert!(left <= LONG && left > LONG / 2);
    let expires = store.record(&key).expires_in.expect("a time");
    assert!(expires > LONG && expires <= 2 * LONG + GRACE, "{expires:?}");
    assert_eq!(store.release(&key, second.held, Release::Abandon), Settled::Done);
    let _ = store.lead(&key, &Claim { lease: None, ..claim() });
    assert_eq!(in_progress(store.claim(&key, &claim())).1, None);
    assert_eq!(store.record(&key).expires_in, None);
}

/// However long: nothing overflows, and nothing is over before it began.
fn endless_times_do_not_end(world: &World) {
    let (key, store) = (world.key("k"), world.store());
    for endless in [Duration::MAX, Duration::from_secs(100 * 365 * 86_400)] {
        let led = store.lead(&key, &Claim { lease: Some(endless), keep: Some(endless), ..claim() });
        in_progress(world.another().claim(&key, &claim()));
        in_progress(store.claim(&key, &claim()));
        assert_eq!(store.renew(&key, led.held, Some(endless)), Settled::Done);
        in_progress(store.claim(&key, &claim()));
        assert_eq!(
            store.release(&key, led.held, Release::Cancel { successor: true, keep: endless }),
            Settled::Done
        );
        let led = store.lead(&key, &claim());
        assert_eq!(led.grant.attempt, 2);
        assert_eq!(store.complete(&key, led.held, b"kept", endless), Settled::Done);
        assert_eq!(completed(world.another().claim(&key, &claim())).data(), b"kept");
        assert!(store.evict(&key));
    }
}
