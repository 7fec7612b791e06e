//! Who waits for another's lead hears that it ended.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use onceflight::store::{Claim, Claimed, Heard, News, RecordKey, Release, Settled};

use crate::harness::*;

suite!(
    a_completion_is_heard,
    a_release_is_heard,
    a_withdrawal_is_heard,
    an_eviction_is_heard,
    every_listener_hears,
    a_handover_is_never_missed,
    news_of_many_records_are_all_heard,
    a_wait_without_news_ends,
);

fn watch() -> Claim<'static> {
    Claim { watch: true, ..claim() }
}

/// Waits until news come that may be this record's. A store may tell more than there is.
#[track_caller]
fn hear(news: &mut dyn News, key: &RecordKey) {
    let until = Instant::now() + PATIENCE;
    let mut heard = false;
    while !heard {
        assert!(Instant::now() < until, "it was never told");
        let mut listen = |it| heard |= it == Heard::Any || it == Heard::Record(key.id());
        news.wait(until, &mut listen).expect("news");
    }
}

/// Listens, then claims, as followers do: so what is settled after the claim is heard.
#[track_caller]
fn follow(store: &Client, key: &RecordKey) -> Box<dyn News> {
    let news = store.listen();
    in_progress(store.claim(key, &watch()));
    news
}

fn a_completion_is_heard(world: &World) {
    let (leader, follower) = (world.store(), world.another());
    for (number, ttl) in [LONG, Duration::ZERO].into_iter().enumerate() {
        let key = world.key(&number.to_string());
        let led = leader.lead(&key, &claim());
        let mut news = follow(&follower, &key);
        assert_eq!(leader.complete(&key, led.held, b"done", ttl), Settled::Done);
        hear(&mut *news, &key);
        let following = Claim { following: Some(led.held.epoch), ..watch() };
        assert_eq!(completed(follower.claim(&key, &following)).data(), b"done");
    }
}

fn a_release_is_heard(world: &World) {
    let (leader, follower) = (world.store(), world.another());
    for release in [CANCEL, SUCCEED, Release::Abandon] {
        let key = world.key(&format!("{release:?}"));
        let led = leader.lead(&key, &claim());
        let mut news = follow(&follower, &key);
        assert_eq!(leader.release(&key, led.held, release), Settled::Done);
        hear(&mut *news, &key);
        let _ = follower.lead(&key, &watch());
    }
}

/// Of a first attempt, which goes, and of a second, which is left as if abandoned.
fn a_withdrawal_is_heard(world: &World) {
    let (key, leader, follower) = (world.key("k"), world.store(), world.another());
    for attempt in [1, 2] {
        let led = leader.lead(&key, &claim());
        assert_eq!(led.grant.attempt, attempt);
        let mut news = follow(&follower, &key);
        leader.withdraw(&key, led.held.token);
        hear(&mut *news, &key);
        let next = follower.lead(&key, &watch());
        assert_eq!(next.grant.attempt, if attempt == 1 { 1 } else { 3 });
        assert_eq!(follower.release(&key, next.held, SUCCEED), Settled::Done);
    }
}

fn an_eviction_is_heard(world: &World) {
    let (key, follower) = (world.key("k"), world.another());
    let _ = world.store().lead(&key, &claim());
    let mut news = follow(&follower, &key);
    assert!(world.store().evict(&key));
    hear(&mut *news, &key);
    let _ = follower.lead(&key, &watch());
}

/// Through the leader's own handle too, and through one that two listen by.
fn every_listener_hears(world: &World) {
    let (key, leader, other) = (world.key("k"), world.store(), world.another());
    let led = leader.lead(&key, &claim());
    let mut all = [leader, &other, &other].map(|store| follow(store, &key));
    assert_eq!(leader.complete(&key, led.held, b"done", LONG), Settled::Done);
    for news in &mut all {
        hear(&mut **news, &key);
    }
}

/// One thread leads and settles while the other claims and waits, as close together as can be.
fn a_handover_is_never_missed(world: &World) {
    const ROUNDS: u64 = 200;
    let (key, leader, follower) = (world.key("k"), world.store(), world.another());
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let led = leader.lead(&key, &claim());
                ready.wait();
                let settled = match round % 2 {
                    0 => leader.complete(&key, led.held, b"done", Duration::ZERO),
                    _ => leader.release(&key, led.held, SUCCEED),
                };
                assert_eq!(settled, Settled::Done);
                ready.wait(); // until the follower has its answer
            }
        });
        let mut news = follower.listen();
        for round in 0..ROUNDS {
            ready.wait();
            let mut following = None;
            loop {
                let claim = Claim { following, ..watch() };
                match follower.claim(&key, &claim) {
                    Claimed::InProgress { epoch, .. } => {
                        following = Some(epoch);
                        hear(&mut *news, &key);
                    }
                    Claimed::Completed(response) => {
                        assert_eq!(response.data(), b"done");
                        break;
                    }
                    // It came when all was over, or was told to succeed.
                    Claimed::Lead(grant) => {
                        assert!(round % 2 == 1 || following.is_none(), "the response was lost");
                        let held = led(&claim, Claimed::Lead(grant)).held;
                        assert_eq!(follower.release(&key, held, CANCEL), Settled::Done);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            ready.wait();
        }
    });
}

fn news_of_many_records_are_all_heard(world: &World) {
    let (leader, follower) = (world.store(), world.another());
    let keys: Vec<_> = (0..50).map(|number| world.key(&number.to_string())).collect();
    let leads: Vec<_> = keys.iter().map(|key| leader.lead(key, &claim())).collect();
    let mut news = follower.listen();
    for key in &keys {
        in_progress(follower.claim(key, &watch()));
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            for (key, led) in keys.iter().zip(&leads) {
                assert_eq!(leader.complete(key, led.held, b"done", LONG), Settled::Done);
            }
        });
        let mut open: Vec<_> = keys.iter().collect();
        let until = Instant::now() + PATIENCE;
        while !open.is_empty() {
            assert!(Instant::now() < until, "{} were never told", open.len());
            let mut told = Vec::new();
            news.wait(until, &mut |heard| told.push(heard)).expect("news");
            open.retain(|key| {
                let named = told.contains(&Heard::Any) || told.contains(&Heard::Record(key.id()));
                // What is told before this one's end is another's: then there is more to come.
                !(named && matches!(follower.claim(key, &watch()), Claimed::Completed(_)))
            });
        }
    });
}

fn a_wait_without_news_ends(world: &World) {
    let key = world.key("k");
    let _ = world.store().lead(&key, &claim());
    let mut news = follow(&world.another(), &key);
    let until = Instant::now() + SHORT;
    let mut own = false;
    while Instant::now() < until {
        news.wait(until, &mut |heard| own |= heard == Heard::Record(key.id())).expect("no news");
    }
    assert!(!own, "nothing was settled");
    // One that is over already looks, and doesn't block.
    news.wait(until, &mut |_| ()).expect("no news");
}
