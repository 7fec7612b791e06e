//! An HTTP/1.1 server with a thread a connection: a handler may block as long as it likes.
//!
//! | a connection is | until |
//! |-|-|
//! | idle | a byte comes; stopping closes it |
//! | busy | its request is answered; stopping waits for it, and it is the last one |
//!
//! A request that comes too slowly is answered 408, one that is too long 413 or 431, one that isn't HTTP
//! 400; the connection is closed then, since where the next request begins can't be told. One that there is no
//! memory for comes to the handler without its body, and its connection is closed, too.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, EXPECT};
use http::{Method, Request, Response, StatusCode, Version};

use crate::budget::Budget;
use crate::connections::{Connections, Place};
use crate::wire::{self, Asker, Content, Fault, Interim, Socket, text};

/// What a server allows.
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Of a request, in bytes.
    pub body: usize,
    /// For the bodies of all requests.
    pub memory: Arc<Budget>,
    /// A client may be silent for so long, and may take as long for a head, and ten times that for a body.
    pub patience: Duration,
}

/// A request, whole: its body, or none if there was no room for it.
pub type Arrived = Request<Option<Vec<u8>>>;

/// Accepts until it is told to stop. Dropping it changes nothing.
pub struct Server {
    address: SocketAddr,
    connections: Arc<Connections>,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Serves `handler` on a thread a connection.
    pub fn start<H>(listener: TcpListener, limits: Limits, handler: H) -> io::Result<Self>
    where
        H: Fn(Arrived, &Interim<'_>) -> Response<Content> + Send + Sync + 'static,
    {
        let address = listener.local_addr()?;
        let connections = Arc::new(Connections::new(limits.connections));
        let acceptor = thread::Builder::new().name("accept".into()).spawn({
            let connections = Arc::clone(&connections);
            move || accept(&listener, &Arc::new(limits), &connections, &Arc::new(handler))
        })?;
        Ok(Self { address, connections, acceptor })
    }

    /// Where it listens; the port is the real one when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its connections, to be counted.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Closes the listener and the idle connections; busy ones go on.
    pub fn stop_accepting(self) -> Arc<Connections> {
        self.connections.stop();
        // The acceptor blocks in `accept`; a connection wakes it, and it finds that it has to stop.
        let _ = TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(5));
        let _ = self.acceptor.join();
        self.connections
    }
}

fn accept<H>(
    listener: &TcpListener,
    limits: &Arc<Limits>,
    open: &Arc<Connections>,
    handler: &Arc<H>,
) where
    H: Fn(Arrived, &Interim<'_>) -> Response<Content> + Send + Sync + 'static,
{
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => Arc::new(stream),
            Err(error) => {
                log::warn!("no connection can be accepted: {error}");
                // Out of file descriptors, most likely, and nothing tells when there is one again.
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let Some(place) = Connections::enter(open, &stream) else { return };
        let (limits, handler) = (Arc::clone(limits), Arc::clone(handler));
        let thread = thread::Builder::new().name("connection".into());
        if let Err(error) = thread.spawn(move || converse(stream, &limits, &place, &*handler)) {
            log::warn!("no thread for a connection: {error}");
        }
    }
}

/// One connection, from its first request to its end. An error ends it, and says nothing of the server: a
/// client left in the midst of a message, or was silent for too long.
fn converse<H>(stream: Arc<TcpStream>, limits: &Limits, place: &Place, handler: &H)
where
    H: Fn(Arrived, &Interim<'_>) -> Response<Content>,
{
    let Ok(mut socket) = Socket::new(stream, limits.patience) else { return };
    loop {
        socket.set_deadline(None);
        if socket.ahead().is_empty() && !matches!(socket.fill(), Ok(1..)) {
            return;
        }
        place.set_busy(true);
        let answered = match receive(&mut socket, limits) {
            Ok((request, mut asker)) => {
                let interim = Interim::to(&socket, asker.version);
                let response = handler(request, &interim);
                asker.keep_alive &= !place.is_stopping();
                interim.finish().and_then(|()| wire::respond(&socket, &asker, response))
            }
            Err(fault) => refuse(&socket, &fault),
        };
        match answered {
            Ok(true) => place.set_busy(false),
            Ok(false) => return socket.linger(),
            Err(_) => return,
        }
    }
}

/// One request, all of it.
fn receive(socket: &mut Socket, limits: &Limits) -> Result<(Arrived, Asker), Fault> {
    socket.set_deadline(Some(Instant::now() + limits.patience));
    let wire::Received { head, mut body, keep_alive } = wire::request(socket)?;
    let mut asker = Asker { method: head.method().clone(), version: head.version(), keep_alive };
    socket.set_deadline(Some(Instant::now() + limits.patience * 10));
    let (mut bytes, mut room) = (Vec::new(), limits.memory.room());
    // Who asks before sending is told to go on, unless it is told beforehand that it is too much.
    let fits = body.announced().is_none_or(|len| len <= limits.body as u64);
    let asks = head
        .headers()
        .get(EXPECT)
        .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if asks && fits && !body.is_done() && head.version() == Version::HTTP_11 {
        socket.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let fits = body.read_whole(socket, limits.body, &mut bytes, &mut room)?;
    asker.keep_alive &= fits;
    let mut request = head.map(|()| fits.then_some(bytes));
    if fits {
        room.stay_with(request.extensions_mut());
    }
    for framing in [EXPECT, CONTENT_LENGTH] {
        request.headers_mut().remove(framing);
    }
    Ok((request, asker))
}

/// Tells what is wrong with a request, and that the connection ends.
fn refuse(socket: &Socket, fault: &Fault) -> io::Result<bool> {
    let (status, line) = match fault {
        Fault::Slow => (StatusCode::REQUEST_TIMEOUT, "the request came too slowly".into()),
        Fault::TooLong => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too long".into())
        }
        Fault::BodyTooLong(most) => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {most} bytes of body"))
        }
        Fault::Malformed(why) => (StatusCode::BAD_REQUEST, format!("not a request: {why}")),
        // Who says no more may listen still.
        Fault::Closed => (StatusCode::BAD_REQUEST, "the request ended too early".into()),
        Fault::Io(_) => return Err(io::ErrorKind::BrokenPipe.into()),
    };
    let asker = Asker { method: Method::GET, version: Version::HTTP_11, keep_alive: false };
    wire::respond(socket, &asker, text(status, line).map(Content::from))
}

/// Where to connect to reach a listener of one's own: "every address" isn't one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
