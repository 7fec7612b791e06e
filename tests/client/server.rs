//! A server that answers when it is told to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Long enough for a busy machine, and an end to a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Asked {
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    /// How many answers may go out; what they are.
    answers: Vec<Vec<u8>>,
}

pub struct Server {
    pub address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// A response with a body.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let its = shared.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let its = its.clone();
                thread::spawn(move || serve(&connection.unwrap(), &its));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Lets one more request go, with this answer. An empty one closes the connection.
    pub fn answer(&self, answer: Vec<u8>) {
        self.shared.0.lock().unwrap().answers.insert(0, answer);
        self.shared.1.notify_all();
    }

    /// Waits until so many have arrived; all of them.
    pub fn asked(&self, count: usize) -> Vec<Asked> {
        let (state, changed) = &*self.shared;
        let state = state.lock().unwrap();
        let (state, waited) =
            changed.wait_timeout_while(state, PATIENCE, |it| it.asked.len() < count).unwrap();
        assert!(!waited.timed_out(), "{} of {count} requests arrived", state.asked.len());
        state.asked.clone()
    }
}

fn serve(mut connection: &TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let mut asked = Asked { head, body: Vec::new() };
        let len = asked.header("content-length").map_or(0, |len| len.parse().unwrap());
        asked.body.resize(len, 0);
        if reader.read_exact(&mut asked.body).is_err() {
            return;
        }
        let mut state = state.lock().unwrap();
        state.asked.push(asked);
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| state.answers.is_empty()).unwrap();
        let answer = state.answers.pop().unwrap();
        drop(state);
        if answer.is_empty() || connection.write_all(&answer).is_err() {
            return;
        }
    }
}
