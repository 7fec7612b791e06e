//! What the proxy speaks: limits, headers of one hop, connections that go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use hyper::{Request, StatusCode};

use crate::harness::{Backend, LIMIT, Proxy, ask};
use crate::server::text;

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
    assert_eq!(got["via"], "1.1 onceflight");
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
fn curl_agrees() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &[]);
    let curls: Vec<_> = (0..8)
        .map(|_| {
            Command::new("curl")
                .args(["--silent", "--show-error", "--include", "--max-time", "60"])
                .arg(proxy.url("/orders"))
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
        assert!(said.ends_with("\r\n\r\n1: GET /orders \n"), "{said}");
    }
    assert_eq!(backend.seen(), 1);
}
