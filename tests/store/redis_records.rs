//! Redis: records as they stand there, whole and damaged; and servers that won't do.

use std::time::{Duration, Instant};

use onceflight::store::{self, Claim, Claimed, RecordKey, Release, Response, Settled};
use redis::{Commands, Connection};

use crate::harness::*;
use crate::redis_servers::Server;

fn operator(world: &World) -> Connection {
    redis::Client::open(&*world.url).expect("a URL").get_connection().expect("a connection")
}

fn name(key: &RecordKey) -> String {
    let id = key.id().to_string();
    format!("onceflight:{{{}}}:{id}", &id[..2])
}

fn counter(key: &RecordKey) -> String {
    format!("onceflight:{{{}}}:epoch", &key.id().to_string()[..2])
}

/// Every call but `evict` says that the record can't be read, and leaves it as it is.
fn is_unreadable(world: &World, key: &RecordKey, held: store::Held, why: &str) {
    let store = &world.store().0;
    let check = |what: &str, error: Option<onceflight::Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} of a record with {why}"));
        assert_eq!(error.kind(), onceflight::ErrorKind::Store, "{what}, {why}: {error}");
        assert!(error.to_string().contains(&key.id().to_string()), "{what}, {why}: {error}");
    };
    let response = Response::new(200, b"done");
    check("claim", store.claim(key, &claim(), soon()).err());
    check("renew", store.renew(key, held, None, soon()).err());
    check("checkpoint", store.checkpoint(key, held, b"half", soon()).err());
    check("complete", store.complete(key, held, &response, LONG, soon()).err());
    check("release", store.release(key, held, Release::Abandon, soon()).err());
    check("withdraw", store.withdraw(key, held.token, soon()).err());
    check("forget", store.forget(key, soon()).err());
    check("read", store.read(key, soon()).err());
}

/// #39
#[test]
fn a_corrupt_record_is_an_error_and_can_be_evicted() {
    let world = World::new(&REDIS);
    let mut redis = operator(&world);
    let spoilings: [(&str, isize, &[u8]); 9] = [
        ("another program's format", 0, b"x"),
        ("no state", 1, b"X"),
        ("completed without a response", 1, b"C"),
        ("neither watched nor not", 2, b"7"),
        ("a name that is too short", 7, &[0; 4]),
        ("a name that is too long", 7, &[0xff; 4]),
        ("a fingerprint that is too long", 11, &[0xff; 4]),
        ("a rest that isn't there", 15, &[1, 0, 0, 0]),
        ("an epoch that can't be", 19, &[0xff; 8]),
    ];
    for (why, offset, bytes) in spoilings {
        let key = world.key("k");
        let held = world.store().lead(&key, &claim()).held;
        let _: usize = redis.setrange(name(&key), offset, bytes).expect("a change");
        is_unreadable(&world, &key, held, why);
        failed(world.store().0.list(&world.scope, None, 10, soon()));
        assert!(world.store().evict(&key));
        assert!(world.store().read(&key).is_none());
    }
}

#[test]
fn a_record_that_lost_a_part_or_has_one_more_is_never_taken_for_whole() {
    let world = World::new(&REDIS);
    let mut redis = operator(&world);
    let key = world.key("k");
    let held = world.store().lead(&key, &claim()).held;
    assert_eq!(world.store().complete(&key, held, b"done", LONG), Settled::Done);
    let whole: Vec<u8> = redis.get(name(&key)).expect("a string");
    let parts = (1..whole.len()).map(|len| whole[..len].to_vec());
    for other in parts.chain([[&whole[..], b"!"].concat()]) {
        let len = other.len();
        let () = redis.set(name(&key), other).expect("a change");
        is_unreadable(&world, &key, held, &format!("{len} of {} bytes", whole.len()));
    }
    assert!(world.store().evict(&key));
}

#[test]
fn what_is_no_record_at_all_is_an_error_and_can_be_evicted() {
    let world = World::new(&REDIS);
    let mut redis = operator(&world);
    let key = world.key("k");
    let held = world.store().lead(&key, &claim()).held;
    let () = redis.set(name(&key), "a string").expect("a change");
    is_unreadable(&world, &key, held, "a string of somebody else's");
    let () = redis.del(name(&key)).expect("a change");
    let () = redis.hset(name(&key), "v", 1).expect("a change");
    is_unreadable(&world, &key, held, "the type of a hash");
    // It has no scope either: nobody's list fails for it.
    assert!(world.store().0.list(&world.scope, None, 10, soon()).expect("a list").is_empty());
    assert!(world.store().evict(&key));
}

#[test]
fn another_format_is_not_touched() {
    let world = World::new(&REDIS);
    for format in ["1", "3"] {
        let key = world.key("k");
        let held = world.store().lead(&key, &claim()).held;
        let _: usize = operator(&world).setrange(name(&key), 0, format).expect("a change");
        is_unreadable(&world, &key, held, &format!("format {format}"));
        let error = world.store().0.read(&key, soon()).expect_err("an error");
        assert!(error.to_string().contains(&format!("format {format}")), "{error}");
        assert!(world.store().evict(&key));
    }
}

/// #8: keys are compared whole, not by hash alone.
#[test]
fn a_record_of_another_key_with_the_same_hash_is_an_error() {
    let world = World::new(&REDIS);
    let scope = isize::try_from(world.scope.len()).expect("short");
    // The length of the scope, the scope, the key.
    for offset in [63, 67, 67 + scope] {
        let key = world.key("k");
        world.store().lead(&key, &claim());
        let _: usize = operator(&world).setrange(name(&key), offset, "o").expect("a change");
        failed(world.store().0.claim(&key, &claim(), soon()));
        failed(world.store().0.read(&key, soon()));
        assert!(world.store().evict(&key));
    }
}

/// #42
#[test]
fn only_what_expires_is_dropped_by_the_server_and_only_some_time_after() {
    let world = World::new(&REDIS);
    let mut redis = operator(&world);
    let never = -1;
    let mut lives = |key: &RecordKey| -> i64 { redis.pttl(name(key)).expect("an answer") };
    let millis = |time: Duration| i64::try_from(time.as_millis()).expect("short");
    let key = world.key("k");
    let endless = Claim { lease: None, ..claim() };
    let led = world.store().lead(&key, &endless);
    assert_eq!(lives(&key), never);
    assert_eq!(world.store().renew(&key, led.held, Some(LONG)), Settled::Done);
    assert!(lives(&key) > millis(2 * LONG), "lease and keep, and then some");
    assert_eq!(world.store().renew(&key, led.held, None), Settled::Done);
    assert_eq!(lives(&key), never);
    assert_eq!(world.store().complete(&key, led.held, b"", Duration::ZERO), Settled::Done);
    let left = lives(&key);
    assert!((1..=millis(GRACE)).contains(&left), "{left}");
    // And what comes next is not dropped with it.
    world.store().lead(&key, &endless);
    assert_eq!(lives(&key), never);
    assert!(world.store().evict(&key));
}

/// #29
#[test]
fn epochs_grow_whatever_became_of_their_counter() {
    let world = World::new(&REDIS);
    let key = world.key("k");
    let first = world.store().lead(&key, &claim());
    let () = operator(&world).del(counter(&key)).expect("a change");
    assert_eq!(world.store().release(&key, first.held, Release::Abandon), Settled::Done);
    let second = world.store().lead(&key, &claim());
    assert!(second.held.epoch > first.held.epoch);
    // A clock that was set back.
    let ahead = second.held.epoch + 1_000_000_000;
    let () = operator(&world).set(counter(&key), ahead).expect("a change");
    assert_eq!(world.store().release(&key, second.held, Release::Abandon), Settled::Done);
    let third = world.store().lead(&key, &claim());
    assert_eq!(third.held.epoch, ahead + 1);
    // And then the counter was lost: the record has it still.
    let () = operator(&world).del(counter(&key)).expect("a change");
    assert_eq!(world.store().release(&key, third.held, Release::Abandon), Settled::Done);
    assert_eq!(world.store().lead(&key, &claim()).held.epoch, ahead + 2);
    assert!(world.store().evict(&key));
}

/// #29: neither counter nor record is left, and so the clock must do.
#[test]
fn epochs_grow_though_nothing_is_remembered() {
    let world = World::new(&REDIS);
    let key = world.key("k");
    let first = world.store().lead(&key, &claim());
    assert!(world.store().evict(&key));
    let () = operator(&world).del(counter(&key)).expect("a change");
    assert!(world.store().lead(&key, &claim()).held.epoch > first.held.epoch);
    assert!(world.store().evict(&key));
}

/// #29: the record is gone, and the clock was set back since it was led.
#[test]
fn epochs_of_a_fresh_record_go_by_the_counter_too() {
    let world = World::new(&REDIS);
    let key = world.key("k");
    let ahead = world.store().lead(&key, &claim()).held.epoch + 1_000_000_000;
    assert!(world.store().evict(&key));
    let () = operator(&world).set(counter(&key), ahead).expect("a change");
    let led = world.store().lead(&key, &claim());
    assert!(led.held.epoch > ahead);
    assert_eq!(world.store().read(&key).expect("a record").epoch, led.held.epoch);
    assert_eq!(world.store().complete(&key, led.held, b"done", LONG), Settled::Done);
    assert!(world.store().evict(&key));
    assert!(world.store().lead(&key, &claim()).held.epoch > led.held.epoch);
    assert!(world.store().evict(&key));
}

#[test]
fn a_claim_that_gets_no_epoch_leaves_no_record() {
    let server = Server::start(&[]);
    let (store, key) = (server.store(), RecordKey::new("s", "k").expect("short"));
    let () = server.operator().lpush(counter(&key), "no number").expect("a change");
    failed(store.0.claim(&key, &claim(), soon()));
    assert!(store.read(&key).is_none());
    let () = server.operator().del(counter(&key)).expect("a change");
    store.lead(&key, &claim());
}

#[test]
fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let server = Server::start(&[]);
    let (store, key) = (server.store(), RecordKey::new("s", "k").expect("short"));
    let led = store.lead(&key, &claim());
    let () = server.ask("SCRIPT FLUSH");
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    assert_eq!(completed(store.claim(&key, &claim())).data(), b"done");
}

/// What it costs: a round trip each, and nothing is published unless somebody waits.
#[test]
fn every_verb_is_one_command() {
    let server = Server::start(&[]);
    let store = server.store();
    let round = |key: &RecordKey| {
        let led = store.lead(key, &claim());
        assert_eq!(store.renew(key, led.held, Some(LONG)), Settled::Done);
        assert_eq!(store.complete(key, led.held, b"done", LONG), Settled::Done);
        completed(store.claim(key, &claim()));
    };
    round(&RecordKey::new("s", "known from now on").expect("short"));
    let () = server.ask("CONFIG RESETSTAT");
    round(&RecordKey::new("s", "k").expect("short"));
    let stats: String = server.ask("INFO commandstats");
    assert!(stats.contains("cmdstat_evalsha:calls=4,"), "{stats}");
    assert!(!stats.contains("cmdstat_eval:"), "{stats}");
    assert!(!stats.contains("cmdstat_publish:"), "{stats}");
}

#[test]
fn two_prefixes_and_two_databases_do_not_mix() {
    let server = Server::start(&[]);
    let key = RecordKey::new("s", "k").expect("short");
    for place in ["", "/1", "/?prefix=shop", "/1?prefix=shop"] {
        let store = Client(store::open(&(server.url() + place)).expect("a store"));
        store.lead(&key, &claim());
        assert_eq!(store.0.list(b"s", None, 10, soon()).expect("a list").len(), 1, "{place}");
    }
}

#[test]
fn a_server_that_may_drop_records_is_refused_unless_that_is_allowed() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]);
    let error = store::open(&server.url()).expect_err("a refusal");
    assert!(error.to_string().contains("noeviction"), "{error}");
    store::open(&(server.url() + "?eviction=allow")).expect("a store");
    let () = server.ask("CONFIG SET maxmemory-policy noeviction");
    store::open(&server.url()).expect("a store");
}

#[test]
fn a_full_server_refuses_and_the_lead_stays_live() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let (store, key) = (server.store(), RecordKey::new("s", "k").expect("short"));
    let led = store.lead(&key, &claim());
    let known = RecordKey::new("s", "known").expect("short");
    let held = store.lead(&known, &claim()).held;
    assert_eq!(store.complete(&known, held, b"known", LONG), Settled::Done);
    let () = server.ask("CONFIG SET maxmemory 1");
    let response = Response::new(200, b"done");
    let error = store.0.complete(&key, led.held, &response, LONG, soon()).expect_err("no memory");
    assert!(error.to_string().contains("maxmemory"), "{error}");
    failed(store.0.claim(&RecordKey::new("s", "other").expect("short"), &claim(), soon()));
    let replayed = store.0.claim(&known, &claim(), soon());
    assert!(matches!(replayed, Ok(Claimed::Completed(_))), "what it has it tells: {replayed:?}");
    let () = server.ask("CONFIG SET maxmemory 0");
    assert_eq!(store.respond(&key, led.held, &response, LONG), Settled::Done);
}

#[test]
fn a_password_is_needed_and_never_told() {
    let server = Server::start(&[]);
    let () = server.ask("ACL SETUSER me on >s3cret ~onceflight:* &onceflight:* +@read +@write +@scripting +@pubsub +@connection +time");
    let () = server.ask("ACL SETUSER poor on >s3cret ~onceflight:* +@all");
    let at = |user: &str| format!("redis://{user}@127.0.0.1:{}", server.port);
    let error = store::open(&at("me:wr0ng")).expect_err("a wrong password");
    assert!(
        error.to_string().contains("WRONGPASS") && !error.to_string().contains("wr0ng"),
        "{error}"
    );

    let key = RecordKey::new("s", "k").expect("short");
    let store = Client(store::open(&at("me:s3cret")).expect("a store"));
    assert!(!format!("{store:?}", store = store.0).contains("s3cret"));
    let mut news = store.listen();
    let led = store.lead(&key, &claim());
    in_progress(store.claim(&key, &Claim { watch: true, ..claim() }));

    // Who may not publish settles nothing.
    let poor = Client(store::open(&at("poor:s3cret")).expect("a store"));
    let response = Response::new(200, b"done");
    let error = poor.0.complete(&key, led.held, &response, LONG, soon()).expect_err("no right");
    assert!(error.to_string().contains("publish"), "{error}");

    assert_eq!(store.respond(&key, led.held, &response, LONG), Settled::Done);
    let mut heard = Vec::new();
    news.wait(soon(), &mut |it| heard.push(it)).expect("news");
    assert_eq!(heard, [store::Heard::Record(key.id())]);
    assert_eq!(store.0.list(b"s", None, 10, soon()).expect("a list").len(), 1);
}

#[test]
fn a_replica_is_refused() {
    let server = Server::start(&[]);
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", server.port)]);
    let error = store::open(&replica.url()).expect_err("a refusal");
    assert!(error.to_string().contains("primary"), "{error}");
    // One that becomes a replica is left for whoever has its address then; here, nobody.
    let (store, key) = (server.store(), RecordKey::new("s", "k").expect("short"));
    store.lead(&key, &claim());
    let () = server.ask("REPLICAOF 127.0.0.1 1");
    failed(store.0.claim(&RecordKey::new("s", "l").expect("short"), &claim(), soon()));
    let () = server.ask("REPLICAOF NO ONE");
    store.lead(&RecordKey::new("s", "m").expect("short"), &claim());
}

/// What stops answering costs its callers their deadlines and no more; and when it is back, so are
/// they.
#[test]
fn a_server_may_freeze_and_be_restarted() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let (store, key) = (server.store(), RecordKey::new("s", "k").expect("short"));
    at_once(8, |_| drop(store.read(&key)));
    let led = store.lead(&key, &claim());
    server.freeze();
    at_once(20, |_| {
        let deadline = Instant::now() + SHORT;
        failed(store.0.read(&key, deadline));
        assert!(deadline.elapsed() < PATIENCE / 2, "{:?} late", deadline.elapsed());
    });
    server.thaw();
    assert!(store.read(&key).is_some());
    at_once(8, |_| drop(store.read(&key)));
    let () = server.ask("CLIENT KILL TYPE normal");
    at_once(8, |_| drop(store.read(&key)));
    server.restart();
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    server.kill();
    let far = Instant::now() + PATIENCE;
    failed(store.0.read(&key, far));
    assert!(Instant::now() + PATIENCE / 2 < far, "a refused connection is an error at once");
}

#[test]
fn a_listener_notices_that_its_server_is_silent() {
    let server = Server::start(&[]);
    let store = server.store();
    let mut news = store.listen();
    server.freeze();
    let far = Instant::now() + PATIENCE;
    failed(news.wait(far, &mut |_| ()));
    assert!(Instant::now() < far);
    server.thaw();
    assert!(matches!(
        store.claim(&RecordKey::new("s", "k").expect("short"), &claim()),
        Claimed::Lead(_)
    ));
}

/// Silence is no loss: the server is asked, and answers.
#[test]
fn a_listener_outlives_silence() {
    let server = Server::start(&[]);
    let (store, key) = (server.store(), RecordKey::new("s", "k").expect("short"));
    let mut news = store.listen();
    let led = store.lead(&key, &claim());
    in_progress(store.claim(&key, &Claim { watch: true, ..claim() }));
    eventually("its question", || {
        news.wait(Instant::now() + SHORT, &mut |it| panic!("{it:?}")).expect("no loss");
        let stats: String = server.ask("INFO commandstats");
        let pings = stats.split("cmdstat_ping:calls=").nth(1)?.split(',').next()?;
        (pings.parse::<u32>().expect("a number") > 2).then_some(()) // one was the opening
    });
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
    let mut heard = None;
    news.wait(soon(), &mut |it| heard = Some(it)).expect("news");
    assert_eq!(heard, Some(store::Heard::Record(key.id())));
}
