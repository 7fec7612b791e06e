//! What the tests stand on: a backend that can be held, the proxy's process, and clients.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response, StatusCode};
use parking_lot::{Condvar, Mutex};

use crate::server::{serve, text};

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
        F: Fn(usize, &Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    {
        let state = Mutex::new(GateState { open_to: usize::MAX, seen: 0 });
        let gate = Arc::new(Gate { state, changed: Condvar::new() });
        let address = serve({
            let gate = Arc::clone(&gate);
            move |request| respond(gate.pass(), &request)
        });
        Self { url: format!("http://{address}"), gate }
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

/// A backend that says what it is told to: each connection is given to `converse`, on a thread of its own,
/// with its number, from 1. Its URL.
pub fn scripted(converse: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let converse = Arc::new(converse);
    thread::spawn(move || {
        for (number, stream) in (1..).zip(listener.incoming()) {
            let converse = Arc::clone(&converse);
            thread::spawn(move || converse(number, stream.unwrap()));
        }
    });
    url
}

/// Reads the head of a request, which is all of one without a body. Empty: the proxy hung up.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
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

/// The proxy's process, killed when it is dropped.
pub struct Proxy {
    child: Child,
    pub address: String,
    admin: Option<String>,
    stderr: Receiver<String>,
}

impl Proxy {
    pub fn before(backend: &Backend, flags: &[&str]) -> Self {
        Self::with(None, backend, flags)
    }

    /// With a variable of its environment.
    pub fn with(variable: Option<(&str, &str)>, backend: &Backend, flags: &[&str]) -> Self {
        Self::spawn(variable, &[&["--backend", &backend.url][..], flags].concat())
    }

    pub fn start(flags: &[&str]) -> Self {
        Self::spawn(None, flags)
    }

    /// Without flags that say otherwise no time limit of its own comes before [`LIMIT`].
    fn spawn(variable: Option<(&str, &str)>, flags: &[&str]) -> Self {
        let long = ["--wait-ms", "600000", "--backend-timeout-ms", "600000"];
        let mut child = command(&["proxy", "--listen", "127.0.0.1:0", "--verbose"])
            .args(long)
            .args(flags)
            .envs(variable)
            .spawn()
            .expect("the proxy runs");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, receiver) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|it| lines.send(it))
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut told = |what: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line.strip_prefix(what).expect(what).trim_end().to_owned()
        };
        let address = told("listening on ");
        let admin = flags.contains(&"--admin").then(|| told("admin on "));
        Self { address, admin, child, stderr: receiver }
    }

    pub fn admin_url(&self, target: &str) -> String {
        format!("http://{}{target}", self.admin.as_ref().unwrap())
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Returns once it has said that on stderr.
    pub fn wait_for_line(&self, line: &str) {
        while self.stderr.recv_timeout(LIMIT).expect(line) != line {}
    }

    /// What the next so many steps were: how many lead, wait, replay, ask alone.
    pub fn steps(&self, count: usize) -> (usize, usize, usize, usize) {
        let lines: Vec<_> = (0..count).map(|_| self.step()).collect();
        let of = |step| lines.iter().filter(|line| line.starts_with(step)).count();
        (of("Leads "), of("Waits "), of("Replays "), of("Alone "))
    }

    /// Returns when so many requests with a key have asked the store.
    pub fn wait_for_asks(&self, count: usize) {
        for _ in 0..count {
            while !self.step().starts_with("Asks ") {}
        }
    }

    /// The next step of whichever request.
    pub fn step(&self) -> String {
        loop {
            let line = self.stderr.recv_timeout(LIMIT).expect("another step on stderr");
            if let Some(step) = line.strip_prefix("DEBUG: ") {
                return step.into();
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn exit(&mut self) -> ExitStatus {
        self.end().0
    }

    /// Returns when it has ended: how, and what it said of late.
    pub fn end(&mut self) -> (ExitStatus, Vec<String>) {
        let mut said = Vec::new();
        // The end of stderr is the end of the process; its channel has a time limit, `wait` hasn't.
        loop {
            match self.stderr.recv_timeout(LIMIT) {
                Ok(line) => said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return (self.child.wait().unwrap(), said);
                }
                Err(error) => panic!("it doesn't end: {error}"),
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own, gone at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("onceflight-proxy-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A store in it.
    pub fn store(&self) -> String {
        format!("sqlite:{}", self.file())
    }

    pub fn file(&self) -> String {
        self.0.join("keys.db").to_str().unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceflight"));
    command.env_remove("RUST_LOG").env_remove("ONCEFLIGHT_SECRET");
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
        .max_redirects(0)
        .max_redirects_will_error(false)
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
