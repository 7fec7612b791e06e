//! `onceflight inspect`, `evict` and `purge`, over the store of a proxy that is at work.

use hyper::{Request, StatusCode};

use crate::harness::{Backend, Proxy, Scratch, ask, command, run};
use crate::keyed::{HOST, pay};
use crate::server::text;

/// Runs a command over that store: its exit code, and what it says.
fn operate(verb: &str, store: &str, flags: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&[verb, "--store", store][..], flags].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_key_is_found_by_who_asked_for_what_shown_and_evicted() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let backend = Backend::start(|nth, _| text(StatusCode::CREATED, format!("order {nth}")));
    let proxy = Proxy::before(&backend, &["--store", &store]);
    pay(&proxy.url("/orders?now"), "k-1", "tea");
    let ada = Request::put(proxy.url("/orders")).header("idempotency-key", "\"k-2\"");
    let ada = ada.header("host", HOST);
    ask(ada.header("authorization", "Bearer ada").body("").unwrap());

    let orders = format!("http://{HOST}/orders");
    let first = ["--url", &orders, "--key", "k-1"];
    let (code, said) = operate("inspect", &store, &first);
    assert_eq!(code, Some(0), "{said}");
    for line in
        ["key          k-1\n", "state        completed\n", "attempt      1\n", "response     201, "]
    {
        assert!(said.contains(line), "{said}");
    }
    let (_, said) = operate("inspect", &store, &[&first[..], &["--response"]].concat());
    assert!(
        said.starts_with("HTTP/1.1 201 Created\r\n") && said.ends_with("\r\n\r\norder 1\n"),
        "{said}"
    );
    let second = ["--method", "PUT", "--url", &orders, "--principal", "Bearer ada"];
    assert_eq!(operate("inspect", &store, &second), (Some(0), "k-2\tcompleted\n".into()));

    for (verb, nobody) in [
        ("inspect", &second[..4]),
        ("inspect", &["--path", "/orders", "--key", "k-1"]),
        ("inspect", &["--url", "http://other.example/orders", "--key", "k-1"]),
        ("evict", &["--url", &format!("http://{HOST}/other"), "--key", "k-1"]),
    ] {
        let (code, said) = operate(verb, &store, nobody);
        assert_eq!((code, said.as_str()), (Some(1), "there is no such record\n"));
    }
    assert_eq!(pay(&proxy.url("/orders?now"), "k-1", "tea").role(), "replayed");
    assert_eq!(operate("evict", &store, &first), (Some(0), "evicted\n".into()));
    assert_eq!(pay(&proxy.url("/orders?now"), "k-1", "tea").body, b"order 3\n");
}

#[test]
fn where_hosts_do_not_count_a_path_is_enough() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let backend = Backend::start(|_, _| text(StatusCode::OK, ""));
    let proxy = Proxy::before(&backend, &["--store", &store, "--one-host"]);
    pay(&proxy.url("/"), "1", "");
    let (_, said) = operate("inspect", &store, &["--path", "/"]);
    assert_eq!(said, "1\tcompleted\n");
}

#[test]
fn an_execution_that_goes_on_and_one_that_was_lost_are_told_apart() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let backend = Backend::start(|nth, _| {
        let status = if nth == 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        text(status, "")
    });
    backend.hold();
    let proxy = Proxy::before(&backend, &["--store", &store]);
    let url = proxy.url("/");
    let client = std::thread::spawn(move || pay(&url, "1", ""));
    backend.wait_for(1);
    let root = format!("http://{HOST}/");
    let (_, said) = operate("inspect", &store, &["--url", &root]);
    assert!(said.starts_with("1\tin progress, "), "{said}");
    backend.release();
    assert_eq!(client.join().unwrap().status, 200);
    assert_eq!(pay(&proxy.url("/"), "2", "").status, 502);
    let (_, said) = operate("inspect", &store, &["--url", &root, "--key", "2"]);
    assert!(said.contains("state        lost: it may have been executed\n"), "{said}");
}

#[test]
fn what_has_expired_is_purged() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let backend = Backend::start(|_, _| text(StatusCode::OK, ""));
    let proxy = Proxy::before(&backend, &["--store", &store, "--ttl", "1ms"]);
    pay(&proxy.url("/"), "1", "");
    // A record is kept for some seconds after it expired, and a purge takes it then: not before.
    assert_eq!(operate("purge", &store, &["--max", "10"]), (Some(0), "0 dropped\n".into()));
    let dropped = |said: &str| said == "1 dropped\n";
    while !dropped(&operate("purge", &store, &[]).1) {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// Wherever it stands.
#[test]
fn all_that_was_lost_is_purged() {
    let scratch = Scratch::new();
    let store = scratch.store();
    assert_eq!(
        operate("purge", &store, &[]),
        (Some(0), "0 dropped\n".into()),
        "the tables are made"
    );
    let file = rusqlite::Connection::open(store.strip_prefix("sqlite:").unwrap()).unwrap();
    file.execute_batch(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 70000)
        INSERT INTO onceflight_records (id, scope, key, state, token, attempt, boot, status, body)
        SELECT randomblob(16), x'', x'', 2, zeroblob(16), 1, zeroblob(16), 200, x'' FROM numbers;
        INSERT INTO onceflight_records (id, scope, key, state, token, attempt, boot, lease_until, expires)
        VALUES (randomblob(16), x'', x'', 1, zeroblob(16), 1, zeroblob(16), 1, 1)",
    )
    .unwrap();
    assert_eq!(operate("purge", &store, &[]), (Some(0), "1 dropped\n".into()));
}

#[test]
fn a_secret_hides_callers_and_is_needed_to_find_them() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let backend = Backend::start(|_, _| text(StatusCode::OK, ""));
    let secret = ("ONCEFLIGHT_SECRET", "00112233445566778899aabbccddeeff");
    let proxy = Proxy::with(Some(secret), &backend, &["--store", &store]);
    pay(&proxy.url("/"), "1", "");
    let root = format!("http://{HOST}/");
    let flags = ["inspect", "--store", &store, "--url", &root, "--key", "1"];
    assert_eq!(run(&flags).status.code(), Some(1));
    assert_eq!(command(&flags).env(secret.0, secret.1).output().unwrap().status.code(), Some(0));
    let short = command(&flags).env(secret.0, "0011").output().unwrap();
    assert_eq!(short.status.code(), Some(2));
}

#[test]
fn what_is_missing_is_said() {
    let scratch = Scratch::new();
    let store = scratch.store();
    for (verb, flags, missing) in [
        ("inspect", &["--path", "/"][..], "--store URL is missing"),
        ("inspect", &["--store", &store], "--url, --path or --scope is missing"),
        ("evict", &["--store", &store, "--path", "/"], "--key is missing"),
        ("evict", &["--path", "no path"], "no path"),
        ("purge", &["--max", "some"], "some"),
        ("purge", &["--store", "nowhere:x"], "the URL is none of sqlite:PATH"),
    ] {
        let output = run(&[&[verb][..], flags].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb} {flags:?}: {said}");
        assert!(said.contains(missing), "{verb} {flags:?}: {said}");
    }
}
