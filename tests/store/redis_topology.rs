//! Redis Cluster: partitions that move, servers that go.

use std::thread;
use std::time::Instant;

use onceflight::store::{self, Claim, RecordKey, Release, Settled};

use crate::harness::*;
use crate::redis_servers::{Server, cluster};

fn open(url: &str) -> Client {
    Client(store::open(url).expect("a store"))
}

fn key(number: usize) -> RecordKey {
    RecordKey::new("scope", number.to_string()).expect("short")
}

/// The names of a key's record and of its counter of epochs, and their slot.
fn names(members: &[Server], key: &RecordKey) -> (String, String, u16) {
    let id = key.id().to_string();
    let names = |last: &str| format!("onceflight:{{{}}}:{last}", &id[..2]);
    let slot = members[0].ask(&format!("CLUSTER KEYSLOT {}", names(&id)));
    (names(&id), names("epoch"), slot)
}

/// The port of the primary that has a slot, as one of the members sees it.
fn owner(seen_by: &Server, slot: u16) -> u16 {
    let ranges: Vec<(u16, u16, (String, u16))> = seen_by
        .ask::<Vec<Vec<redis::Value>>>("CLUSTER SLOTS")
        .into_iter()
        .map(|mut range| {
            range.truncate(3);
            if let redis::Value::Array(primary) = &mut range[2] {
                primary.truncate(2);
            }
            redis::from_redis_value(redis::Value::Array(range)).expect("a range")
        })
        .collect();
    let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
    range.expect("all slots have an owner").2.1
}

#[test]
fn a_partition_may_move_while_it_is_used() {
    let (members, url) = cluster(3, 0);
    let (store, key) = (open(&url), key(0));
    let led = store.lead(&key, &claim());

    let (record, counter, slot) = names(&members, &key);
    let port = owner(&members[0], slot);
    let from = members.iter().find(|member| member.port == port).expect("one of them");
    let to = members.iter().find(|member| member.port != port).expect("another");
    let name = |member: &Server| member.ask::<String>("CLUSTER MYID");
    let () = to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", name(from)));
    let () = from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", name(to)));
    assert_eq!(store.renew(&key, led.held, Some(LONG)), Settled::Done);

    let migrate = |name: &str| {
        let () = from.ask(&format!("MIGRATE 127.0.0.1 {} {name} 0 5000", to.port));
    };
    // Half of it is there: what needs only that goes on, and what needs both waits.
    migrate(&record);
    assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);
    assert_eq!(store.release(&key, led.held, Release::Abandon), Settled::Done);
    failed(store.0.claim(&key, &claim(), Instant::now() + SHORT));
    thread::scope(|scope| {
        let claims = scope.spawn(|| store.lead(&key, &claim()));
        migrate(&counter);
        let next = claims.join().expect("a lead");
        assert_eq!((next.grant.attempt, next.grant.checkpoint.as_deref()), (2, Some(&b"half"[..])));
        assert!(next.held.epoch > led.held.epoch);

        for member in [to, from, &members[0], &members[1], &members[2]] {
            let () = member.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", name(to)));
        }
        assert_eq!(store.complete(&key, next.held, b"done", LONG), Settled::Done);
        assert_eq!(completed(open(&url).claim(&key, &claim())).data(), b"done");
        assert_eq!(store.0.list(b"scope", None, 10, soon()).expect("a list").len(), 1);
    });
}

#[test]
fn a_frozen_server_holds_up_its_own_partitions_only() {
    let (members, url) = cluster(3, 0);
    let store = open(&url);
    let frozen = &members[0];
    let keys: Vec<_> = (0..40).map(key).collect();
    let (its, others): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| owner(&members[1], names(&members[1..], key).2) == frozen.port);
    assert!(!its.is_empty() && !others.is_empty());
    for key in &keys {
        store.lead(key, &claim());
    }
    frozen.freeze();
    for key in &its {
        let deadline = Instant::now() + SHORT;
        failed(store.0.read(key, deadline));
        assert!(deadline.elapsed() < PATIENCE / 2, "{:?} late", deadline.elapsed());
    }
    // Who comes now learns from the others who has what.
    let late = open(&url);
    for key in others {
        store.record(key);
        late.record(key);
    }
    frozen.thaw();
    for key in its {
        // It was thought dead, and is believed again in a while.
        eventually("its return", || late.0.read(key, soon()).ok().flatten());
        eventually("its return", || store.0.read(key, soon()).ok().flatten());
    }
}

#[test]
fn a_replica_takes_over_with_all_it_was_told() {
    let (mut members, url) = cluster(3, 3);
    let (store, key) = (open(&url), key(0));
    let led = store.lead(&key, &claim());
    in_progress(store.claim(&key, &Claim { watch: true, ..claim() }));
    assert_eq!(store.checkpoint(&key, led.held, b"half"), Settled::Done);

    let (.., slot) = names(&members, &key);
    let port = owner(&members[0], slot);
    let primary = members.iter().position(|member| member.port == port).expect("one of them");
    eventually("its replica", || {
        let info: String = members[primary].ask("INFO replication");
        let offset = info.split("master_repl_offset:").nth(1)?.split('\r').next()?.to_owned();
        info.contains(&format!("state=online,offset={offset},")).then_some(())
    });
    let mut listeners: Vec<_> = (0..8).map(|_| store.listen()).collect();
    let unaware = open(&url);
    unaware.record(&key);
    members[primary].kill();
    let next = eventually("its successor", || {
        // Not yet: an error. And then the lead is as it was.
        let _ = store.0.release(&key, led.held, Release::Abandon, soon()).ok()?;
        Some(store.lead(&key, &claim()))
    });
    assert_eq!((next.grant.attempt, next.grant.checkpoint.as_deref()), (2, Some(&b"half"[..])));
    assert!(next.held.epoch > led.held.epoch);
    // Who goes to the old one is told by the others, once they all know; and its call is as good as any.
    let record = eventually("word of it", || unaware.0.read(&key, soon()).ok().flatten());
    assert_eq!(record.epoch, next.held.epoch);

    // Who listened to a server that is left has heard it, and the others know that they haven't.
    for news in &mut listeners {
        let mut heard = None;
        let lost = news.wait(soon(), &mut |it| heard = Some(it)).is_err();
        assert!(lost || heard == Some(store::Heard::Record(key.id())));
    }
    in_progress(store.claim(&key, &Claim { watch: true, ..claim() }));
    let mut news = store.listen();
    assert_eq!(store.complete(&key, next.held, b"done", LONG), Settled::Done);
    let mut heard = None;
    news.wait(soon(), &mut |it| heard = Some(it)).expect("news");
    assert_eq!(heard, Some(store::Heard::Record(key.id())));
}
