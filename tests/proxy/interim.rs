//! Interim responses (1xx): who gets them, when, and that they have an end.

use std::io::{Read, Write};
use std::iter;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;

use crate::harness::{LIMIT, Proxy, read_head, scripted};
use crate::raw::Client;

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A proxy whose backend answers with these bytes.
fn saying(answer: &'static str) -> Proxy {
    let url = scripted(move |_, mut stream| {
        while !read_head(&mut stream).is_empty() {
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    Proxy::start(&["--backend", &url])
}

/// A proxy whose backend sends a hint, and the response when it is told to.
fn hinting() -> (Proxy, mpsc::Sender<()>) {
    let (go_on, told) = mpsc::channel();
    let told = Mutex::new(told);
    let url = scripted(move |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(HINT.as_bytes()).unwrap();
        told.lock().recv_timeout(LIMIT).expect("the hint has arrived");
        stream.write_all(OK.as_bytes()).unwrap();
    });
    (Proxy::start(&["--backend", &url]), go_on)
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[test]
fn a_hint_is_there_before_the_response() {
    let keyed = "POST / HTTP/1.1\r\nhost: x\r\nidempotency-key: \"1\"\r\nconnection: close\r\n\r\n";
    for request in [request("GET /"), request("OPTIONS /"), request("POST /"), keyed.into()] {
        let (proxy, go_on) = hinting();
        let mut client = Client::of(&proxy);
        assert_eq!(client.say(&request).hear(HINT.len()), HINT, "{request}");
        go_on.send(()).unwrap();
        let said = client.rest();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nok"), "{said}");
        assert!(!said.contains("link"), "{said}");
    }
}

#[test]
fn it_is_for_the_client_whose_request_reached_the_backend() {
    let (proxy, go_on) = hinting();
    let mut first = Client::of(&proxy);
    assert_eq!(first.say(request("GET /")).hear(HINT.len()), HINT);
    let mut joined = Client::of(&proxy);
    joined.say(request("GET /"));
    assert_eq!(proxy.steps(2), (1, 1, 0, 0));
    go_on.send(()).unwrap();
    let said = joined.rest();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("x-onceflight: shared"), "{said}");

    // Nor is it kept with the response.
    let proxy = saying(concat!(
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    ));
    let keyed = "POST / HTTP/1.1\r\nhost: x\r\nidempotency-key: \"1\"\r\nconnection: close\r\n\r\n";
    for status in ["103 ", "200 "] {
        let said = Client::of(&proxy).say(keyed).rest();
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
    }
}

#[test]
fn each_of_several_is_passed_on_without_what_is_of_one_hop() {
    let proxy = saying(
        "HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 102 Processing\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 1\r\nx-end: 1\r\n\r\n\
         HTTP/1.1 199 Whatever\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n\
         HTTP/1.1 204 No Content\r\n\r\n",
    );
    let said = Client::of(&proxy).say(request("GET /")).rest();
    let interim = "HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 102 Processing\r\nx-end: 1\r\n\r\n\
        HTTP/1.1 199 \r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n\
        HTTP/1.1 204 No Content\r\n";
    assert!(said.starts_with(interim), "{said}");
    // The connection goes on behind them, on both sides.
    let twice = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n".to_owned() + &request("GET /b");
    let said = Client::of(&proxy).say(twice).rest();
    assert_eq!(said.matches(interim).count(), 2, "{said}");
}

#[test]
fn one_that_comes_in_single_bytes_is_one() {
    let url = scripted(|_, mut stream| {
        stream.set_nodelay(true).unwrap();
        read_head(&mut stream);
        for byte in [HINT, OK].concat().bytes() {
            stream.write_all(&[byte]).unwrap();
        }
    });
    let proxy = Proxy::start(&["--backend", &url]);
    let said = Client::of(&proxy).say(request("GET /")).rest();
    assert!(said.starts_with(&format!("{HINT}HTTP/1.1 200 OK\r\n")), "{said}");
}

#[test]
fn http_1_0_has_none() {
    let proxy = saying(concat!(
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    ));
    let said = Client::of(&proxy).say("GET / HTTP/1.0\r\n\r\n").rest();
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
}

#[test]
fn a_row_without_end_is_502() {
    let (ended, end) = mpsc::channel();
    let ended = Arc::new(Mutex::new(ended));
    let url = scripted(move |_, mut stream: TcpStream| {
        read_head(&mut stream);
        // Until the proxy hangs up.
        let hints = iter::repeat(HINT).map(|hint| stream.write_all(hint.as_bytes()));
        ended.lock().send(hints.take_while(Result::is_ok).count()).unwrap();
    });
    let proxy = Proxy::start(&["--backend", &url]);
    for line in ["GET /", "POST /"] {
        let mut client = Client::of(&proxy);
        client.say(request(line));
        assert_eq!(client.hear(64 * HINT.len()), HINT.repeat(64), "{line}");
        assert_eq!(client.hear(12), "HTTP/1.1 502", "{line}");
        assert!(end.recv_timeout(LIMIT).expect("the proxy hangs up") >= 64);
    }
}

#[test]
fn who_asks_before_sending_is_answered_by_the_proxy_and_the_backend_never_is() {
    let (heads, got) = mpsc::channel();
    let url = scripted(move |_, mut stream| {
        heads.send(read_head(&mut stream)).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        // A backend that goes by what it wasn't asked.
        let refusal =
            "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(refusal.as_bytes()).unwrap();
    });
    let proxy = Proxy::start(&["--backend", &url]);
    for expected in ["100-continue", "100-Continue", "something-else"] {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nexpect: {expected}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        );
        let mut client = Client::of(&proxy);
        client.say(head);
        if expected != "something-else" {
            let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
            assert_eq!(client.hear(go_on.len()), go_on);
        }
        let said = client.say("ab").rest();
        assert!(said.starts_with("HTTP/1.1 417 Expectation Failed\r\n"), "{said}");
        let head = got.recv_timeout(LIMIT).unwrap();
        assert!(!head.to_lowercase().contains("expect"), "{head}");
    }
}
