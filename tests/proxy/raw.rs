//! What a client says, byte for byte, and what it is answered: framing, targets, connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use hyper::StatusCode;

use crate::harness::{Backend, LIMIT, Proxy};
use crate::server::text;

/// A client that says what it is told to.
pub struct Client(pub TcpStream);

impl Client {
    pub fn of(proxy: &Proxy) -> Self {
        Self::at(&proxy.address)
    }

    pub fn at(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(stream)
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // What is refused at its beginning may be closed before its end.
        let _ = self.0.write_all(bytes.as_ref());
        self
    }

    /// Says that nothing more comes, and hears all to the end.
    pub fn finish(&mut self) -> String {
        let _ = self.0.shutdown(Shutdown::Write);
        self.rest()
    }

    /// Everything until the proxy closes.
    pub fn rest(&mut self) -> String {
        let mut said = Vec::new();
        self.0.read_to_end(&mut said).expect("the proxy closes");
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The next response, which has a length.
    pub fn response(&mut self) -> String {
        let mut said = String::new();
        while !said.ends_with("\r\n\r\n") {
            said += &self.hear(1);
        }
        let length = said.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.expect("a length").parse().unwrap();
        said + &self.hear(length)
    }

    /// The next so many bytes.
    pub fn hear(&mut self, len: usize) -> String {
        let mut said = vec![0; len];
        self.0.read_exact(&mut said).unwrap();
        String::from_utf8(said).unwrap()
    }
}

/// A backend that tells what it got.
fn telling() -> Backend {
    Backend::start(|_, request| {
        let body = String::from_utf8_lossy(request.body());
        let host = request.headers()["host"].to_str().unwrap();
        text(StatusCode::OK, format!("{} {} of {host}: {body}", request.method(), request.uri()))
    })
}

#[test]
fn framing_that_can_be_read_two_ways_is_refused_and_the_connection_closed() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    for (what, head, body) in [
        ("a length and chunks", "content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
        ("chunks and a length", "transfer-encoding: chunked\r\ncontent-length: 5", "0\r\n\r\n"),
        ("two lengths", "content-length: 5\r\ncontent-length: 6", "hello"),
        ("the same length twice", "content-length: 5\r\ncontent-length: 5", "hello"),
        ("a list of lengths", "content-length: 5, 5", "hello"),
        ("a signed length", "content-length: +5", "hello"),
        ("a negative length", "content-length: -1", "hello"),
        ("a hexadecimal length", "content-length: 0x5", "hello"),
        ("an empty length", "content-length:", "hello"),
        ("a length beyond all numbers", "content-length: 99999999999999999999", "hello"),
        ("another coding", "transfer-encoding: gzip", "hello"),
        ("a coding before chunks", "transfer-encoding: gzip, chunked", "0\r\n\r\n"),
        ("chunks twice", "transfer-encoding: chunked, chunked", "0\r\n\r\n"),
        ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: identity", "0\r\n\r\n"),
        ("a disguised coding", "transfer-encoding: \x0bchunked", "0\r\n\r\n"),
        ("a space before the colon", "content-length : 5", "hello"),
        ("a folded header", "x-a: b\r\n c: d\r\ncontent-length: 5", "hello"),
        ("a bare line feed", "x-a: b\ncontent-length: 5", "hello"),
        ("a bare carriage return", "x-a: b\rcontent-length: 5", "hello"),
        ("NUL in a value", "x-a: b\0c", ""),
        ("a second host", "host: y", ""),
        ("no size", "transfer-encoding: chunked", "\r\nhello\r\n0\r\n\r\n"),
        ("a size of something else", "transfer-encoding: chunked", "g\r\nhello\r\n0\r\n\r\n"),
        ("a signed size", "transfer-encoding: chunked", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a prefixed size", "transfer-encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n"),
        (
            "a size that overflows",
            "transfer-encoding: chunked",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        ("a size with a bare line feed", "transfer-encoding: chunked", "5\nhello\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "transfer-encoding: chunked", "4\r\nhello\r\n0\r\n\r\n"),
        ("a chunk shorter than its size", "transfer-encoding: chunked", "6\r\nhello\r\n0\r\n\r\n"),
        ("something behind the size", "transfer-encoding: chunked", "5 5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}{smuggled}");
        let said = Client::of(&proxy).say(request).finish();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{what}: {said}");
        assert_eq!(said.matches("\r\ndate: ").count(), 1, "{what}: {said}");
        assert!(said.contains("connection: close\r\n"), "{what}: {said}");
    }
    assert_eq!(backend.seen(), 0);
}

#[test]
fn what_is_no_request_is_400() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    for request in [
        "nonsense\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/1.1\nhost: x\n\n",
        "GET x HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET http://user@x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET https://x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        "CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n: no name\r\n\r\n",
        "GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let said = Client::of(&proxy).say(request).finish();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request}: {said}");
    }
    // Who says no more in the midst of a request may listen still; who says nothing at all isn't told of it.
    for cut in [
        "GET / HTTP/1.1\r\nho",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nfour",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfour",
    ] {
        let said = Client::of(&proxy).say(cut).finish();
        assert!(said.starts_with("HTTP/1.1 400 "), "{cut}: {said}");
    }
    assert_eq!(Client::of(&proxy).finish(), "");
    assert_eq!(backend.seen(), 0);
}

#[test]
fn heads_have_a_longest_one() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: y\r\n".repeat(200));
    let endless = "GET / HTTP/1.1\r\nx-endless: ".to_owned() + &"y".repeat(90_000);
    for request in [long, many, endless] {
        let said = Client::of(&proxy).say(request).finish();
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    }
    let line = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5;".to_owned();
    let said = Client::of(&proxy).say(line + &"y".repeat(90_000)).finish();
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    assert_eq!(backend.seen(), 0);
}

#[test]
fn a_slow_client_is_408_and_a_silent_one_is_closed() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &["--client-timeout-ms", "200"]);
    assert_eq!(Client::of(&proxy).rest(), "");
    for slow in ["GET / HTT", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nfour"] {
        let said = Client::of(&proxy).say(slow).rest();
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    }
    // Never silent for long, and never done: what counts is the head as a whole.
    let mut drip = Client::of(&proxy);
    let mut stream = drip.0.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        let drops = std::iter::repeat_n(b"x", usize::MAX);
        drops.map_while(|drop| stream.write_all(drop).ok()).for_each(|()| {
            std::thread::sleep(std::time::Duration::from_millis(20));
        });
    });
    assert_eq!(drip.hear(12), "HTTP/1.1 408");
    drop(drip);
    dripping.join().unwrap();
    assert_eq!(backend.seen(), 0);
}

#[test]
fn chunks_are_put_together_and_trailers_dropped() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let mut client = Client::of(&proxy);
    let head = "POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\n\r\n";
    // The connection goes on behind the last chunk.
    let twice = "5\r\nhello\r\n1;ext=\"a\" ;b\r\n,\r\n006\r\n world\r\n00\r\nx-trailer: 1\r\n\r\n";
    client.say(format!("{head}{twice}{head}0\r\n\r\nGET /b HTTP/1.0\r\n\r\n"));
    let said = client.rest();
    assert!(said.contains("\r\n\r\nPOST /a of x: hello, world\n"), "{said}");
    assert!(said.contains("\r\n\r\nPOST /a of x: \n"), "{said}");
    assert!(said.contains(" of 127.0.0.1:") && said.ends_with(": \n"), "{said}");
}

#[test]
fn a_request_in_single_bytes_is_one() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let mut client = Client::of(&proxy);
    let request = "\r\nPOST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    for byte in request.bytes() {
        client.say([byte]);
    }
    assert!(client.rest().ends_with("\r\n\r\nPOST / of x: abc\n"));
}

#[test]
fn a_url_as_target_says_the_host() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let request = "GET http://y.example:81/a?b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let said = Client::of(&proxy).say(request).rest();
    assert!(said.ends_with("\r\n\r\nGET /a?b of y.example:81: \n"), "{said}");
}

#[test]
fn who_asks_before_sending_is_told_to_go_on() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let mut client = Client::of(&proxy);
    client.say("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n");
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(client.hear(go_on.len()), go_on);
    assert!(client.say("ab").rest().ends_with("\r\n\r\nPOST / of x: ab\n"));
}

#[test]
fn http_1_0_is_spoken_and_goes_on_if_asked_to() {
    let backend = telling();
    let proxy = Proxy::before(&backend, &[]);
    let once = "GET /once HTTP/1.0\r\nhost: x\r\n\r\n";
    let said = Client::of(&proxy).say(once).rest();
    assert!(
        said.contains("connection: close\r\n") && said.ends_with("GET /once of x: \n"),
        "{said}"
    );
    let again = "GET /again HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n";
    let said = Client::of(&proxy).say([again, once].concat()).rest();
    assert!(
        said.contains("connection: keep-alive\r\n") && said.ends_with("GET /once of x: \n"),
        "{said}"
    );
}
