//! Redis, byte by byte: servers that say what no test could make a real one say at the right moment.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::store::{self, Heard, RecordKey};

use crate::harness::*;

/// A server that answers each command by `answer`, until that says no more, on each connection.
fn server(answer: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("its address"));
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let mut out = stream.try_clone().expect("a file descriptor");
                let mut commands = BufReader::new(stream);
                while let Some(command) = command(&mut commands) {
                    let fine = match command.as_str() {
                        "INFO" => out.write_all(b"$19\r\nredis_version:7.0.0\r\n").is_ok(),
                        "PING" => out.write_all(b"+PONG\r\n").is_ok(),
                        other => answer(other, &mut out),
                    };
                    if !fine {
                        break;
                    }
                }
            });
        }
    });
    Client(store::open(&url).expect("a store"))
}

/// The first word of the next command.
fn command(from: &mut impl BufRead) -> Option<String> {
    let number = |from: &mut dyn BufRead| -> Option<usize> {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        line.get(1..)?.trim().parse().ok()
    };
    let mut words = Vec::new();
    for _ in 0..number(from)? {
        let mut word = vec![0; number(from)? + 2];
        from.read_exact(&mut word).ok()?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    words.into_iter().next()
}

fn key() -> RecordKey {
    RecordKey::new("s", "k").expect("short")
}

/// A time-out for each read would begin anew with each byte.
#[test]
fn an_answer_that_trickles_ends_at_the_deadline() {
    let store = server(|_, out| {
        let mut fine = out.write_all(b"$40000\r\n").is_ok();
        while fine {
            thread::sleep(Duration::from_millis(1));
            fine = out.write_all(b"x").is_ok();
        }
        false
    });
    let deadline = Instant::now() + SHORT;
    failed(store.0.read(&key(), deadline));
    assert!(deadline.elapsed() < PATIENCE / 2, "{:?} late", deadline.elapsed());
}

#[test]
fn what_does_not_speak_as_redis_does_is_an_error() {
    let garbage: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"_7",
        b"$3\r\nab",
        b":1\r\n",
        b"+OK\r\n",
        b"*1\r\n*0\r\n",
    ];
    for garbage in garbage {
        let store = server(move |_, out| out.write_all(garbage).is_err());
        failed(store.0.read(&key(), soon()));
        failed(store.0.claim(&key(), &claim(), soon()));
    }
}

/// After a failover its old connections are to one that only reads, and its address is another's.
#[test]
fn a_server_that_became_a_replica_is_looked_for_anew() {
    let first = OnceLock::new();
    let store = server(move |_, out| {
        let peer = out.peer_addr().expect("its address");
        let readonly = "-READONLY You can't write against a read only replica.\r\n";
        let answer = if *first.get_or_init(|| peer) == peer { readonly } else { "$-1\r\n" };
        out.write_all(answer.as_bytes()).is_ok()
    });
    assert!(store.read(&key()).is_none());
}

/// Nothing of it is lost or taken for something else.
#[test]
fn news_may_come_in_pieces() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let id = key().id().to_string();
    let store = server(move |_, out| {
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
        let message = format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$32\r\n{id}\r\n");
        let mut fine = out.write_all(subscribed).is_ok();
        for piece in message.repeat(2).as_bytes().chunks(17) {
            fine &=
                wait.lock().expect("the only one").recv().is_ok() && out.write_all(piece).is_ok();
        }
        fine
    });
    let mut news = store.listen();
    let mut heard = Vec::new();
    let mut pieces = 0;
    while heard.len() < 2 {
        let before = heard.len();
        news.wait(Instant::now() + Duration::from_millis(1), &mut |it| heard.push(it))
            .expect("news");
        if heard.len() == before && go_on.send(()).is_ok() {
            pieces += 1;
        }
    }
    assert_eq!(heard, [Heard::Record(key().id()); 2]);
    assert!(pieces > 2);
}
