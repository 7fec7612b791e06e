//! Requests with an `Idempotency-Key`, before a backend that knows nothing of it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use hyper::{Request, Response, StatusCode};

use crate::harness::{Backend, Proxy, Reply, Scratch, all, ask, crowd, read_head, scripted};
use crate::raw::Client;
use crate::server::text;

/// What clients call the backend.
pub const HOST: &str = "shop.example";

/// A POST with that key, which is quoted here.
pub fn pay(url: &str, key: &str, body: &str) -> Reply {
    ask(order(url, key).body(body.to_owned()).unwrap())
}

/// Whichever proxy is asked, the host is the one that clients know.
fn order(url: &str, key: &str) -> hyper::http::request::Builder {
    Request::post(url).header("host", HOST).header("idempotency-key", format!("\"{key}\""))
}

/// Says which execution it was: its number, its attempt, what was sent.
fn counting() -> Backend {
    Backend::start(|nth, request| {
        let attempt = request.headers().get("onceflight-attempt");
        let attempt = attempt.map_or("-", |value| value.to_str().unwrap());
        let body = String::from_utf8_lossy(request.body());
        text(StatusCode::CREATED, format!("{nth}: attempt {attempt}, {body}"))
    })
}

/// The last part of a problem's type.
pub fn problem(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["status"], reply.status);
    let kind = body["type"].as_str().unwrap();
    kind.strip_prefix("urn:onceflight:problem:").unwrap().to_owned()
}

#[test]
fn what_was_answered_is_replayed_to_the_byte() {
    let backend = Backend::start(|_, _| {
        let mut response = Response::new(vec![0, 255, b'\n', 0].into());
        *response.status_mut() = StatusCode::CREATED;
        for cookie in ["a=1", "b=2", "a=3"] {
            response.headers_mut().append("set-cookie", cookie.parse().unwrap());
        }
        let latin = hyper::header::HeaderValue::from_bytes(b"caf\xe9").unwrap();
        response.headers_mut().insert("x-place", latin);
        response
    });
    let proxy = Proxy::before(&backend, &[]);
    let url = proxy.url("/orders");
    let (first, again) = (pay(&url, "1", "tea"), pay(&url, "1", "tea"));
    assert_eq!((first.role(), again.role()), ("led", "replayed"));
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        ("", "true")
    );
    for reply in [first, again] {
        assert_eq!((reply.status, &reply.body[..]), (201, &[0, 255, b'\n', 0][..]));
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2", "a=3"]);
        assert_eq!(reply.headers["x-place"].as_bytes(), b"caf\xe9");
    }
    assert_eq!(backend.seen(), 1);
}

#[test]
fn fifty_at_once_are_executed_once() {
    let backend = counting();
    backend.hold();
    let proxy = Proxy::before(&backend, &[]);
    let url = proxy.url("/orders");
    let clients = crowd(50, move |_| pay(&url, "1", "tea"));
    proxy.wait_for_asks(50);
    backend.release();
    let replies = all(clients);
    assert!(replies.iter().all(|it| it.status == 201 && it.body == b"1: attempt 1, tea\n"));
    assert_eq!(backend.seen(), 1);
}

#[test]
fn another_payload_is_422_also_while_the_first_is_in_progress() {
    let backend = counting();
    backend.hold();
    let proxy = Proxy::before(&backend, &["--wait-ms", "0"]);
    let url = proxy.url("/orders");
    let first = thread::spawn({
        let url = url.clone();
        move || pay(&url, "1", "tea")
    });
    backend.wait_for(1);
    for other in [pay(&url, "1", "coffee"), pay(&proxy.url("/orders?x"), "1", "tea")] {
        assert_eq!((other.status, problem(&other).as_str()), (422, "key-reused"));
    }
    let same = pay(&url, "1", "tea");
    assert_eq!((same.status, problem(&same).as_str()), (409, "in-progress"));
    assert_eq!(same.header("retry-after"), "1");
    backend.release();
    assert_eq!(first.join().unwrap().status, 201);
    assert_eq!(pay(&url, "1", "coffee").status, 422);
    assert_eq!(pay(&url, "1", "tea").status, 201);
    assert_eq!(backend.seen(), 1);
}

#[test]
fn the_same_key_of_another_caller_or_route_is_another() {
    let backend = counting();
    let by_default = Proxy::before(&backend, &[]);
    let by_tenant = Proxy::before(&backend, &["--scope-header", "X-Tenant"]);
    let orders = by_default.url("/orders");
    let as_ = |url: &str, name: &str, who: &str| {
        ask(order(url, "1").header(name, who).body("tea").unwrap()).role().to_owned()
    };
    assert_eq!(as_(&orders, "authorization", "ada"), "led");
    assert_eq!(as_(&orders, "authorization", "bob"), "led");
    assert_eq!(as_(&orders, "authorization", "ada"), "replayed");
    assert_eq!(as_(&by_default.url("/refunds"), "authorization", "ada"), "led");
    let put = Request::put(&orders).header("idempotency-key", "\"1\"");
    assert_eq!(ask(put.header("authorization", "ada").body("tea").unwrap()).role(), "led");

    let orders = by_tenant.url("/orders");
    assert_eq!(as_(&orders, "x-tenant", "ada"), "led");
    assert_eq!(as_(&orders, "x-tenant", "bob"), "led");
    assert_eq!(as_(&orders, "x-tenant", "bob"), "replayed");
}

#[test]
fn the_same_key_at_another_host_is_another() {
    let backend = Backend::start(|nth, request| {
        let host = request.headers()["host"].to_str().unwrap();
        text(StatusCode::CREATED, format!("{nth}: {host}"))
    });
    let proxy = Proxy::before(&backend, &[]);
    let at = |proxy: &Proxy, host: &str| {
        let mut client = Client::of(proxy);
        let lines = "idempotency-key: \"1\"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        client.say(format!("POST / HTTP/1.1\r\nhost: {host}\r\n{lines}")).rest()
    };
    for (host, answer) in [
        ("a.example", "1: a.example\n"),
        ("b.example", "2: b.example\n"),
        ("a.example:8080", "3: a.example:8080\n"),
        ("a.example", "1: a.example\n"),
        // Another way to write the same.
        ("A.Example:80", "1: a.example\n"),
    ] {
        let said = at(&proxy, host);
        assert!(said.ends_with(answer), "{host}: {said}");
    }
    // A URL as target says the host, whatever Host says; without any it is the backend's own.
    let say = |request: String| Client::of(&proxy).say(request).rest();
    let key = "idempotency-key: \"1\"\r\nconnection: close\r\n\r\n";
    let said = say(format!("POST http://b.example/ HTTP/1.1\r\nhost: a.example\r\n{key}"));
    assert!(said.ends_with("2: b.example\n"), "{said}");
    let said = say(format!("POST / HTTP/1.0\r\n{key}"));
    assert!(said.contains("\r\n\r\n4: 127.0.0.1:"), "{said}");
    let authority = said.trim_end().rsplit("4: ").next().unwrap();
    assert!(at(&proxy, authority).ends_with(&format!("4: {authority}\n")));

    // If they are names of one server, it is one key.
    let proxy = Proxy::before(&backend, &["--one-host"]);
    for host in ["a.example", "b.example"] {
        assert!(at(&proxy, host).ends_with("5: a.example\n"));
    }
    assert_eq!(backend.seen(), 5);
}

#[test]
fn keys_are_quoted_and_of_1_to_255_characters() {
    let backend = counting();
    let strict = Proxy::before(&backend, &[]);
    let lenient = Proxy::before(&backend, &["--lenient-keys"]);
    let with = |proxy: &Proxy, key: &str| {
        ask(Request::post(proxy.url("/")).header("idempotency-key", key).body("").unwrap())
    };
    let quoted = |len| format!("\"{}\"", "k".repeat(len));
    for proxy in [&strict, &lenient] {
        for bad in [&quoted(0), &quoted(256), "\"a\", \"b\"", "\"a", "a b", "", "\"é\""] {
            let reply = with(proxy, bad);
            assert_eq!((reply.status, problem(&reply).as_str()), (400, "key-invalid"), "{bad}");
        }
        assert_eq!(with(proxy, &quoted(255)).status, 201);
        let twice = Request::post(proxy.url("/")).header("idempotency-key", "\"a\"");
        let reply = ask(twice.header("idempotency-key", "\"a\"").body("").unwrap());
        assert_eq!((reply.status, problem(&reply).as_str()), (400, "key-invalid"));
    }
    assert_eq!(problem(&with(&strict, "bare")), "key-invalid");
    assert_eq!(with(&lenient, "bare").role(), "led");
    assert_eq!(with(&lenient, "\"bare\"").role(), "replayed");
    assert_eq!(backend.seen(), 3);
}

#[test]
fn a_key_can_be_required_of_post_and_patch() {
    let backend = counting();
    let proxy = Proxy::before(&backend, &["--require-key"]);
    let url = proxy.url("/");
    for request in [Request::post(&url), Request::patch(&url)] {
        let reply = ask(request.body("").unwrap());
        assert_eq!((reply.status, problem(&reply).as_str()), (400, "key-missing"));
    }
    assert_eq!(backend.seen(), 0);
    assert_eq!(pay(&url, "1", "").role(), "led");
    for request in [Request::put(&url), Request::delete(&url), Request::options(&url)] {
        assert_eq!(ask(request.body("").unwrap()).role(), "alone");
    }
    for method in ["PUT", "DELETE"] {
        let send = || {
            let request = Request::builder().method(method).uri(&url);
            ask(request.header("idempotency-key", "\"1\"").body("").unwrap())
        };
        assert_eq!((send().role(), send().role()), ("led", "replayed"), "{method}");
    }
}

#[test]
fn what_executed_nothing_frees_its_key_and_a_failure_is_another_attempt() {
    let backend = Backend::start(|_, request| {
        let said = &request.headers()["x-answer"];
        let mut response = text(StatusCode::from_bytes(said.as_bytes()).unwrap(), "");
        for name in ["onceflight-attempt", "onceflight-fence"] {
            response.headers_mut().insert(name, request.headers()[name].clone());
        }
        response
    });
    let proxy = Proxy::before(&backend, &[]);
    let url = proxy.url("/");
    let send = |key: &str, status: &str| {
        let reply = ask(order(&url, key).header("x-answer", status).body("").unwrap());
        (reply.status, reply.header("onceflight-attempt").to_owned(), reply.role().to_owned())
    };
    let got = |status, attempt: &str, role: &str| (status, attempt.to_owned(), role.to_owned());
    for status in [401, 403, 408, 425, 429, 503] {
        let key = status.to_string();
        assert_eq!(send(&key, &key), got(status, "1", "led"));
        assert_eq!(send(&key, "200"), got(200, "1", "led"));
    }
    for status in [400, 404, 409, 422, 302, 204] {
        let key = status.to_string();
        assert_eq!(send(&key, &key), got(status, "1", "led"));
        assert_eq!(send(&key, "200"), got(status, "1", "replayed"));
    }
    for status in [500, 502, 504] {
        let key = status.to_string();
        assert_eq!(send(&key, &key), got(status, "1", "led"));
        assert_eq!(send(&key, "200"), got(200, "2", "led"));
        assert_eq!(send(&key, "500"), got(200, "2", "replayed"));
    }
}

#[test]
fn the_fence_grows_and_is_nobody_elses_to_say() {
    let backend = Backend::start(|nth, request| {
        let fence = request.headers().get_all("onceflight-fence");
        let fences: Vec<_> = fence.iter().map(|it| it.to_str().unwrap().to_owned()).collect();
        let status = if nth == 1 { 500 } else { 200 };
        text(StatusCode::from_u16(status).unwrap(), fences.join(","))
    });
    let proxy = Proxy::before(&backend, &[]);
    let send = || {
        let forged = order(&proxy.url("/"), "1").header("onceflight-fence", "9999999999");
        String::from_utf8(ask(forged.body("").unwrap()).body).unwrap()
    };
    let (first, second): (u64, u64) =
        (send().trim().parse().unwrap(), send().trim().parse().unwrap());
    assert!(first < second && second < 9_999_999_999, "{first}, {second}");
    let without = Request::post(proxy.url("/")).header("onceflight-fence", "1").body("").unwrap();
    assert_eq!(ask(without).body, b"\n");
}

#[test]
fn what_may_have_been_executed_is_held_if_that_is_the_policy() {
    let backend = Backend::start(|_, _| text(StatusCode::INTERNAL_SERVER_ERROR, ""));
    let proxy = Proxy::before(&backend, &["--hold"]);
    assert_eq!(pay(&proxy.url("/"), "1", "").status, 500);
    let reply = pay(&proxy.url("/"), "1", "");
    assert_eq!((reply.status, problem(&reply).as_str()), (409, "outcome-unknown"));
    assert_eq!(backend.seen(), 1);
}

#[test]
fn a_backend_that_was_never_reached_frees_the_key() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let flags = ["--store", &store, "--hold"];
    let dead = Proxy::start(&[&["--backend", "http://127.0.0.1:1"][..], &flags].concat());
    assert_eq!(pay(&dead.url("/"), "1", "tea").status, 502);
    let backend = counting();
    let alive = Proxy::before(&backend, &flags);
    assert_eq!(pay(&alive.url("/"), "1", "tea").body, b"1: attempt 1, tea\n");
}

#[test]
fn a_backend_that_hangs_up_may_have_executed_and_is_asked_once_only() {
    let requests = Arc::new(AtomicUsize::new(0));
    let url = scripted({
        let requests = Arc::clone(&requests);
        move |_, mut stream| {
            loop {
                if read_head(&mut stream).is_empty() {
                    return;
                }
                // The first is answered, and its connection kept. The next dies: was it executed?
                if requests.fetch_add(1, Relaxed) > 0 {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        }
    });
    let proxy = Proxy::start(&["--backend", &url, "--hold"]);
    assert_eq!(pay(&proxy.url("/"), "1", "").status, 200);
    let (first, second) = (pay(&proxy.url("/"), "2", ""), pay(&proxy.url("/"), "2", ""));
    assert_eq!((first.status, first.role()), (502, "led"));
    assert_eq!(problem(&second), "outcome-unknown");
    assert_eq!(requests.load(Relaxed), 2);
}

#[test]
fn a_response_too_large_to_keep_is_streamed_and_told_of() {
    let backend = Backend::start(|_, _| Response::new(vec![b'y'; 300_000].into()));
    let proxy = Proxy::before(&backend, &["--max-body", "1000"]);
    let first = pay(&proxy.url("/"), "1", "");
    assert_eq!((first.status, first.body.len()), (200, 300_000));
    let again = pay(&proxy.url("/"), "1", "");
    assert_eq!((again.status, problem(&again).as_str()), (409, "response-not-kept"));
    assert_eq!(backend.seen(), 1);
}

#[test]
fn a_retry_gets_the_response_that_the_first_client_did_not_wait_for() {
    let backend = counting();
    backend.hold();
    let proxy = Proxy::before(&backend, &[]);
    let mut leaver = Client::of(&proxy);
    leaver.say(format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nidempotency-key: \"1\"\r\ncontent-length: 3\r\n\r\ntea",
    ));
    backend.wait_for(1);
    drop(leaver);
    backend.release();
    let reply = pay(&proxy.url("/"), "1", "tea");
    assert_eq!((reply.status, &reply.body[..]), (201, &b"1: attempt 1, tea\n"[..]));
    assert_eq!(backend.seen(), 1);
}

#[test]
fn keys_outlive_the_proxy_in_a_store() {
    let (scratch, backend) = (Scratch::new(), counting());
    let store = scratch.store();
    let flags = ["--store", &store, "--lease", "300ms"];
    let first = Proxy::before(&backend, &flags);
    assert_eq!(pay(&first.url("/"), "1", "tea").body, b"1: attempt 1, tea\n");
    // One that is killed in the midst of an execution leaves it to whoever asks next.
    backend.hold();
    Client::of(&first)
        .say(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nidempotency-key: \"2\"\r\n\r\n"));
    backend.wait_for(2);
    first.kill();
    backend.release();
    let second = Proxy::before(&backend, &flags);
    assert_eq!(pay(&second.url("/"), "1", "tea").role(), "replayed");
    assert_eq!(pay(&second.url("/"), "2", "").body, b"3: attempt 2, \n");
}

#[test]
fn proxies_over_one_store_execute_a_key_once() {
    let (scratch, backend) = (Scratch::new(), counting());
    let store = scratch.store();
    backend.hold();
    let proxies = [(); 2].map(|()| Proxy::before(&backend, &["--store", &store]));
    let urls = [proxies[0].url("/"), proxies[1].url("/")];
    let clients = crowd(16, move |number| pay(&urls[number % 2], "1", "tea"));
    for proxy in &proxies {
        proxy.wait_for_asks(8);
    }
    backend.release();
    assert!(all(clients).iter().all(|reply| reply.body == b"1: attempt 1, tea\n"));
    assert_eq!(backend.seen(), 1);
}

#[test]
fn a_key_is_new_again_after_its_ttl() {
    let backend = counting();
    let proxy = Proxy::before(&backend, &["--ttl", "50ms"]);
    while pay(&proxy.url("/"), "1", "").body != b"2: attempt 1, \n" {}
}

#[test]
fn a_store_that_cannot_be_written_is_503_and_nothing_is_executed() {
    let (scratch, backend) = (Scratch::new(), counting());
    let proxy = Proxy::before(&backend, &["--store", &scratch.store()]);
    let lock = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        db.execute('BEGIN EXCLUSIVE')\n\
        print('locked', flush=True)\n\
        sys.stdin.read()";
    let mut locker = Command::new("python3")
        .args(["-c", lock, &scratch.file()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    locker.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
    let reply = pay(&proxy.url("/"), "1", "tea");
    assert_eq!((reply.status, problem(&reply).as_str()), (503, "unavailable"));
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(backend.seen(), 0);
    // What needs no store is answered meanwhile.
    assert_eq!(ask(Request::get(proxy.url("/")).body("").unwrap()).status, 201);
    drop(locker.stdin.take());
    locker.wait().unwrap();
    assert_eq!(pay(&proxy.url("/"), "1", "tea").body, b"2: attempt 1, tea\n");
}

#[test]
fn python_agrees() {
    let backend = counting();
    let proxy = Proxy::before(&backend, &[]);
    let script = r#"
import http.client, sys, threading
said = []
def pay():
    connection = http.client.HTTPConnection(sys.argv[1])
    for _ in range(3):
        connection.request("POST", "/orders", b"tea", {"Idempotency-Key": '"1"'})
        response = connection.getresponse()
        said.append((response.status, response.read()))
threads = [threading.Thread(target=pay) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert said == [(201, b"1: attempt 1, tea\n")] * 24, said
"#;
    let ran = Command::new("python3").args(["-c", script, &proxy.address]).status();
    assert!(ran.expect("python3").success());
    assert_eq!(backend.seen(), 1);
}
