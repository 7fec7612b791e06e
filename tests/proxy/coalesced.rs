//! GET and HEAD without a key: who joins whom, and what is shared.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use hyper::{Request, StatusCode};

use crate::harness::{Backend, Proxy, all, ask, crowd, get, roles};
use crate::raw::Client;
use crate::server::text;

#[test]
fn sixty_four_identical_requests_reach_the_backend_once() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let url = proxy.url("/report?year=1");
    let crowd = crowd(64, move |_| get(&url));
    assert_eq!(proxy.steps(64), (1, 63, 0, 0));
    backend.release();

    let replies = all(crowd);
    assert_eq!(backend.seen(), 1);
    assert_eq!(roles(&replies, "led"), 1);
    assert_eq!(roles(&replies, "shared"), 63);
    for reply in &replies {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-number"), "1");
        assert_eq!(reply.body, b"1: GET /report?year=1 \n");
    }
}

#[test]
fn a_thousand_at_once_are_one_execution_with_a_key_or_without() {
    // A socket each, here and in the proxy, which raises its own limit by itself.
    rlimit::increase_nofile_limit(2048).unwrap();
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let get = "GET /report HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = "POST /orders HTTP/1.1\r\nhost: x\r\nidempotency-key: \"1\"\r\ncontent-length: 3\r\n\r\ntea";
    let mut clients: Vec<_> = (0..1000).map(|_| Client::of(&proxy)).collect();
    for client in &mut clients {
        client.say(get);
    }
    assert_eq!(proxy.steps(1000), (1, 999, 0, 0));
    backend.release();
    let answer = "1: GET /report \n";
    assert!(clients.iter_mut().all(|client| client.response().ends_with(answer)));

    backend.hold();
    for client in &mut clients {
        client.say(post);
    }
    proxy.wait_for_asks(1000);
    backend.release();
    let answer = "2: POST /orders tea\n";
    assert!(clients.iter_mut().all(|client| client.response().ends_with(answer)));
    assert_eq!(backend.seen(), 2);
}

#[test]
fn only_safe_methods_are_coalesced() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let url = proxy.url("/orders");
    let posts = crowd(8, move |_| ask(Request::post(&url).body("one cup").unwrap()));
    // Held, and yet there: each of them asked for itself.
    backend.wait_for(8);
    assert_eq!(proxy.steps(8), (0, 0, 0, 8));
    backend.release();
    assert_eq!(roles(&all(posts), "alone"), 8);
}

#[test]
fn requests_that_differ_in_anything_that_counts_are_separate() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let a = proxy.url("/a");
    let with = |name: &str, value: &str| Request::get(&a).header(name, value).body("").unwrap();
    let requests = [
        Request::get(&a).body("").unwrap(),
        Request::head(&a).body("").unwrap(),
        Request::get(proxy.url("/b")).body("").unwrap(),
        Request::get(proxy.url("/a?")).body("").unwrap(),
        with("Authorization", "alice"),
        with("Authorization", "bob"),
        with("Cookie", "alice"),
        with("Idempotency-Key", "1"),
        with("X-Auth-Token", "1"),
        with("Accept-Language", "de"),
        with("Range", "bytes=0-1"),
        with("If-None-Match", "\"1\""),
        with("Host", "other.example"),
        with("X-Colour", "red"),
        with("X-Colour", "blue"),
        // The same bytes one after another, cut in another place.
        with("X-A", "bc"),
        with("X-Ab", "c"),
    ];
    let count = requests.len();
    let clients: Vec<_> = requests.into_iter().map(|it| thread::spawn(|| ask(it))).collect();
    backend.wait_for(count);
    assert_eq!(proxy.steps(count), (count, 0, 0, 0));
    backend.release();
    assert_eq!(roles(&all(clients), "led"), count);
}

#[test]
fn what_does_not_count_may_differ() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let url = proxy.url("/a");
    let clients = crowd(4, move |number| {
        let client = format!("client/{number}");
        ask(Request::get(&url)
            .header("User-Agent", &client)
            .header("X-Forwarded-For", &client)
            .body("")
            .unwrap())
    });
    assert_eq!(proxy.steps(4), (1, 3, 0, 0));
    backend.release();
    all(clients);
    assert_eq!(backend.seen(), 1);
}

#[test]
fn past_its_wait_a_request_asks_alone() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &["--wait-ms", "100"]);
    let url = proxy.url("/");
    let clients = crowd(2, move |_| get(&url));
    // One leads, the other joins; then, the backend still held, it is there too.
    backend.wait_for(2);
    assert_eq!(proxy.steps(3), (1, 1, 0, 1));
    backend.release();
    let replies = all(clients);
    assert_eq!((roles(&replies, "led"), roles(&replies, "alone")), (1, 1));
    assert!(replies.iter().all(|reply| reply.status == 200));
}

#[test]
fn the_window_replays_and_without_one_nothing_is_kept() {
    let backend = Backend::start(|nth, _| text(StatusCode::OK, nth.to_string()));
    let proxy = Proxy::before(&backend, &["--window-ms", "600000"]);
    let first = get(&proxy.url("/"));
    let second = get(&proxy.url("/"));
    assert_eq!((first.role(), second.role()), ("led", "replayed"));
    assert_eq!(first.body, second.body);
    assert_eq!(backend.seen(), 1);

    let proxy = Proxy::before(&backend, &[]);
    assert_eq!(get(&proxy.url("/")).body, b"2\n");
    assert_eq!(get(&proxy.url("/")).body, b"3\n");
}

#[test]
fn no_store_outlives_no_flight() {
    let backend = Backend::start(|nth, _| {
        let mut response = text(StatusCode::OK, nth.to_string());
        response.headers_mut().insert("cache-control", "max-age=60, no-store".parse().unwrap());
        response
    });
    let proxy = Proxy::before(&backend, &["--window-ms", "600000"]);
    assert_eq!(get(&proxy.url("/")).body, b"1\n");
    assert_eq!(get(&proxy.url("/")).body, b"2\n");
}

#[test]
fn a_5xx_is_shared_with_those_who_wait_and_not_kept() {
    let backend = Backend::start(|nth, _| {
        let status =
            if nth == 1 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::IM_A_TEAPOT };
        text(status, nth.to_string())
    });
    backend.hold();
    let proxy = Proxy::before(&backend, &["--window-ms", "600000"]);
    let url = proxy.url("/");
    let clients = crowd(4, move |_| get(&url));
    assert_eq!(proxy.steps(4), (1, 3, 0, 0));
    backend.release();
    assert!(all(clients).iter().all(|reply| reply.status == 500));
    assert_eq!(backend.seen(), 1);

    // Not kept; a 4xx is.
    for role in ["led", "replayed"] {
        let reply = get(&proxy.url("/"));
        assert_eq!((reply.status, reply.role(), &reply.body[..]), (418, role, &b"2\n"[..]));
    }
}

#[test]
fn a_session_that_is_just_begun_is_not_shared() {
    let backend = Backend::start(|nth, _| {
        let mut response = text(StatusCode::OK, nth.to_string());
        response.headers_mut().insert("set-cookie", format!("id={nth}").parse().unwrap());
        response
    });
    for (cookie, reached) in [(None, 3), (Some("id=7"), 1)] {
        let before = backend.seen();
        backend.hold();
        let proxy = Proxy::before(&backend, &[]);
        let url = proxy.url("/");
        let clients = crowd(3, move |_| {
            let request = Request::get(&url);
            let request = cookie.into_iter().fold(request, |it, id| it.header("cookie", id));
            ask(request.body("").unwrap())
        });
        assert_eq!(proxy.steps(3), (1, 2, 0, 0));
        backend.release();
        all(clients);
        assert_eq!(backend.seen() - before, reached, "cookie: {cookie:?}");
    }
}

#[test]
fn a_response_that_varies_on_an_ignored_header_is_not_shared() {
    let backend = Backend::start(|nth, _| {
        let mut response = text(StatusCode::OK, nth.to_string());
        response.headers_mut().insert("vary", "Accept, X-Colour".parse().unwrap());
        response
    });
    for (flags, reached) in [(&[][..], 1), (&["--ignore-header", "x-colour"][..], 2)] {
        let before = backend.seen();
        backend.hold();
        let proxy = Proxy::before(&backend, flags);
        let url = proxy.url("/");
        let clients = crowd(2, move |_| get(&url));
        assert_eq!(proxy.steps(2), (1, 1, 0, 0));
        backend.release();
        all(clients);
        assert_eq!(backend.seen() - before, reached, "flags: {flags:?}");
    }
}

#[test]
fn the_work_goes_on_when_the_leaders_client_leaves() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let mut leaver = TcpStream::connect(&proxy.address).unwrap();
    write!(leaver, "GET / HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.address).unwrap();
    backend.wait_for(1);
    let url = proxy.url("/");
    let stayer = thread::spawn(move || get(&url));
    assert_eq!(proxy.steps(2), (1, 1, 0, 0));
    drop(leaver);
    backend.release();
    let reply = stayer.join().unwrap();
    assert_eq!((reply.status, reply.role()), (200, "shared"));
    assert_eq!(backend.seen(), 1);
}
