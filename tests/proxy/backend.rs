//! Backends that are dead, slow, or say more than can be shared.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hyper::{Request, Response};
use parking_lot::Mutex;

use crate::harness::{Backend, LIMIT, Proxy, all, ask, crowd, get, read_head, scripted};
use crate::raw::Client;

#[test]
fn a_dead_backend_is_502_and_the_next_request_tries_again() {
    // Nobody listens on port 1.
    let proxy = Proxy::start(&["--backend", "http://127.0.0.1:1", "--window-ms", "600000"]);
    for _ in 0..2 {
        let reply = get(&proxy.url("/"));
        assert_eq!((reply.status, reply.role()), (502, "led"));
    }

    // This one answers half a response, then hangs up.
    let url = scripted(|_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
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
    let url = scripted(|_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = Proxy::start(&["--backend", &url, "--backend-timeout-ms", "200"]);
    assert_eq!(get(&proxy.url("/")).status, 504);
}

/// It isn't silent as long as it says that there is more to come.
#[test]
fn a_backend_that_takes_its_time_and_says_so_isnt_504() {
    let url = scripted(|_, mut stream| {
        read_head(&mut stream);
        for _ in 0..4 {
            thread::sleep(Duration::from_secs(1));
            stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let proxy = Proxy::start(&["--backend", &url, "--backend-timeout-ms", "3000"]);
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let said = Client::of(&proxy).say(request).rest();
    assert!(said.contains("HTTP/1.1 200 OK\r\n"), "{said}");
}

#[test]
fn a_response_over_the_limit_goes_whole_to_each_caller_and_is_not_shared() {
    let long = vec![b'y'; 300_000];
    let body = long.clone();
    let backend = Backend::start(move |_, _| Response::new(body.clone().into()));
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
        let (go_on, told) = mpsc::channel();
        let told = Mutex::new(told);
        let url = scripted(move |_, mut stream| {
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n\r\none ").unwrap();
            for part in ["two ", "3"] {
                told.lock().recv_timeout(LIMIT).expect("the part before has arrived");
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
    }
}

#[test]
fn every_way_to_end_a_body_is_understood() {
    for (response, body) in [
        ("content-length: 5\r\n\r\nhello", "hello"),
        (
            "transfer-encoding: chunked\r\n\r\n4;a=b\r\nhell\r\n1\r\no\r\n0\r\nx-trailer: 1\r\n\r\n",
            "hello",
        ),
        ("\r\nhello", "hello"),
        ("content-length: 0\r\n\r\n", ""),
        ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    ] {
        let url = scripted(move |_, mut stream| {
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\n{response}").unwrap();
        });
        let proxy = Proxy::start(&["--backend", &url]);
        // Both kinds: read as a whole, and passed on as it comes.
        for request in [Request::get(proxy.url("/")), Request::options(proxy.url("/"))] {
            let reply = ask(request.body("").unwrap());
            assert_eq!((reply.status, &reply.body[..]), (200, body.as_bytes()), "{response}");
        }
    }
}

#[test]
fn a_response_that_could_be_read_two_ways_is_502() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 99 What\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let url = scripted(move |_, mut stream| {
            read_head(&mut stream);
            stream.write_all(response.as_bytes()).unwrap();
        });
        let proxy = Proxy::start(&["--backend", &url]);
        assert_eq!(get(&proxy.url("/")).status, 502, "{response}");
    }
}

#[test]
fn a_response_without_a_body_tells_the_length_that_it_was_given() {
    let url = scripted(|_, mut stream| {
        for status in ["200 OK", "304 Not Modified"] {
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n").unwrap();
        }
        read_head(&mut stream);
        write!(stream, "HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n").unwrap();
    });
    let proxy = Proxy::start(&["--backend", &url]);
    let head = "HEAD / HTTP/1.1\r\nhost: x\r\n\r\n";
    let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    // All three on one connection, here and behind: the end of each is told without a body.
    let said = Client::of(&proxy).say([head, get, get].concat()).finish();
    let responses: Vec<_> = said.split_terminator("\r\n\r\n").collect();
    let [head, unchanged, empty] = responses[..] else { panic!("{said}") };
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 5"), "{said}");
    assert!(
        unchanged.starts_with("HTTP/1.1 304 ") && unchanged.contains("content-length: 5"),
        "{said}"
    );
    assert!(empty.starts_with("HTTP/1.1 204 ") && !empty.contains("content-length"), "{said}");
}

#[test]
fn a_safe_request_is_sent_again_if_its_kept_connection_was_just_closed() {
    let url = scripted(|_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        // The next one on this connection is read, and not answered.
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = stream.read(&mut [0; 4096]);
    });
    let proxy = Proxy::start(&["--backend", &url]);
    for _ in 0..4 {
        assert_eq!((get(&proxy.url("/")).status), 200);
    }
}

#[test]
fn a_kept_connection_is_used_again() {
    let (count, connections) = mpsc::channel();
    let url = scripted(move |number, mut stream| {
        count.send(number).unwrap();
        for _ in 0..3 {
            read_head(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
                .unwrap();
        }
    });
    let proxy = Proxy::start(&["--backend", &url]);
    for _ in 0..3 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    assert_eq!(connections.try_iter().collect::<Vec<_>>(), [1]);
}
