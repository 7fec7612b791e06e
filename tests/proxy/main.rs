//! The example `proxy`, run as a user runs it: a process of its own, real sockets on both sides.
//!
//! Nothing here is slept for. The backend records each request and, while it is *held*, answers
//! none; the proxy says on stderr what each request does (`--verbose`), and says that it waits only
//! once it has joined. So a test knows that everybody is in place before it lets the backend go.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use hyper::{Request, Response, StatusCode};

mod example;
mod harness;
use harness::{Backend, LIMIT, Proxy, all, ask, crowd, get, roles, run};

#[path = "../../examples/proxy/server.rs"]
#[allow(dead_code, reason = "the backend here is never stopped")]
mod server;
use server::{text, whole};

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
fn identical_posts_are_one_request_too_unless_only_safe_methods_are_coalesced() {
    let post = |url: String| move |_| ask(Request::post(&url).body("one cup").unwrap());

    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let posts = crowd(8, post(proxy.url("/orders")));
    assert_eq!(proxy.steps(8), (1, 7, 0, 0));
    backend.release();
    assert!(all(posts).iter().all(|reply| reply.body == b"1: POST /orders one cup\n"));
    assert_eq!(backend.seen(), 1);

    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &["--safe-only"]);
    let posts = crowd(8, post(proxy.url("/orders")));
    // Held, and yet there: each of them asked for itself.
    backend.wait_for(8);
    assert_eq!(proxy.steps(8), (0, 0, 0, 8));
    backend.release();
    assert_eq!(roles(&all(posts), "alone"), 8);
}

#[test]
fn requests_that_differ_in_anything_that_counts_are_separate() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &["--header", "X-Colour"]);
    let a = proxy.url("/a");
    let with = |name: &str, value: &str, body: &'static str| {
        Request::put(&a).header(name, value).body(body).unwrap()
    };
    let requests = [
        Request::get(&a).body("").unwrap(),
        Request::head(&a).body("").unwrap(),
        Request::get(proxy.url("/b")).body("").unwrap(),
        Request::get(proxy.url("/a?")).body("").unwrap(),
        Request::post(&a).body("one").unwrap(),
        Request::post(&a).body("two").unwrap(),
        with("Authorization", "alice", ""),
        with("Authorization", "bob", ""),
        with("Cookie", "alice", ""),
        with("Idempotency-Key", "1", ""),
        with("X-Auth-Token", "1", ""),
        with("Accept-Language", "de", ""),
        with("Range", "bytes=0-1", ""),
        with("If-None-Match", "\"1\"", ""),
        with("Host", "other.example", ""),
        with("X-Colour", "red", ""),
        with("X-Colour", "blue", ""),
        // The same bytes one after another, cut in another place.
        with("X-Colour", "b", "lue"),
        with("X-Colour", "bl", "ue"),
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
fn a_dead_backend_is_502_and_the_next_request_tries_again() {
    // Nobody listens on port 1.
    let proxy = Proxy::start(&["--backend", "http://127.0.0.1:1", "--window-ms", "600000"]);
    for _ in 0..2 {
        let reply = get(&proxy.url("/"));
        assert_eq!((reply.status, reply.role()), (502, "led"));
    }

    // This one answers half a response, then hangs up.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        }
    });
    let proxy = Proxy::start(&["--backend", &url]);
    assert_eq!(get(&proxy.url("/")).status, 502);
}

#[test]
fn a_slow_backend_is_504() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &["--backend-timeout-ms", "200"]);
    assert_eq!(get(&proxy.url("/")).status, 504);

    // Slow in the middle of the body: it says that 100 bytes come, and sends 4.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = Proxy::start(&["--backend", &url, "--backend-timeout-ms", "200"]);
    assert_eq!(get(&proxy.url("/")).status, 504);
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
fn a_request_over_the_limit_is_413_and_never_reaches_the_backend() {
    let backend =
        Backend::start(|_, request| text(StatusCode::OK, request.body().len().to_string()));
    let proxy = Proxy::before(&backend, &["--max-body", "1000"]);
    let long = vec![b'x'; 1001];
    let chunked = || ureq::SendBody::from_owned_reader(std::io::Cursor::new(vec![b'x'; 1001]));
    assert_eq!(ask(Request::post(proxy.url("/")).body(&long[..]).unwrap()).status, 413);
    assert_eq!(ask(Request::post(proxy.url("/")).body(chunked()).unwrap()).status, 413);

    // Who asks before sending is refused before sending.
    let mut client = TcpStream::connect(&proxy.address).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let asking =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(asking.as_bytes()).unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");

    assert_eq!(backend.seen(), 0);
    assert_eq!(ask(Request::post(proxy.url("/")).body(&long[..1000]).unwrap()).body, b"1000\n");
}

#[test]
fn a_response_over_the_limit_goes_whole_to_each_caller_and_is_not_shared() {
    let long = vec![b'y'; 300_000];
    let body = long.clone();
    let backend = Backend::start(move |_, _| Response::new(whole(body.clone())));
    backend.hold();
    let proxy = Proxy::before(&backend, &["--max-body", "1000", "--window-ms", "600000"]);
    let url = proxy.url("/");
    let clients = crowd(3, move |_| get(&url));
    assert_eq!(proxy.steps(3), (1, 2, 0, 0));
    // The leader's is the only response so far, and the others ask at once and side by side.
    backend.let_pass(1);
    backend.wait_for(3);
    backend.release();
    for reply in all(clients) {
        assert_eq!((reply.status, reply.role(), reply.body == long), (200, "alone", true));
    }
    // A HEAD has no body, however long the one it tells of.
    let head = ask(Request::head(proxy.url("/")).body("").unwrap());
    assert_eq!((head.role(), head.header("content-length")), ("led", "300000"));
}

#[test]
fn what_is_told_beforehand_not_to_be_shared_is_passed_on_as_it_comes() {
    for header in ["content-length: 9", "content-type: text/event-stream"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (go_on, told) = mpsc::channel();
        let backend = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n\r\none ").unwrap();
            for part in ["two ", "3"] {
                told.recv_timeout(LIMIT).expect("the part before has arrived");
                stream.write_all(part.as_bytes()).unwrap();
            }
        });
        let proxy = Proxy::start(&["--backend", &url, "--max-body", "8"]);
        let client = ureq::get(proxy.url("/")).config().timeout_global(Some(LIMIT)).build();
        let mut body = client.call().unwrap().into_body().into_reader();
        for part in [&b"one "[..], b"two "] {
            let mut read = vec![0; part.len()];
            body.read_exact(&mut read).unwrap();
            assert_eq!(read, part);
            go_on.send(()).unwrap();
        }
        let mut rest = Vec::new();
        body.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"3");
        backend.join().unwrap();
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
fn a_response_that_varies_on_an_uncounted_header_is_not_shared() {
    let backend = Backend::start(|nth, _| {
        let mut response = text(StatusCode::OK, nth.to_string());
        response.headers_mut().insert("vary", "Accept, X-Colour".parse().unwrap());
        response
    });
    for (flags, reached) in [(&[][..], 2), (&["--header", "x-colour"][..], 1)] {
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
fn headers_of_one_hop_stay_on_it() {
    let (sender, receiver) = mpsc::channel();
    let backend = Backend::start(move |_, request| {
        sender.send(request.headers().clone()).unwrap();
        let mut response = text(StatusCode::OK, "");
        for (name, value) in [("proxy-authenticate", "1"), ("upgrade", "h2c"), ("x-end", "1")] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    });
    let proxy = Proxy::before(&backend, &[]);
    let reply = ask(Request::get(proxy.url("/"))
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("proxy-authorization", "secret")
        .header("x-end", "1")
        .body("")
        .unwrap());
    let got = receiver.recv_timeout(LIMIT).unwrap();
    assert_eq!(got["x-end"], "1");
    assert_eq!(got["connection"], "close");
    for name in ["x-hop", "te", "proxy-authorization", "user-agent"] {
        assert!(!got.contains_key(name), "{name} came through");
    }
    assert_eq!(reply.header("x-end"), "1");
    assert_eq!(reply.header("proxy-authenticate"), "");
    assert_eq!(reply.header("upgrade"), "");
}

#[test]
fn one_connection_carries_many_requests() {
    let backend = Backend::start(|nth, _| text(StatusCode::OK, nth.to_string()));
    let proxy = Proxy::before(&backend, &[]);
    let mut stream = TcpStream::connect(&proxy.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), 2);
    assert_eq!(said.matches("content-length: 2\r\n").count(), 2);
    // The HEAD's has no body, and the GET's is the last thing said.
    assert!(said.ends_with("\r\n\r\n2\n") && !said.contains("1\n"), "{said}");
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

#[test]
fn curl_agrees() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let curls: Vec<_> = (0..8)
        .map(|_| {
            Command::new("curl")
                .args(["--silent", "--show-error", "--include", "--max-time", "60"])
                .args(["--data", "one cup", &proxy.url("/orders")])
                .stdout(Stdio::piped())
                .spawn()
                .expect("curl")
        })
        .collect();
    assert_eq!(proxy.steps(8), (1, 7, 0, 0));
    backend.release();
    for curl in curls {
        let output = curl.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(said.ends_with("\r\n\r\n1: POST /orders one cup\n"), "{said}");
    }
    assert_eq!(backend.seen(), 1);
}

#[test]
fn sigterm_lets_what_is_in_flight_be_answered() {
    let backend = Backend::held();
    let mut proxy = Proxy::before(&backend, &[]);
    let mut idle = TcpStream::connect(&proxy.address).unwrap();
    idle.set_read_timeout(Some(LIMIT)).unwrap();
    let url = proxy.url("/");
    let clients = crowd(4, move |_| get(&url));
    assert_eq!(proxy.steps(4), (1, 3, 0, 0));
    backend.wait_for(1);
    proxy.signal("TERM");
    assert_eq!(proxy.line(), "stopping: what is in flight is finished first");
    assert!(TcpStream::connect(&proxy.address).is_err(), "it still accepts");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection is closed");

    backend.release();
    for reply in all(clients) {
        assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    }
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let backend = Backend::held();
    let mut proxy = Proxy::before(&backend, &[]);
    let mut client = TcpStream::connect(&proxy.address).unwrap();
    write!(client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    backend.wait_for(1);
    proxy.signal("TERM");
    while proxy.line() != "stopping: what is in flight is finished first" {}
    proxy.signal("TERM");
    assert_eq!(proxy.exit().code(), Some(1));
}

#[test]
fn sigint_ends_an_idle_proxy() {
    let mut proxy = Proxy::start(&["--backend", "http://127.0.0.1:1"]);
    proxy.signal("INT");
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn the_demonstration_counts_one_of_sixty_four_and_ends() {
    let output = run(&["--demo-exit"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("listening on 127.0.0.1:"), "{said}");
    for line in [
        "64 arrived, 63 waited; 1 of 64 reached the backend; 64 answered",
        "60 arrived, 57 waited; 3 of 60 reached the backend; 60 answered",
        "64 arrived, 62 waited; 2 of 64 reached the backend; 64 answered",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains('\x1b'), "not a terminal: {said}");
}

#[test]
fn a_wrong_command_line_is_explained() {
    for wrong in [
        &["--nonsense"][..],
        &["--backend", "https://127.0.0.1"],
        &["--backend", "127.0.0.1:80"],
        &["--window-ms", "soon"],
        &["--header", "not a name"],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("usage: proxy"), "{wrong:?}");
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--backend", "http://127.0.0.1:1", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&address));
}
