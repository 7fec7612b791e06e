//! Random walks: what the other models don't think of.

use std::time::Duration;

use onceflight::{ErrorKind, OnLeaseExpired};
use shuttle::rand::{Rng, thread_rng};

use crate::harness::{
    A, A2, Got, Line, SECOND, Started, World, check, check_determined, place, threads,
};

/// Three threads, each doing three things of all that can be done with two keys, while time goes
/// on: nobody hangs, each outcome is counted once, nothing is left.
fn walk(policy: OnLeaseExpired) {
    let world = World::new(|table| {
        table
            .lease(SECOND)
            .offer(SECOND)
            .completed_ttl(SECOND)
            .max_completed(1)
            .max_in_flight(2)
            .on_lease_expired(policy)
    });
    let w = &world;
    threads(|s| {
        for me in 1..=3 {
            s.spawn(move || (0..3).for_each(|_| step(w, me)));
        }
    });
    // Time passes for those that are left behind; then nobody is.
    for _ in 0..4 {
        w.pass(SECOND);
    }
    for key in [A, A2] {
        w.table.forget(&key).unwrap();
    }
    w.pass(SECOND * 2);
    world.settled(&[A, A2]);
    world.empty();
}

fn step(w: &World, me: u64) {
    let key = if chance(3) { A2 } else { A };
    match thread_rng().gen_range(0..8) {
        0 => w.pass(SECOND),
        1 => drop(w.table.forget(&key).unwrap()),
        2 => settle(w, w.table.begin_timeout(&key, Duration::ZERO), me),
        choice => {
            let request = w.table.request(&key);
            let request = if choice == 3 { request.recover() } else { request };
            match place(request.try_begin()) {
                Ok(follower) => stay_or_leave(w, follower, me),
                Err(started) => settle(w, started, me),
            }
        }
    }
}

fn stay_or_leave(w: &World, mut follower: Line<'_>, me: u64) {
    if chance(3) {
        return drop(follower);
    }
    if chance(2) {
        match follower.wait_timeout(Duration::ZERO) {
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            started => return settle(w, started, me),
        }
    }
    settle(w, follower.wait(), me);
}

fn settle(w: &World, started: Started<'_>, me: u64) {
    let Ok(lead) = w.started(started) else { return };
    match thread_rng().gen_range(0..6) {
        0 => drop(w.in_time(lead.cancel())),
        1 => drop(w.in_time(lead.abandon())),
        2 => drop(w.in_time(lead.decline())),
        3 => {
            if w.in_time(lead.renew(SECOND * 2)) {
                w.complete(lead, me);
            } else {
                assert_eq!(w.complete(lead, me), Got::Stale);
            }
        }
        _ => drop(w.complete(lead, me)),
    }
}

fn chance(one_in: u32) -> bool {
    thread_rng().gen_ratio(1, one_in)
}

#[test]
fn with_takeovers() {
    check(|| walk(OnLeaseExpired::TakeOver));
}

#[test]
fn with_hold() {
    check(|| walk(OnLeaseExpired::Hold));
}

/// A schedule decides all that happens: so one that fails can be run again.
#[test]
fn the_same_again() {
    check_determined(|| walk(OnLeaseExpired::TakeOver));
}
