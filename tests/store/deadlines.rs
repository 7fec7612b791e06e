//! A server that doesn't answer, or is gone: every call ends, and says so (#44).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use onceflight::Error;
use onceflight::store::{
    self, Claim, Claimed, Heard, RecordKey, Release, Response, Settled, Token,
};

use crate::harness::*;
use crate::proxy::Proxy;

suite!(proxied:
    every_call_to_a_frozen_server_ends,
    a_server_that_is_frozen_from_the_start_is_an_error,
    all_who_wait_for_a_connection_are_let_go,
    late_answers_are_nobodys,
    what_happened_unheard_is_told_when_asked_again,
    a_call_that_is_cut_off_is_made_again,
    a_cut_connection_is_replaced,
    a_server_that_is_gone_is_an_error_at_once,
    news_that_may_have_been_lost_are_an_error,
    a_wait_for_news_of_a_frozen_server_ends,
);

/// Much more than a call may be late by on a slow machine, and less than if it went on.
const MARGIN: Duration = Duration::from_secs(30);

/// A server of this test's own, as it looks.
struct Line {
    proxies: Vec<Proxy>,
    url: String,
    store: Client,
}

impl Line {
    fn to(world: &World) -> Self {
        let (proxies, url) = Proxy::before_all(&world.url);
        let store = Self::store(&url);
        Self { proxies, url, store }
    }

    fn store(url: &str) -> Client {
        Client(store::open(url).unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    fn all(&self, act: fn(&Proxy)) {
        self.proxies.iter().for_each(act);
    }
}

/// Calls with a deadline near by; the call must end then, with an error.
#[track_caller]
fn ends<T: std::fmt::Debug>(call: impl FnOnce(Instant) -> Result<T, Error>) {
    let deadline = Instant::now() + SHORT;
    failed(call(deadline));
    assert!(deadline.elapsed() < MARGIN, "{:?} late", deadline.elapsed());
}

fn every_call_to_a_frozen_server_ends(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    let held = line.store.lead(&key, &claim()).held;
    line.all(Proxy::freeze);
    let store = &line.store.0;
    ends(|at| store.claim(&key, &claim(), at));
    ends(|at| store.claim(&key, &Claim { watch: true, ..claim() }, at));
    ends(|at| store.renew(&key, held, Some(LONG), at));
    ends(|at| store.checkpoint(&key, held, b"half", at));
    ends(|at| store.complete(&key, held, &Response::new(200, b"done"), LONG, at));
    ends(|at| store.release(&key, held, Release::Abandon, at));
    ends(|at| store.withdraw(&key, held.token, at));
    ends(|at| store.forget(&key, at));
    ends(|at| store.read(&key, at));
    ends(|at| store.evict(&key, at));
    if world.backend.lists {
        ends(|at| store.list(&world.scope, None, 10, at));
    }
    line.all(Proxy::thaw);
    assert!(line.store.read(&world.key("other")).is_none());
}

/// However it is told: by who opens it, or by the first call.
fn a_server_that_is_frozen_from_the_start_is_an_error(world: &World) {
    let (proxies, url) = Proxy::before_all(&world.url);
    proxies.iter().for_each(Proxy::freeze);
    let start = Instant::now();
    match store::open(&url) {
        Ok(store) => ends(|at| store.claim(&world.key("k"), &claim(), at)),
        Err(error) => failed(Err::<(), _>(error)),
    }
    assert!(start.elapsed() < PATIENCE / 2 + MARGIN, "{:?}", start.elapsed());
}

/// More of them than there are connections.
fn all_who_wait_for_a_connection_are_let_go(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    assert!(line.store.read(&key).is_none());
    line.all(Proxy::freeze);
    at_once(40, |_| ends(|at| line.store.0.read(&key, at)));
    line.all(Proxy::thaw);
    assert!(line.store.read(&key).is_none());
}

/// Who comes next never gets the answer to the call before, which came too late.
fn late_answers_are_nobodys(world: &World) {
    let line = Line::to(world);
    let respond = |key: &RecordKey, data: &[u8]| {
        let led = line.store.lead(key, &claim());
        assert_eq!(line.store.complete(key, led.held, data, LONG), Settled::Done);
    };
    // Keys enough that each of several servers has some of either kind.
    let keys: Vec<_> = (0..16).map(|number| world.key(&number.to_string())).collect();
    for (number, key) in keys.iter().enumerate() {
        respond(key, number.to_string().as_bytes());
    }
    for (number, pair) in keys.windows(2).enumerate() {
        line.all(Proxy::freeze);
        ends(|at| line.store.0.claim(&pair[0], &claim(), at));
        line.all(Proxy::thaw);
        let response = completed(line.store.claim(&pair[1], &claim()));
        assert_eq!(response.data(), (number + 1).to_string().as_bytes());
    }
}

/// The server did what it was told, and its answer was lost: whoever asks again gets that answer.
fn what_happened_unheard_is_told_when_asked_again(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    let (store, at_last) = (&line.store.0, &line.store);
    let unheard = |call: &dyn Fn(Instant) -> Result<(), Error>| {
        assert!(at_last.read(&world.key("another")).is_none()); // so that there is a connection
        line.all(Proxy::mute);
        ends(call);
        line.all(Proxy::thaw);
    };
    let first = claim();
    unheard(&|at| store.claim(&key, &first, at).map(drop));
    let held = at_last.lead(&key, &first).held;
    unheard(&|at| store.checkpoint(&key, held, b"half", at).map(drop));
    assert_eq!(at_last.checkpoint(&key, held, b"half"), Settled::Done);
    unheard(&|at| store.renew(&key, held, None, at).map(drop));
    assert_eq!(at_last.renew(&key, held, Some(LONG)), Settled::Done);
    unheard(&|at| store.release(&key, held, Release::Abandon, at).map(drop));
    assert_eq!(at_last.release(&key, held, Release::Abandon), Settled::Done);
    let second = claim();
    unheard(&|at| store.claim(&key, &second, at).map(drop));
    let led = at_last.lead(&key, &second);
    assert_eq!(led.grant.attempt, 2);
    assert_eq!(led.grant.checkpoint.as_deref(), Some(&b"half"[..]));
    let done = Response::new(200, b"done");
    unheard(&|at| store.complete(&key, led.held, &done, LONG, at).map(drop));
    assert_eq!(at_last.respond(&key, led.held, &done, LONG), Settled::Done);
    assert_eq!(completed(at_last.claim(&key, &claim())), done);
}

/// The same if the connection ends instead, in the middle of a call that has time left.
fn a_call_that_is_cut_off_is_made_again(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    let claim = claim();
    let cut_off = |call: &(dyn Fn() + Sync)| {
        drop(line.store.read(&key)); // so that there is a connection
        line.all(Proxy::mute);
        let asked = || line.proxies.iter().map(Proxy::asked).sum::<u64>();
        let before = asked();
        thread::scope(|scope| {
            let call = scope.spawn(call);
            eventually("the question", || (asked() > before).then_some(()));
            line.all(Proxy::cut);
            line.all(Proxy::thaw);
            call.join().expect("it is made again");
        });
    };
    cut_off(&|| assert_eq!(line.store.lead(&key, &claim).grant.attempt, 1));
    let held = line.store.lead(&key, &claim).held;
    cut_off(&|| assert_eq!(line.store.checkpoint(&key, held, b"half"), Settled::Done));
    cut_off(&|| assert_eq!(line.store.renew(&key, held, Some(LONG)), Settled::Done));
    cut_off(&|| assert_eq!(line.store.record(&key).checkpoint.as_deref(), Some(&b"half"[..])));
    cut_off(&|| assert_eq!(line.store.complete(&key, held, b"done", LONG), Settled::Done));
    cut_off(&|| assert_eq!(completed(line.store.claim(&key, &claim)).data(), b"done"));
}

/// A connection that died while it was idle is no reason to fail: what was asked is asked again.
fn a_cut_connection_is_replaced(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    let claim = claim();
    let led = line.store.lead(&key, &claim);
    let calls: [&dyn Fn(); 8] = [
        &|| assert_eq!(line.store.lead(&key, &claim).held, led.held),
        &|| assert_eq!(line.store.renew(&key, led.held, Some(LONG)), Settled::Done),
        &|| assert_eq!(line.store.checkpoint(&key, led.held, b"half"), Settled::Done),
        &|| drop(line.store.record(&key)),
        &|| line.store.withdraw(&key, Token::draw().expect("randomness")),
        &|| assert!(!line.store.forget(&key)),
        &|| assert_eq!(line.store.complete(&key, led.held, b"done", LONG), Settled::Done),
        &|| assert!(line.store.evict(&key)),
    ];
    for call in calls {
        // Several at a time, so that several have died: each is replaced.
        at_once(4, |_| drop(line.store.read(&key)));
        line.all(Proxy::cut);
        call();
    }
}

fn a_server_that_is_gone_is_an_error_at_once(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    assert!(line.store.read(&key).is_none());
    line.all(Proxy::close);
    for _ in 0..3 {
        let far = Instant::now() + 2 * MARGIN;
        failed(line.store.0.claim(&key, &claim(), far));
        assert!(Instant::now() + MARGIN < far, "it waited for the deadline");
    }
}

/// Or they come all the same: but there is no silence.
fn news_that_may_have_been_lost_are_an_error(world: &World) {
    let (key, line) = (world.key("k"), Line::to(world));
    // Over the same line: a server's name may decide what is kept there.
    let leader = Line::store(&line.url);
    let led = leader.lead(&key, &claim());
    let mut news = line.store.listen();
    in_progress(line.store.claim(&key, &Claim { watch: true, ..claim() }));
    line.all(Proxy::cut);
    assert_eq!(leader.complete(&key, led.held, b"done", LONG), Settled::Done);
    let until = Instant::now() + PATIENCE;
    let mut told = false;
    while !told {
        assert!(Instant::now() < until, "nothing was told");
        let mut listen = |heard| told |= heard == Heard::Any || heard == Heard::Record(key.id());
        let lost = news.wait(until, &mut listen).is_err();
        told |= lost;
    }
    // Who was told so listens anew.
    let mut news = line.store.listen();
    news.wait(Instant::now(), &mut |_| ()).expect("a new connection");
    assert!(matches!(line.store.claim(&key, &claim()), Claimed::Completed(_)));
}

fn a_wait_for_news_of_a_frozen_server_ends(world: &World) {
    let line = Line::to(world);
    let mut news = line.store.listen();
    line.all(Proxy::freeze);
    let until = Instant::now() + SHORT;
    let _ = news.wait(until, &mut |_| ());
    assert!(until.elapsed() < MARGIN, "{:?} late", until.elapsed());
    let store = Arc::clone(&line.store.0);
    drop(news); // doesn't wait for the server either
    drop(line);
    drop(store);
    assert!(until.elapsed() < MARGIN, "{:?} late", until.elapsed());
}
