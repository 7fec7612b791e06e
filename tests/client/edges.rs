//! What a middleware must leave as it is.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use ureq::ResponseExt;

#[test]
fn the_uri_of_a_response() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it);
    server.answer(answer(200, "", b"x"));
    let response = agent.get(server.url("/a")).call().unwrap();
    assert_eq!(response.get_uri().path(), "/a");
}

#[test]
fn no_limit_sends_the_whole_request() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it.max_body(usize::MAX, 1000));
    server.answer(answer(200, "", b"x"));
    agent.post(server.url("/a")).send("all of it").unwrap();
    assert_eq!(server.asked(1)[0].body, b"all of it");
}

#[test]
fn no_limit_gives_the_whole_response() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it.max_body(1000, usize::MAX));
    server.answer(answer(200, "", b"all of it"));
    assert_eq!(text(agent.get(server.url("/a")).call()).1, "all of it");
}

#[test]
fn credentials_are_never_ignored() {
    let server = Server::start();
    let (agent, ..) =
        agent(|it| it.ttl(LONG).ignore_header(HeaderName::from_static("authorization")));
    server.answer(answer(200, "", b"ada's"));
    server.answer(answer(200, "", b"bob's"));
    let get = |who: &str| text(agent.get(server.url("/a")).header("authorization", who).call()).1;
    assert_eq!(get("ada"), "ada's");
    assert_eq!(get("bob"), "bob's");
}

#[test]
fn no_store_in_any_case() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it.ttl(LONG));
    for body in ["1", "2"] {
        server.answer(answer(200, "cache-control: No-Store\r\n", body.as_bytes()));
        assert_eq!(text(agent.get(server.url("/")).call()).1, body);
    }
}

#[test]
fn a_long_response_keeps_its_length_and_can_be_sent_on() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it.max_body(1000, 10));
    server.answer(answer(200, "", b"eleven bytes"));
    let response = agent.get(server.url("/")).call().unwrap();
    let len = response.body().content_length();
    server.answer(answer(200, "", b"ok"));
    agent.post(server.url("/on")).extension(Wish::off()).send(response).unwrap();
    let asked = server.asked(2);
    assert_eq!(
        (asked[1].body.as_slice(), len),
        (&b"eleven bytes"[..], Some(12)),
        "{}",
        asked[1].head
    );
}

#[test]
fn text_is_decoded_once() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it);
    let latin = "content-type: text/plain; charset=iso-8859-1\r\n";
    server.answer(answer(200, latin, b"caf\xe9"));
    let plain = text(agent.get(server.url("/")).extension(Wish::off()).call()).1;
    server.answer(answer(200, latin, b"caf\xe9"));
    assert_eq!(text(agent.get(server.url("/")).call()).1, plain);
}

/// As one that fetches a token by the same agent, or asks again by itself.
#[test]
fn a_middleware_that_asks_the_same_again() {
    let server = Server::start();
    let coalesce = Coalesce::builder().wait(Duration::from_secs(5)).build();
    let slot: Arc<Mutex<Option<Agent>>> = Arc::default();
    let again = slot.clone();
    let config = Agent::config_builder().middleware(coalesce).middleware(
        move |request: ureq::http::Request<ureq::SendBody>,
              next: ureq::middleware::MiddlewareNext| {
            let inner = again.lock().unwrap().take();
            if let Some(agent) = inner {
                return agent.get(request.uri().clone()).call();
            }
            next.handle(request)
        },
    );
    let agent: Agent = config.build().into();
    *slot.lock().unwrap() = Some(agent.clone());
    server.answer(answer(200, "", b"1"));
    let had = agent.get(server.url("/")).call();
    let timed_out = matches!(&had, Err(ureq::Error::Other(error))
        if error.downcast_ref::<onceflight::Error>().is_some_and(|it| it.kind() == ErrorKind::Timeout));
    assert!(!timed_out, "it waited for itself: {had:?}");
}

#[test]
fn a_refusal_that_passes_isnt_kept() {
    let server = Server::start();
    let (agent, ..) = agent(|it| it.ttl(LONG));
    server.answer(answer(429, "retry-after: 1\r\n", b""));
    server.answer(answer(201, "", b"paid"));
    let paid = retry(3, |key, _| {
        let response = agent.post(server.url("/pay")).extension(key.clone()).send("1")?;
        match response.status().as_u16() {
            429 => Err(ureq::Error::StatusCode(429)),
            _ => Ok(response),
        }
    });
    assert_eq!(text(paid), (201, "paid".to_owned()));
}

#[test]
fn followers_retry_what_leaders_do() {
    let server = Server::start();
    let (agent, _, coalesce) = agent(|it| it);
    let call = || agent.get(server.url("/")).call().unwrap_err();
    let errors = crowd(&server, &coalesce, 3, call, b"nonsense\r\n\r\n".to_vec());
    let passing =
        |error: &ureq::Error| matches!(error, ureq::Error::Protocol(_) | ureq::Error::Io(_));
    assert!(errors.iter().all(passing), "{errors:?}");
}

#[test]
fn who_comes_while_the_body_does_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let events = Events::default();
    let told = events.clone();
    let coalesce = Coalesce::builder()
        .wait(PATIENCE)
        .on_event(move |event| told.lock().unwrap().push(*event))
        .build();
    let (sender, head) = mpsc::channel();
    let config = Agent::config_builder().middleware(coalesce.clone()).middleware(
        move |request: ureq::http::Request<ureq::SendBody>,
              next: ureq::middleware::MiddlewareNext| {
            let answer = next.handle(request);
            sender.send(()).unwrap();
            answer
        },
    );
    let agent: Agent = config.build().into();
    thread::scope(|scope| {
        let leader = scope.spawn(|| text(agent.get(&url).call()));
        let (mut connection, _) = listener.accept().unwrap();
        assert!(connection.read(&mut [0; 1000]).unwrap() > 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").unwrap();
        head.recv().unwrap();
        let follower = scope.spawn(|| text(agent.get(&url).call()));
        while coalesce.stats().waiting < 1 {
            thread::yield_now();
        }
        connection.write_all(b"ok").unwrap();
        assert_eq!(leader.join().unwrap(), follower.join().unwrap());
    });
    let events = events.lock().unwrap();
    assert_eq!(events.iter().find(|it| it.kind == EventKind::Led).unwrap().waiters, 1);
}
