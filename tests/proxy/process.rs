//! The process: its command line, its end, its demonstration.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use hyper::StatusCode;

use crate::admin::metric;
use crate::harness::{Backend, LIMIT, Proxy, all, crowd, get, run};
use crate::keyed::pay;
use crate::raw::Client;
use crate::server::text;

const STOPPING: &str = "INFO: stopping: what is in flight is finished first";

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
    proxy.wait_for_line(STOPPING);
    assert!(TcpStream::connect(&proxy.address).is_err(), "it still accepts");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection is closed");

    backend.release();
    for reply in all(clients) {
        assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    }
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn a_request_that_is_being_sent_is_waited_for_and_one_that_takes_too_long_is_not() {
    let backend = Backend::held();
    let mut proxy = Proxy::before(&backend, &[]);
    let mut sender = Client::of(&proxy);
    sender.say("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(sender.hear(12), "HTTP/1.1 100");
    proxy.signal("TERM");
    proxy.wait_for_line(STOPPING);
    backend.release();
    assert!(sender.say("ab").rest().ends_with("\r\n\r\n1: POST / ab\n"));
    assert_eq!(proxy.exit().code(), Some(0));

    backend.hold();
    let mut proxy = Proxy::before(&backend, &["--drain-ms", "50"]);
    let mut client = Client::of(&proxy);
    client.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    backend.wait_for(2);
    proxy.signal("TERM");
    assert_eq!(proxy.exit().code(), Some(0));
    backend.release();
}

#[test]
fn one_connection_more_than_the_limit_waits() {
    let backend = Backend::start(|_, _| text(StatusCode::OK, ""));
    let proxy = Proxy::before(&backend, &["--max-connections", "2", "--admin", "127.0.0.1:0"]);
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut open = [(); 2].map(|()| Client::of(&proxy));
    for client in &mut open {
        assert_eq!(client.say(request).hear(12), "HTTP/1.1 200");
    }
    let mut third = Client::of(&proxy);
    third.say(request);
    // It is accepted by the kernel, and not yet served.
    assert_eq!(metric(&proxy, "onceflight_connections"), 2);
    assert_eq!(backend.seen(), 2);
    let [first, _second] = open;
    drop(first);
    assert_eq!(third.hear(12), "HTTP/1.1 200");
}

#[test]
fn one_key_more_than_the_limit_is_503() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &["--max-in-flight", "1"]);
    let url = proxy.url("/a");
    let first = crowd(1, move |_| get(&url));
    backend.wait_for(1);
    let refused = get(&proxy.url("/b"));
    assert_eq!(
        (refused.status, refused.role(), refused.header("retry-after")),
        (503, "refused", "1")
    );
    // A key is counted by itself.
    let url = proxy.url("/");
    let second = crowd(1, move |_| pay(&url, "1", ""));
    backend.wait_for(2);
    assert_eq!(pay(&proxy.url("/"), "2", "").status, 503);
    backend.release();
    assert_eq!((all(first)[0].status, all(second)[0].status), (200, 200));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let backend = Backend::held();
    let mut proxy = Proxy::before(&backend, &[]);
    let mut client = TcpStream::connect(&proxy.address).unwrap();
    write!(client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    backend.wait_for(1);
    proxy.signal("TERM");
    proxy.wait_for_line(STOPPING);
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
    let output = run(&["proxy", "--demo-exit"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("listening on 127.0.0.1:"), "{said}");
    for line in [
        "64 arrived, 63 waited; 1 of 64 reached the backend; 64 answered",
        "60 arrived, 57 waited; 3 of 60 reached the backend; 60 answered",
        "waited; 2 of 64 reached the backend; 64 answered",
        "64 arrived, 0 waited; 0 of 64 reached the backend; 64 answered",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains('\x1b'), "not a terminal: {said}");
}

#[test]
fn a_wrong_command_line_is_explained() {
    for (wrong, explained) in [
        (&["proxy", "--nonsense"][..], "--nonsense: there is no such flag"),
        (&["proxy", "--backend", "https://127.0.0.1"], "--backend: it has to be http://"),
        (&["proxy", "--backend", "127.0.0.1:80"], "--backend: "),
        (&["proxy", "--window-ms", "soon"], "--window-ms: "),
        (&["proxy", "--ignore-header", "not a name"], "--ignore-header: "),
        (&["proxy", "--ignore-header", "Cookie"], "cookie says who asks"),
        (&["proxy", "--ignore-header", "if-match"], "if-match says who asks"),
        (&["proxy", "--ttl", "5"], "a time is a number and its unit"),
        (&["proxy", "--lease", "0s"], "--lease: a lease of 0"),
        (&["proxy", "--store", "nowhere:"], "the URL is none of sqlite:PATH"),
        (&["proxy", "--max-connections", "0"], "limits of 0"),
        (&["proxy", "--max-body-memory", "1000"], "--max-body-memory: it has to be twice"),
        (&["proxy", "--max-body", "1000000000"], "--max-body-memory: it has to be twice"),
        (&["proxy", "extra"], "extra"),
        (&["nonsense"], "there is no command nonsense"),
        (&[], "which command?"),
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(explained) && said.contains("--help"), "{wrong:?}: {said}");
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["proxy", "--backend", "http://127.0.0.1:1", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&address));
}

#[test]
fn help_and_version_are_told() {
    for (asked, said) in [
        (&["--help"][..], "usage: onceflight COMMAND"),
        (&["--version"], concat!("onceflight ", env!("CARGO_PKG_VERSION"))),
        (&["proxy", "--help"], "usage: onceflight proxy"),
        (&["inspect", "--help"], "usage: onceflight inspect"),
        (&["evict", "-h"], "usage: onceflight inspect"),
        (&["purge", "--help"], "usage: onceflight inspect"),
    ] {
        let output = run(asked);
        assert_eq!(output.status.code(), Some(0), "{asked:?}");
        assert!(output.stdout.starts_with(said.as_bytes()), "{asked:?}");
    }
}
