//! Servers that are stopped, killed or frozen in the middle of traffic, and come back.
//!
//! | meanwhile | afterwards |
//! |-|-|
//! | calls fail as the store's failure, in time, and nothing is executed | the same tables work again, by themselves |
//! | what was completed can't be asked for | it is replayed |
//! | a lead that couldn't complete is still live | it completes |
//! | who follows it, here or from another table, goes on waiting or is told | they get its response |
//!
//! A server of memcached forgets all as it stops, so there the two last lines are only that nobody
//! hangs. The traffic is judged as that of killed leaders is ([`caller`]).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};
use std::thread;
use std::time::Duration;

use onceflight::idempotency::Begin;
use onceflight::{Error, ErrorKind};

use crate::caller::{self, Caller, STORE_TIMEOUT, Tally};
use crate::harness::{
    AtTheEnd, Found, PATIENCE, Place, Random, eventually, on_every_server, response, seed,
};
use crate::ledger::Ledger;
use crate::servers::{Servers, shared};
use crate::worker::Fate;

on_every_server!(outages_are_survived);

const LONG: Duration = Duration::from_secs(3600);

fn outages_are_survived(place: &Place) {
    static OURS: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
    let servers = shared(&OURS, || Servers::start(&[]));
    let place = &place.at(servers.url(place.store));
    for (down, up) in [("stop", "start"), ("kill", "start"), ("freeze", "thaw")] {
        let forgets = place.store == "memcached" && up == "start";
        outage(place, &servers, down, up, forgets);
    }
}

fn outage(place: &Place, servers: &Servers, down: &str, up: &str, forgets: bool) {
    let server = match place.store {
        "redis_cluster" => "redis-cluster-2",
        "memcached" => "memcached-1",
        only => only,
    };
    // A scope of its own for each outage.
    let tables = [(); 2].map(|()| {
        place.table(|table| caller::terms(table).scope(format!("{} {down}", place.scope)))
    });
    let path = place.dir.path.join(down);
    let (ledger, tally, fate) = (Ledger::open(&path), Tally::default(), Fate::none());
    let (over, next, seed) = (AtomicBool::new(false), AtomicU64::new(0), seed());
    let caller = |number: usize| {
        let random = Random(seed.wrapping_add(number as u64));
        let (table, ledger) = (&tables[number % 2], &ledger);
        Caller { table, ledger, fate: &fate, random, tally: &tally }
    };
    tables[0].begin("kept").lead().complete(response("kept")).unwrap();
    let lead = tables[0].request("held").lease(LONG).begin().lead();
    thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        for number in 0..4 {
            let (mut caller, over, next) = (caller(number), &over, &next);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let key = next.load(Ordering::Relaxed);
                    if caller.visit(key, Duration::from_millis(300)) {
                        next.fetch_max(key + 1, Ordering::Relaxed);
                    }
                }
            });
        }
        let waiting = [0, 1, 1].map(|table| {
            let table = &tables[table];
            scope.spawn(move || table.begin_timeout("held", PATIENCE).map(end))
        });
        eventually("a follower", || (tables[0].stats().waiting > 0).then_some(()));
        await_more(&tally.responses, 20);

        servers.order(server, down);
        await_more(&tally.failures, 8);
        // In a cluster its server may be another one.
        let completed = caller::in_time(STORE_TIMEOUT, || lead.complete(response("held")));
        servers.order(server, up);

        // More than what was under way.
        await_more(&tally.responses, 50);
        if let Err(refused) = completed {
            assert_eq!(refused.error.kind(), ErrorKind::Store, "{}", refused.error);
            let lead = refused.lead.expect("a live lead");
            let again = lead.complete(refused.response).map_err(Error::from);
            assert!(forgets || again.is_ok(), "after {down} and {up}: {again:?}");
        }
        for waiting in waiting {
            match waiting.join().expect("no panic") {
                Ok(data) => assert!(forgets || data == b"held"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Store, "{error}"),
            }
        }
    });
    if forgets {
        return;
    }
    assert_eq!(tables[1].begin("kept").response().data(), b"kept");
    let verdict = caller::judge(caller(0), &path, next.into_inner());
    println!("{}, {down}: {verdict:?}, {} failures", place.store, tally.failures.into_inner());
}

/// A response's bytes; who leads ends that with one.
fn end(begun: Begin<'_>) -> Vec<u8> {
    match begun {
        Begin::Lead(lead) => {
            lead.complete(response("led again")).expect("the store is back");
            b"led again".into()
        }
        Begin::Shared(response) | Begin::Replayed(response) => response.data().into(),
        Begin::Bypass => unreachable!("nobody declines"),
    }
}

/// Until so many more of them were counted.
fn await_more(counter: &AtomicUsize, more: usize) {
    let goal = counter.load(Ordering::Relaxed) + more;
    eventually("more", || (counter.load(Ordering::Relaxed) >= goal).then_some(()));
}
