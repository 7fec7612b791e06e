//! `--max-body-memory`: what all bodies together may take, who is refused or served otherwise past it, and
//! that it comes back.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use hyper::{Request, Response, StatusCode};
use parking_lot::Mutex;

use crate::admin::metric;
use crate::harness::{Backend, LIMIT, Proxy, all, ask, crowd, get, roles};
use crate::keyed::{HOST, pay, problem};
use crate::raw::Client;
use crate::server::text;

const MB: usize = 1_000_000;

/// Two bodies of 1 MB fit; but a quarter is for the responses of keys.
const FLAGS: [&str; 6] =
    ["--max-body", "1000000", "--max-body-memory", "2000000", "--admin", "127.0.0.1:0"];

/// Answers /held when it is told to, and any other path at once: with so many bytes as the query says.
fn holding() -> (Backend, Sender<()>) {
    let (go_on, told) = mpsc::channel();
    let told = Mutex::new(told);
    let backend = Backend::start(move |nth, request| {
        if request.uri().path() == "/held" {
            told.lock().recv_timeout(LIMIT).expect("it is told to go on");
        }
        match request.uri().query() {
            Some(len) => Response::new(vec![b'y'; len.parse().unwrap()].into()),
            None => text(StatusCode::CREATED, nth.to_string()),
        }
    });
    (backend, go_on)
}

fn used(proxy: &Proxy) -> usize {
    usize::try_from(metric(proxy, "onceflight_body_bytes")).unwrap()
}

/// Returns when that much is used. The proxy finds out by itself that a client has left.
fn wait_for_use(proxy: &Proxy, bytes: usize) {
    let began = Instant::now();
    while used(proxy) != bytes {
        assert!(began.elapsed() < LIMIT, "{} bytes are used, not {bytes}", used(proxy));
    }
}

/// A client that has sent a request of that length, but for its last byte.
fn hog(proxy: &Proxy, len: usize) -> Client {
    let before = used(proxy);
    let mut client = Client::of(proxy);
    client.say(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {len}\r\n\r\n"));
    client.say(vec![b'x'; len - 1]);
    wait_for_use(proxy, before + len);
    client
}

#[test]
fn past_it_large_bodies_are_refused_and_large_responses_streamed() {
    let (backend, _) = holding();
    let proxy = Proxy::before(&backend, &FLAGS);
    assert_eq!(get(&proxy.url("/?800000")).role(), "led");
    wait_for_use(&proxy, 0);
    let mut hog = hog(&proxy, MB);

    for key in [Some("\"1\""), None] {
        let request = Request::post(proxy.url("/"));
        let request = key.into_iter().fold(request, |it, key| it.header("idempotency-key", key));
        let refused = ask(request.body(vec![b'x'; 600_000]).unwrap());
        assert_eq!((refused.status, problem(&refused).as_str()), (503, "overloaded"));
        assert_eq!((refused.header("retry-after"), refused.role()), ("1", "refused"));
    }
    assert_eq!(backend.seen(), 1);
    // A plain proxy would have had no trouble with these.
    let reply = get(&proxy.url("/?800000"));
    assert_eq!((reply.status, reply.role(), reply.body.len()), (200, "alone", 800_000));
    assert_eq!(get(&proxy.url("/?60000")).role(), "led");
    assert_eq!(pay(&proxy.url("/"), "2", "tea").status, 201);

    assert!(hog.say("x").response().starts_with("HTTP/1.1 201 "));
    wait_for_use(&proxy, 0);
    assert_eq!(get(&proxy.url("/?800000")).role(), "led");
    let large = ask(Request::post(proxy.url("/")).body(vec![b'x'; 600_000]).unwrap());
    assert_eq!(large.status, 201);
}

#[test]
fn who_waits_for_a_response_that_finds_no_room_asks_alone() {
    let (backend, go_on) = holding();
    let proxy = Proxy::before(&backend, &FLAGS);
    let _hog = hog(&proxy, MB);
    let url = proxy.url("/held?800000");
    let clients = crowd(3, move |_| get(&url));
    assert_eq!(proxy.steps(3), (1, 2, 0, 0));
    for _ in 0..3 {
        go_on.send(()).unwrap();
    }
    for reply in all(clients) {
        assert_eq!((reply.status, reply.role(), reply.body.len()), (200, "alone", 800_000));
    }
    assert_eq!(backend.seen(), 3);
}

#[test]
fn when_it_is_spent_no_key_is_begun_and_the_rest_is_for_what_has_begun() {
    let (backend, go_on) = holding();
    let proxy = Proxy::before(&backend, &FLAGS);
    let targets = [250_000, 250_000, 600_000].map(|len| format!("/held?{len}"));
    let begun: Vec<_> = targets
        .iter()
        .enumerate()
        .map(|(key, target)| {
            let url = proxy.url(target);
            thread::spawn(move || pay(&url, &key.to_string(), "tea"))
        })
        .collect();
    backend.wait_for(3);
    let hogs = [hog(&proxy, MB), hog(&proxy, 480_000)];

    let refused = pay(&proxy.url("/"), "new", "tea");
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "overloaded"));
    assert_eq!((refused.header("retry-after"), refused.role()), ("1", "refused"));
    assert_eq!(backend.seen(), 3);
    assert_eq!(metric(&proxy, "onceflight_problems_total{type=\"overloaded\"}"), 1);
    // What has no key goes its way.
    assert_eq!(ask(Request::post(proxy.url("/")).body("tea").unwrap()).role(), "alone");
    assert_eq!(get(&proxy.url("/?60000")).role(), "led");

    for _ in 0..3 {
        go_on.send(()).unwrap();
    }
    let lengths = begun.into_iter().map(|reply| reply.join().unwrap().body.len());
    assert_eq!(lengths.collect::<Vec<_>>(), [250_000, 250_000, 600_000]);
    drop(hogs);
    wait_for_use(&proxy, 0);
    // Two were kept, and there was no room for the third, which was passed on as it came.
    let again = |key: usize| pay(&proxy.url(&targets[key]), &key.to_string(), "tea");
    for key in [0, 1] {
        let reply = again(key);
        assert_eq!((reply.status, reply.role(), reply.body.len()), (200, "replayed", 250_000));
    }
    assert_eq!(problem(&again(2)), "response-not-kept");
    assert_eq!(pay(&proxy.url("/"), "new", "tea").status, 201);
}

#[test]
fn a_replay_that_finds_no_room_is_for_later() {
    let (backend, _) = holding();
    let proxy = Proxy::before(&backend, &FLAGS);
    let url = proxy.url("/?800000");
    assert_eq!(pay(&url, "1", "tea").role(), "led");
    wait_for_use(&proxy, 0);
    let hog = hog(&proxy, MB);
    assert_eq!(problem(&pay(&url, "1", "tea")), "overloaded");
    drop(hog);
    wait_for_use(&proxy, 0);
    let reply = pay(&url, "1", "tea");
    assert_eq!((reply.role(), reply.body.len()), ("replayed", 800_000));
    assert_eq!(backend.seen(), 1);
}

#[test]
fn clients_that_leave_midway_leave_nothing_behind() {
    let (backend, go_on) = holding();
    let proxy = Proxy::before(&backend, &FLAGS);
    let body = vec![b'x'; MB];
    let get = format!("GET /held?900000 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let post = |round| {
        let headers = format!("idempotency-key: \"{round}\"\r\ncontent-length: {MB}");
        format!("POST /held?900000 HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n\r\n")
    };
    for round in 0..3 {
        // In the midst of a request.
        drop(hog(&proxy, MB));
        wait_for_use(&proxy, 0);

        // Behind a request, before its response: the work goes on, and has the request until it is over.
        let mut asker = Client::of(&proxy);
        asker.say(post(round)).say(&body);
        wait_for_use(&proxy, MB);
        drop(asker);
        go_on.send(()).unwrap();
        wait_for_use(&proxy, 0);

        // In the midst of a response: who led, who joined, and whose response is a replay.
        let mut readers: Vec<_> = (0..3).map(|_| Client::of(&proxy)).collect();
        for reader in &mut readers {
            reader.say(&get);
        }
        assert_eq!(steps_of_gets(&proxy), (1, 2));
        go_on.send(()).unwrap();
        for mut reader in readers {
            assert_eq!(reader.hear(12), "HTTP/1.1 200");
        }
        wait_for_use(&proxy, 0);
        let mut retry = Client::of(&proxy);
        retry.say(post(round)).say(&body);
        assert_eq!(retry.hear(12), "HTTP/1.1 200");
        drop(retry);
        wait_for_use(&proxy, 0);
    }
}

/// How many of three GETs lead, and how many wait; what else was said before doesn't count.
fn steps_of_gets(proxy: &Proxy) -> (usize, usize) {
    let (mut leads, mut waits) = (0, 0);
    while leads + waits < 3 {
        let line = proxy.step();
        leads += usize::from(line.starts_with("Leads GET"));
        waits += usize::from(line.starts_with("Waits GET"));
    }
    (leads, waits)
}

#[test]
fn what_the_window_keeps_has_a_quarter_at_most() {
    let (backend, _go_on) = holding();
    let proxy = Proxy::before(&backend, &[&FLAGS[..], &["--window-ms", "600000"]].concat());
    for page in 0..10 {
        assert_eq!(get(&proxy.url(&format!("/{page}?200000"))).role(), "led");
    }
    let kept = used(&proxy);
    assert!((200_000..=500_000).contains(&kept), "{kept}");
    let replies = all(crowd(2, {
        let url = proxy.url("/9?200000");
        move |_| get(&url)
    }));
    assert_eq!(roles(&replies, "replayed"), 2);
}

#[test]
fn without_a_store_new_keys_are_refused_when_those_kept_take_too_much() {
    let backend = Backend::start(|nth, _| Response::new(nth.to_string().repeat(100_000).into()));
    let proxy = Proxy::before(&backend, &["--max-kept", "300000"]);
    let told: Vec<_> = (0..4).map(|key| pay(&proxy.url("/"), &key.to_string(), "tea")).collect();
    assert_eq!([200, 200, 200, 503], [0, 1, 2, 3].map(|nth: usize| told[nth].status));
    assert_eq!(("overloaded", "1"), (problem(&told[3]).as_str(), told[3].header("retry-after")));
    assert_eq!(backend.seen(), 3);
    let again = pay(&proxy.url("/"), "0", "tea");
    assert_eq!((again.status, again.role(), &again.body), (200, "replayed", &told[0].body));
}
