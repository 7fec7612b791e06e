//! What the tests stand on: a backend that can be held, the proxy's process, and clients.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response, StatusCode};
use parking_lot::{Condvar, Mutex};

use crate::example;
use crate::server::{Content, Server, text};

/// Far more than anything here takes; whoever waits longer waits for something that won't come.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A server that counts its requests and, while it is held, answers none.
pub struct Backend {
    url: String,
    gate: Arc<Gate>,
}

struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

struct GateState {
    /// How many may pass; more are held.
    open_to: usize,
    seen: usize,
}

impl Backend {
    /// `respond` gets the number of the request, from 1, and the request.
    pub fn start<F>(respond: F) -> Self
    where
        F: Fn(usize, &Request<Bytes>) -> Response<Content> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let state = Mutex::new(GateState { open_to: usize::MAX, seen: 0 });
        let gate = Arc::new(Gate { state, changed: Condvar::new() });
        let server = Server::start(listener, 1 << 20, {
            let gate = Arc::clone(&gate);
            move |request| respond(gate.pass(), &request)
        })
        .unwrap();
        Self { url: format!("http://{}", server.address()), gate }
    }

    /// Says what it was asked; holds everybody back until it is released.
    pub fn held() -> Self {
        let backend = Self::start(|nth, request| {
            let body = String::from_utf8_lossy(request.body());
            let line = format!("{nth}: {} {} {body}", request.method(), request.uri());
            let mut response = text(StatusCode::OK, line);
            response.headers_mut().insert("x-number", nth.into());
            response
        });
        backend.hold();
        backend
    }

    /// From now on it answers nobody.
    pub fn hold(&self) {
        self.let_pass(0);
    }

    pub fn release(&self) {
        self.let_pass(usize::MAX);
    }

    /// Answers those that came first, this many since it was started.
    pub fn let_pass(&self, count: usize) {
        self.gate.state.lock().open_to = count;
        self.gate.changed.notify_all();
    }

    pub fn seen(&self) -> usize {
        self.gate.state.lock().seen
    }

    /// Returns when this many requests have been there.
    pub fn wait_for(&self, count: usize) {
        let mut state = self.gate.state.lock();
        let waited =
            self.gate.changed.wait_while_for(&mut state, |state| state.seen < count, LIMIT);
        assert!(!waited.timed_out(), "{} of {count} requests came", state.seen);
    }
}

impl Gate {
    fn pass(&self) -> usize {
        let mut state = self.state.lock();
        state.seen += 1;
        let number = state.seen;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| number > state.open_to);
        number
    }
}

/// The example's process, killed when it is dropped.
pub struct Proxy {
    child: Child,
    pub address: String,
    stderr: Receiver<String>,
}

impl Proxy {
    pub fn before(backend: &Backend, flags: &[&str]) -> Self {
        Self::start(&[&["--backend", &backend.url][..], flags].concat())
    }

    /// Without flags that say otherwise no time limit of its own comes before [`LIMIT`].
    pub fn start(flags: &[&str]) -> Self {
        let long = ["--wait-ms", "600000", "--backend-timeout-ms", "600000"];
        let mut child = command(&["--listen", "127.0.0.1:0", "--verbose"])
            .args(long)
            .args(flags)
            .spawn()
            .expect("the proxy runs");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, receiver) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|it| lines.send(it))
        });
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let address = first.strip_prefix("listening on ").expect("its first line").trim_end();
        Self { address: address.into(), child, stderr: receiver }
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// The next line that it says on stderr.
    pub fn line(&self) -> String {
        self.stderr.recv_timeout(LIMIT).expect("another line on stderr")
    }

    /// What the next so many steps were: how many lead, wait, replay, ask alone.
    pub fn steps(&self, count: usize) -> (usize, usize, usize, usize) {
        let lines: Vec<_> = (0..count).map(|_| self.line()).collect();
        let of = |step| lines.iter().filter(|line| line.starts_with(step)).count();
        (of("Leads "), of("Waits "), of("Replays "), of("Alone "))
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub fn exit(&mut self) -> ExitStatus {
        // The end of stderr is the end of the process; its channel has a time limit, `wait` hasn't.
        while self.stderr.recv_timeout(LIMIT) != Err(mpsc::RecvTimeoutError::Disconnected) {}
        self.child.wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    static PROXY: LazyLock<PathBuf> = LazyLock::new(|| example::build("proxy"));
    let mut command = Command::new(&*PROXY);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A response, all of it.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn role(&self) -> &str {
        self.header("x-onceflight")
    }
}

pub fn get(url: &str) -> Reply {
    ask(Request::get(url).body(()).unwrap())
}

/// Sends one request on a connection of its own, with no headers but the given ones and Host.
pub fn ask(request: Request<impl ureq::AsSendBody>) -> Reply {
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .timeout_global(Some(LIMIT))
        .build()
        .new_agent();
    let (head, mut body) = agent.run(request).unwrap().into_parts();
    let body = body.read_to_vec().unwrap();
    Reply { status: head.status.as_u16(), headers: head.headers, body }
}

pub fn crowd<F>(count: usize, client: F) -> Vec<JoinHandle<Reply>>
where
    F: Fn(usize) -> Reply + Clone + Send + 'static,
{
    let one = |number| {
        let client = client.clone();
        thread::spawn(move || client(number))
    };
    (0..count).map(one).collect()
}

pub fn all(crowd: Vec<JoinHandle<Reply>>) -> Vec<Reply> {
    crowd.into_iter().map(|client| client.join().unwrap()).collect()
}

pub fn roles(replies: &[Reply], role: &str) -> usize {
    replies.iter().filter(|reply| reply.role() == role).count()
}
