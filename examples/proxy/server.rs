//! An HTTP/1.1 server without an async runtime: hyper over blocking sockets, a thread a connection.
//!
//! hyper asks for its input through a trait whose methods may answer "not yet". [`Blocking`] never
//! does, it blocks; so each connection runs from beginning to end on a thread of its own, and a
//! handler may block as long as it likes. Framing, keep-alive, HEAD, chunks, `100-continue` and the
//! refusal of malformed requests are hyper's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use parking_lot::{Condvar, Mutex};

/// A response's body: whole, or streamed.
pub type Content = UnsyncBoxBody<Bytes, io::Error>;

/// Connections served at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// A client that sends nothing, or takes nothing, for this long is disconnected.
const IDLE: Duration = Duration::from_secs(60);

/// Accepts until it is told to stop. Dropping it changes nothing.
pub struct Server {
    address: SocketAddr,
    connections: Arc<Connections>,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Serves `handler` on a thread a connection; bodies over `max_body` are answered with 413.
    pub fn start<H>(listener: TcpListener, max_body: usize, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Bytes>) -> Response<Content> + Send + Sync + 'static,
    {
        let address = listener.local_addr()?;
        let connections = Arc::new(Connections::default());
        let acceptor = thread::spawn({
            let connections = Arc::clone(&connections);
            move || accept(&listener, max_body, &connections, &Arc::new(handler))
        });
        Ok(Self { address, connections, acceptor })
    }

    /// Where it listens; the port is the real one when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener. What is in flight goes on; [`Draining::wait`] sees it to its end.
    pub fn stop_accepting(self) -> Draining {
        self.connections.state.lock().stopping = true;
        self.connections.changed.notify_all();
        // The acceptor blocks in `accept`; a connection wakes it, and it finds that it has to stop.
        let _ = TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(5));
        let _ = self.acceptor.join();
        Draining(self.connections)
    }
}

/// A server that accepts no more, while its last requests are answered.
pub struct Draining(Arc<Connections>);

impl Draining {
    /// Closes idle connections, and returns when the others have been answered and closed.
    pub fn wait(self) {
        let mut state = self.0.state.lock();
        for stream in state.open.values() {
            // An idle connection reads the end of its input and closes. A busy one doesn't read
            // before it has answered.
            let _ = stream.shutdown(Shutdown::Read);
        }
        while !state.open.is_empty() {
            self.0.changed.wait(&mut state);
        }
    }
}

fn accept<H>(listener: &TcpListener, max_body: usize, open: &Arc<Connections>, handler: &Arc<H>)
where
    H: Fn(Request<Bytes>) -> Response<Content> + Send + Sync + 'static,
{
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => Arc::new(stream),
            Err(error) => {
                eprintln!("accept: {error}");
                // Out of file descriptors, most likely, and nothing tells when there is one again.
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let Some(place) = Connections::enter(open, &stream) else { return };
        let handler = Arc::clone(handler);
        let thread = thread::Builder::new().name("connection".into());
        if let Err(error) = thread.spawn(move || converse(&stream, max_body, &place, &*handler)) {
            eprintln!("no thread for a connection: {error}");
        }
    }
}

/// One connection, from its first request to its end.
fn converse<H>(stream: &Arc<TcpStream>, max_body: usize, place: &Place, handler: &H)
where
    H: Fn(Request<Bytes>) -> Response<Content>,
{
    let limits = [stream.set_read_timeout(Some(IDLE)), stream.set_write_timeout(Some(IDLE))];
    if limits.iter().any(Result::is_err) || stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(async |request| {
        let mut response = answer(request, max_body, handler).await;
        if place.connections.state.lock().stopping {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    // Without half_close hyper would read on while a request is in flight, to notice that the
    // client has left; here that would block the handler's own thread.
    let socket = Blocking(Arc::clone(stream));
    let connection = http1::Builder::new().half_close(true).serve_connection(socket, service);
    // An error ends this connection and says nothing about the server: a client left in the middle
    // of a message, was silent for too long, or sent what isn't HTTP (hyper has answered that 400).
    let _ = pollster::block_on(connection);
    linger(stream);
}

/// Reads what a client still sends, within bounds. To close on unread input is to reset the
/// connection, and a reset can overtake the response (413 to a client in the middle of its body).
fn linger(stream: &TcpStream) {
    let said = stream.shutdown(Shutdown::Write);
    if said.and(stream.set_read_timeout(Some(Duration::from_secs(1)))).is_ok() {
        let _ = io::copy(&mut stream.take(8 << 20), &mut io::sink());
    }
}

async fn answer<H>(request: Request<Incoming>, max_body: usize, handler: &H) -> Response<Content>
where
    H: Fn(Request<Bytes>) -> Response<Content>,
{
    let (head, body) = request.into_parts();
    let too_long = || {
        text(StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {max_body} bytes of body"))
    };
    // A length that is told beforehand is refused before a byte of it is asked for.
    if body.size_hint().lower() > max_body as u64 {
        return too_long();
    }
    match Limited::new(body, max_body).collect().await {
        Ok(body) => handler(Request::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => too_long(),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("the request's body: {error}")),
    }
}

/// A body that is all there.
pub fn whole(bytes: impl Into<Bytes>) -> Content {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A response of one line of text.
pub fn text(status: StatusCode, line: impl Into<String>) -> Response<Content> {
    let mut response = Response::new(whole(line.into() + "\n"));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert("content-type", plain);
    response
}

/// The connections that are open, so that stopping can close the idle ones and wait for the rest.
#[derive(Default)]
struct Connections {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    next: u64,
    open: HashMap<u64, Arc<TcpStream>>,
}

impl Connections {
    /// Waits until there is room. None: the server is stopping.
    fn enter(this: &Arc<Self>, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut state = this.state.lock();
        while !state.stopping && state.open.len() >= MAX_CONNECTIONS {
            this.changed.wait(&mut state);
        }
        if state.stopping {
            return None;
        }
        state.next += 1;
        let id = state.next;
        state.open.insert(id, Arc::clone(stream));
        Some(Place { id, connections: Arc::clone(this) })
    }
}

/// One open connection; dropping it, by a panic too, gives its room back.
struct Place {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.state.lock().open.remove(&self.id);
        self.connections.changed.notify_all();
    }
}

/// A socket for hyper whose every call finishes.
struct Blocking(Arc<TcpStream>);

impl hyper::rt::Read for Blocking {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = [0; 16 * 1024];
        let room = buffer.len().min(into.remaining());
        let read = retried(|| (&*self.0).read(&mut buffer[..room]))?;
        into.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Blocking {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(retried(|| (&*self.0).write(bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}

/// A signal that interrupts a call isn't the end of it.
fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
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
