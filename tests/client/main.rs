//! The ureq middleware, against a server over sockets.

mod edges;
mod server;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::ErrorKind;
use onceflight::client::{
    Builder, Coalesce, Event, EventKind, IdempotencyKey, Options, Wish, retry,
};
use ureq::http::HeaderName;
use ureq::{Agent, Body};

use server::{PATIENCE, Server, answer};

const LONG: Duration = Duration::from_secs(3600);

type Events = Arc<Mutex<Vec<Event>>>;

/// An agent, what its middleware tells, and the middleware.
fn agent(terms: impl FnOnce(Builder) -> Builder) -> (Agent, Events, Coalesce) {
    let events = Events::default();
    let heard = events.clone();
    let coalesce = terms(Coalesce::builder().wait(PATIENCE))
        .on_event(move |event| heard.lock().unwrap().push(*event))
        .build();
    let config = Agent::config_builder().middleware(coalesce.clone()).http_status_as_error(false);
    (config.build().into(), events, coalesce)
}

fn text(answer: Result<ureq::http::Response<Body>, ureq::Error>) -> (u16, String) {
    let mut response = answer.unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

fn kinds(events: &Events) -> Vec<EventKind> {
    let mut kinds: Vec<_> = events.lock().unwrap().iter().map(|event| event.kind).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    kinds
}

/// `size` callers at once; the server answers once all but the leader wait. What each had.
fn crowd<T: Send>(
    server: &Server,
    coalesce: &Coalesce,
    size: usize,
    call: impl Fn() -> T + Sync,
    answer: Vec<u8>,
) -> Vec<T> {
    thread::scope(|scope| {
        let callers: Vec<_> = (0..size).map(|_| scope.spawn(&call)).collect();
        server.asked(1);
        let start = Instant::now();
        while coalesce.stats().waiting < size as u64 - 1 {
            assert!(start.elapsed() < PATIENCE, "{:?}", coalesce.stats());
            thread::yield_now();
        }
        server.answer(answer);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

#[test]
fn identical_requests_are_sent_once() {
    let server = Server::start();
    let (agent, events, coalesce) = agent(|it| it);
    let call = || text(agent.post(server.url("/orders?a=1")).send("one"));
    let had = crowd(&server, &coalesce, 8, call, answer(201, "x-a: 1\r\n", b"done"));
    assert_eq!(had, vec![(201, "done".to_owned()); 8]);
    assert_eq!(server.asked(1).len(), 1);
    assert_eq!(server.asked(1)[0].body, b"one");
    let events = events.lock().unwrap();
    let led: Vec<_> = events.iter().filter(|event| event.kind == EventKind::Led).collect();
    assert_eq!(led.len(), 1);
    assert!(events.iter().all(|event| event.key == led[0].key));
    let shared = events.iter().filter(|event| event.kind == EventKind::Shared).count();
    assert_eq!((led[0].waiters, shared, events.len()), (7, 7, 8));
}

#[test]
fn the_whole_response_is_shared() {
    let server = Server::start();
    let (agent, _, coalesce) = agent(|it| it);
    let headers =
        "set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-type: text/plain; charset=utf-8\r\n";
    let call = || {
        let mut response = agent.get(server.url("/")).call().unwrap();
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().cloned().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(response.body().mime_type(), Some("text/plain"));
        response.body_mut().read_to_vec().unwrap()
    };
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let had = crowd(&server, &coalesce, 4, call, answer(200, headers, &bytes));
    assert!(had.iter().all(|it| *it == bytes));
}

#[test]
fn what_differs_is_sent() {
    let server = Server::start();
    let (agent, ..) =
        agent(|it| it.ttl(LONG).ignore_header(HeaderName::from_static("traceparent")));
    let mut sent = 0;
    let mut is_sent = |call: &dyn Fn() -> (u16, String)| {
        server.answer(answer(200, "", sent.to_string().as_bytes()));
        let had = call();
        let now = server.asked(0).len();
        let new = now > sent;
        if !new {
            // The answer is still there.
            agent.get(server.url("/")).extension(Wish::off()).call().unwrap();
        }
        sent = server.asked(0).len();
        (had.0 == 200) && new
    };
    let get = |path: &str| text(agent.get(server.url(path)).call());
    assert!(is_sent(&|| get("/a")));
    assert!(!is_sent(&|| get("/a")));
    assert!(is_sent(&|| get("/a?")), "another URL");
    assert!(is_sent(&|| get("/b")), "another path");
    assert!(is_sent(&|| text(agent.delete(server.url("/a")).call())), "another method");
    let authorized =
        |who: &str| text(agent.get(server.url("/a")).header("authorization", who).call());
    assert!(is_sent(&|| authorized("Ada")), "somebody else");
    assert!(is_sent(&|| authorized("Bob")), "somebody else again");
    assert!(!is_sent(&|| authorized("Ada")));
    let post = |body: &str| text(agent.post(server.url("/a")).send(body));
    assert!(is_sent(&|| post("1")));
    assert!(is_sent(&|| post("2")), "another body");
    assert!(!is_sent(&|| post("1")));
    let traced = |id: &str| text(agent.get(server.url("/t")).header("traceparent", id).call());
    assert!(is_sent(&|| traced("1")));
    assert!(!is_sent(&|| traced("2")), "an ignored header");
}

#[test]
fn failures_are_shared_and_never_kept() {
    let server = Server::start();
    let (agent, events, coalesce) = agent(|it| it.ttl(LONG));
    let call = || text(agent.get(server.url("/")).call());
    let had = crowd(&server, &coalesce, 4, call, answer(500, "", b"sorry"));
    assert!(had.iter().all(|it| *it == (500, "sorry".to_owned())));
    server.answer(answer(200, "", b"better"));
    assert_eq!(call(), (200, "better".to_owned()));
    assert_eq!(call(), (200, "better".to_owned()), "this one is kept");
    assert_eq!(server.asked(2).len(), 2);
    assert!(kinds(&events).contains(&EventKind::Replayed));
}

#[test]
fn a_broken_connection_is_everybodys_error() {
    let server = Server::start();
    let (agent, events, coalesce) = agent(|it| it.ttl(LONG));
    let call = || agent.post(server.url("/")).send("pay").unwrap_err();
    let errors = crowd(&server, &coalesce, 4, call, Vec::new());
    assert!(errors.iter().all(|error| matches!(error, ureq::Error::Io(_))), "{errors:?}");
    assert_eq!(server.asked(1).len(), 1, "what may have happened isn't sent again by itself");
    assert!(kinds(&events).contains(&EventKind::Failed));
}

#[test]
fn status_codes_as_errors_are_shared() {
    let server = Server::start();
    let coalesce = Coalesce::builder().wait(PATIENCE).build();
    let agent: Agent = Agent::config_builder().middleware(coalesce.clone()).build().into();
    let call = || agent.get(server.url("/")).call().unwrap_err();
    let errors = crowd(&server, &coalesce, 3, call, answer(404, "", b""));
    assert!(errors.iter().all(|error| matches!(error, ureq::Error::StatusCode(404))));
}

#[test]
fn who_waits_too_long_leaves() {
    let server = Server::start();
    let (agent, events, _) = agent(|it| it);
    thread::scope(|scope| {
        let leader = scope.spawn(|| text(agent.get(server.url("/")).call()));
        server.asked(1);
        let hasty = Wish::new().wait(Duration::from_millis(20));
        let start = Instant::now();
        let error = agent.get(server.url("/")).extension(hasty).call().unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(20));
        let ureq::Error::Other(error) = error else { panic!("{error}") };
        let error = error.downcast_ref::<onceflight::Error>().expect("ours");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        server.answer(answer(200, "", b"late"));
        assert_eq!(leader.join().unwrap().1, "late");
    });
    assert_eq!(kinds(&events), [EventKind::Led, EventKind::TimedOut]);
}

#[test]
fn what_is_too_long_is_not_shared() {
    let server = Server::start();
    let (agent, events, coalesce) = agent(|it| it.max_body(10, 10));
    let call = || text(agent.get(server.url("/")).call());
    thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(call)).collect();
        server.asked(1);
        let start = Instant::now();
        while coalesce.stats().waiting < 2 {
            assert!(start.elapsed() < PATIENCE, "{:?}", coalesce.stats());
            thread::yield_now();
        }
        for _ in 0..3 {
            server.answer(answer(200, "", b"eleven bytes"));
        }
        for caller in callers {
            assert_eq!(caller.join().unwrap().1, "eleven bytes");
        }
    });
    assert_eq!(kinds(&events), [EventKind::Declined]);
    assert_eq!(coalesce.stats().bypassed, 2, "one doesn't wait for the other");
    // A long request isn't looked at, and arrives whole.
    server.answer(answer(200, "", b"ok"));
    agent.post(server.url("/")).header("content-length", "12").send("twelve bytes").unwrap();
    assert_eq!(server.asked(4)[3].body, b"twelve bytes");
}

#[test]
fn requests_and_profiles_have_options_of_their_own() {
    let server = Server::start();
    let kept = Options { ttl: LONG, ..Options::default() };
    let (agent, _, coalesce) = agent(|it| it.enabled(false).profile("kept", kept));
    let get = |wish: Wish| text(agent.get(server.url("/")).extension(wish).call()).1;
    let answers = |body: &str| server.answer(answer(200, "", body.as_bytes()));
    answers("1");
    assert_eq!(text(agent.get(server.url("/")).call()).1, "1");
    answers("2");
    assert_eq!(get(Wish::new().profile("kept").key("k")), "2");
    assert_eq!(get(Wish::new().ttl(LONG).key("k")), "2", "by its key, from the window");
    assert_eq!(text(agent.delete(server.url("/x")).extension(Wish::new().key("k")).call()).1, "2");
    assert!(coalesce.forget("k").unwrap());
    answers("3");
    assert_eq!(get(Wish::new().key("k")), "3", "and not kept, as is usual");
    answers("4");
    assert_eq!(get(Wish::new().key("k")), "4");
    let error =
        agent.get(server.url("/")).extension(Wish::new().profile("none")).call().unwrap_err();
    assert!(error.to_string().contains("no profile none"), "{error}");
}

#[test]
fn a_response_that_forbids_it_is_not_kept() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it.ttl(LONG));
    for body in ["1", "2"] {
        server.answer(answer(200, "cache-control: max-age=1, no-store\r\n", body.as_bytes()));
        assert_eq!(text(agent.get(server.url("/")).call()).1, body);
    }
}

#[test]
fn a_retried_post_has_one_key() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it);
    server.answer(Vec::new());
    server.answer(answer(503, "", b""));
    server.answer(answer(201, "", b"paid"));
    let mut attempts = Vec::new();
    let paid = retry(5, |key, attempt| {
        attempts.push(attempt);
        let response = agent.post(server.url("/pay")).extension(key.clone()).send("1")?;
        match response.status().as_u16() {
            503 => Err(ureq::Error::StatusCode(503)),
            _ => Ok(response),
        }
    });
    assert_eq!(text(paid), (201, "paid".to_owned()));
    assert_eq!(attempts, [1, 2, 3]);
    let asked = server.asked(3);
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(keys[0].len(), 34, "quoted: {}", keys[0]);
}

#[test]
fn a_final_answer_is_not_retried() {
    let attempts = &mut 0;
    let refused = retry::<()>(5, |_, _| {
        *attempts += 1;
        Err(ureq::Error::StatusCode(422))
    });
    assert!(matches!(refused, Err(ureq::Error::StatusCode(422))));
    assert_eq!(*attempts, 1);
    *attempts = 0;
    let exhausted = retry::<()>(3, |_, _| {
        *attempts += 1;
        Err(ureq::Error::HostNotFound)
    });
    assert!(matches!(exhausted, Err(ureq::Error::HostNotFound)));
    assert_eq!(*attempts, 3);
}

#[test]
fn keys_are_quoted_and_go_on_posts_without_one() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it);
    let key = IdempotencyKey::new(r#"a "b" \c"#).unwrap();
    for _ in 0..3 {
        server.answer(answer(200, "", b""));
    }
    agent.post(server.url("/")).extension(key.clone()).send("").unwrap();
    let own =
        agent.post(server.url("/")).extension(key.clone()).header("idempotency-key", "\"own\"");
    own.send("").unwrap();
    agent.get(server.url("/")).extension(key).call().unwrap();
    let asked = server.asked(3);
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key")).collect();
    assert_eq!(keys, [Some(r#""a \"b\" \\c""#), Some("\"own\""), None]);
    for bad in ["", "\u{e4}", "a\nb", &"x".repeat(256)] {
        assert_eq!(IdempotencyKey::new(bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_panic_hands_the_lead_on() {
    let server = Server::start();
    let panics = Arc::new(Mutex::new(true));
    let coalesce = Coalesce::builder().wait(PATIENCE).build();
    let first = panics.clone();
    let config = Agent::config_builder().middleware(coalesce).middleware(
        move |request: ureq::http::Request<ureq::SendBody>,
              next: ureq::middleware::MiddlewareNext| {
            let answer = next.handle(request);
            assert!(!std::mem::take(&mut *first.lock().unwrap()), "on purpose");
            answer
        },
    );
    let agent: Agent = config.build().into();
    let call = || text(agent.get(server.url("/")).call());
    thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(call)).collect();
        server.asked(1);
        server.answer(answer(200, "", b"1"));
        server.asked(2);
        server.answer(answer(200, "", b"2"));
        let ended: Vec<_> = callers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        assert_eq!(ended.iter().filter(|it| it.is_err()).count(), 1, "who panicked");
        assert!(ended.iter().flatten().all(|it| it.1 == "2"));
    });
}
