//! The server behind the proxy: one request, one response.
//!
//! Connections are kept, and used again. One that the backend is just closing looks alive until it is
//! written to; a request that then gets no response may have been executed or not. A safe one is sent once
//! more, on a new connection. Any other isn't, and to make that rare it only takes a connection that was
//! in use a moment ago.

use std::fmt;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, VIA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use parking_lot::Mutex;

use crate::budget::Room;
use crate::wire::{self, Body, Fault, Socket, text};

/// Connections kept for later.
const KEPT: usize = 256;

/// Servers close what is idle after some seconds, the quickest after two.
const FRESH: Duration = Duration::from_secs(1);

/// Interim responses ahead of one response. Each says that there is more to come, and there has to be an end.
const MOST_INTERIM: usize = 64;

/// Where requests go.
pub struct Backend {
    /// HOST:PORT.
    address: String,
    /// What `Host` says, if the client doesn't.
    host: HeaderValue,
    /// Comes before each target; doesn't end in a slash.
    prefix: String,
    patience: Duration,
    idle: Arc<Idle>,
}

/// Connections without a request, the one that was used last at the end.
type Idle = Mutex<Vec<(Instant, Socket)>>;

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    /// It was never connected: nothing was executed.
    Unreachable(io::Error),
    /// It was silent for too long.
    Slow,
    /// It closed too early, or what it said isn't HTTP.
    Broken(Fault),
}

/// A response whose body is still to be read, and the connection that it comes on.
pub struct Incoming {
    socket: Option<Socket>,
    body: Body,
    keep_alive: bool,
    idle: Arc<Idle>,
}

impl Backend {
    /// `url` is `http://HOST[:PORT][/PREFIX]`. The backend may be silent for `patience`.
    ///
    /// # Errors
    /// The URL is none of these.
    pub fn new(url: &str, patience: Duration) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let (Some("http"), Some(authority)) = (uri.scheme_str(), authority) else {
            return Err("it has to be http://HOST[:PORT][/PREFIX]".into());
        };
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err("it can't have a query, or a user".into());
        }
        Ok(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            host: HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?,
            prefix: uri.path().trim_end_matches('/').into(),
            patience,
            idle: Arc::default(),
        })
    }

    /// What `Host` says to it, if the client doesn't.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Sends the request, and reads the head of the response. The `interim` ones are told as they come.
    pub fn ask(
        &self,
        request: &Request<Vec<u8>>,
        interim: &dyn Fn(Response<()>),
    ) -> Result<Response<Incoming>, Failure> {
        let head = self.head(request);
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if let Some(socket) = self.kept(safe) {
            match self.exchange(socket, &head, request, interim) {
                Err(Failure::Broken(Fault::Closed | Fault::Io(_))) if safe => {}
                answer => return answer,
            }
        }
        let socket = self.connect().map_err(Failure::Unreachable)?;
        self.exchange(socket, &head, request, interim)
    }

    fn head(&self, request: &Request<Vec<u8>>) -> Vec<u8> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let line = format!("{} {}{target} HTTP/1.1", request.method(), self.prefix);
        let mut headers = request.headers().clone();
        headers.append(VIA, HeaderValue::from_static("1.1 onceflight"));
        // Without a length, an empty body of these is taken for a mistake by many servers.
        let expected = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
        if expected || !request.body().is_empty() {
            headers.insert(CONTENT_LENGTH, request.body().len().into());
        }
        wire::head(&line, &headers)
    }

    /// The connection that was used last, if it is still there.
    fn kept(&self, safe: bool) -> Option<Socket> {
        loop {
            let fits = |&mut (since, _): &mut (Instant, Socket)| safe || since.elapsed() < FRESH;
            let (_, socket) = self.idle.lock().pop_if(fits)?;
            if socket.is_quiet() {
                return Some(socket);
            }
        }
    }

    fn connect(&self) -> io::Result<Socket> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.patience) {
                Ok(stream) => return Socket::new(Arc::new(stream), self.patience),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn exchange(
        &self,
        mut socket: Socket,
        head: &[u8],
        request: &Request<Vec<u8>>,
        interim: &dyn Fn(Response<()>),
    ) -> Result<Response<Incoming>, Failure> {
        // A server that refuses a request may say so and close before it has read all of it.
        let sent = wire::send(&socket, head, request.body());
        let received = self.final_response(&mut socket, request.method(), interim);
        let received = match (received, sent) {
            (Ok(received), _) => received,
            (Err(_), Err(error)) => return Err(Fault::from(error).into()),
            (Err(fault), Ok(())) => return Err(fault.into()),
        };
        socket.set_deadline(None);
        let wire::Received { mut head, body, keep_alive } = received;
        wire::end_to_end(head.headers_mut());
        let idle = Arc::clone(&self.idle);
        let mut incoming = Incoming { socket: Some(socket), body, keep_alive, idle };
        incoming.give_back();
        Ok(head.map(|()| incoming))
    }

    /// The response that no other one follows. Those before it are told as they come; whoever sends one isn't
    /// silent.
    fn final_response(
        &self,
        socket: &mut Socket,
        method: &Method,
        interim: &dyn Fn(Response<()>),
    ) -> Result<wire::Received<Response<()>>, Fault> {
        let mut told = 0;
        loop {
            socket.set_deadline(Some(Instant::now() + self.patience));
            let received = wire::response(socket, method)?;
            if !received.head.status().is_informational() {
                return Ok(received);
            }
            if told == MOST_INTERIM {
                return Err(Fault::Malformed("its interim responses have no end"));
            }
            told += 1;
            interim(received.head);
        }
    }
}

impl Incoming {
    /// How long the body is, if the backend has said so.
    pub fn announced(&self) -> Option<u64> {
        self.body.announced()
    }

    /// All of the body, if that isn't more than `most`, and there is room; else what was read so far.
    pub fn read_whole(&mut self, most: usize, room: &mut Room) -> Result<(Vec<u8>, bool), Failure> {
        let mut bytes = Vec::new();
        let Some(socket) = &mut self.socket else { return Ok((bytes, true)) };
        let whole = match self.body.read_whole(socket, most, &mut bytes, room) {
            Ok(whole) => whole,
            Err(Fault::BodyTooLong(_)) => false,
            Err(fault) => return Err(fault.into()),
        };
        self.give_back();
        Ok((bytes, whole))
    }

    /// A connection whose response is over can carry another request.
    fn give_back(&mut self) {
        if !self.body.is_done() {
            return;
        }
        if let Some(socket) = self.socket.take().filter(|_| self.keep_alive) {
            let mut idle = self.idle.lock();
            if idle.len() < KEPT {
                idle.push((Instant::now(), socket));
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(socket) = &mut self.socket else { return Ok(0) };
        let read = self.body.read(socket, into).map_err(io::Error::other)?;
        self.give_back();
        Ok(read)
    }
}

impl Failure {
    /// What the client is told.
    pub fn response(&self) -> Response<Vec<u8>> {
        let status = match self {
            Self::Unreachable(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        };
        text(status, self.to_string())
    }

    /// Whether the request can't have been executed.
    pub fn is_before_anything(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Slow => Self::Slow,
            fault => Self::Broken(fault),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "the backend can't be reached: {error}"),
            Self::Slow => f.write_str("the backend is too slow"),
            Self::Broken(fault) => write!(f, "the backend gave no response: {fault}"),
        }
    }
}

/// A stream of events has no end, and so can't be waited for.
pub fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}
