//! An HTTP/1.1 server in a page: hyper over blocking sockets, a thread a connection.
//!
//! hyper asks for input through a trait whose methods may answer "not yet". [`Blocking`] never does, it
//! blocks; so each connection runs from beginning to end on a thread of its own, and a handler may block
//! as long as it likes. A handler that panics takes its connection with it and nothing else.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 32 << 20;

/// A client that sends nothing, or takes nothing, for this long is disconnected.
const IDLE: Duration = Duration::from_secs(60);

/// Serves for as long as the listener does.
pub fn serve<H>(listener: &TcpListener, handler: H) -> io::Result<()>
where
    H: Fn(Request<Bytes>) -> Response<Vec<u8>> + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The client has left already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let handler = Arc::clone(&handler);
        thread::spawn(move || converse(&stream, &*handler));
    }
}

/// One connection, from its first request to its end. An error says nothing about the server: a client
/// left, was silent for too long, or sent what isn't HTTP, which hyper has answered with 400.
fn converse(stream: &TcpStream, handler: &impl Fn(Request<Bytes>) -> Response<Vec<u8>>) {
    let set = [stream.set_read_timeout(Some(IDLE)), stream.set_write_timeout(Some(IDLE))];
    if set.iter().any(Result::is_err) || stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(async |request| Ok::<_, Infallible>(answer(request, handler).await));
    // Without half_close hyper would read on while a request is in flight, to notice that the client
    // has left; here that would block the handler's own thread.
    let connection =
        http1::Builder::new().half_close(true).serve_connection(Blocking(stream), service);
    let _ = pollster::block_on(connection);
    linger(stream);
}

/// Reads what a client still sends, within bounds. To close on unread input is to reset the connection,
/// and a reset can overtake the response.
fn linger(stream: &TcpStream) {
    let said = stream.shutdown(Shutdown::Write);
    if said.and(stream.set_read_timeout(Some(Duration::from_secs(1)))).is_ok() {
        let _ = io::copy(&mut stream.take(MAX_BODY as u64), &mut io::sink());
    }
}

async fn answer(
    request: Request<Incoming>,
    handler: &impl Fn(Request<Bytes>) -> Response<Vec<u8>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let response = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => handler(Request::from_parts(head, body.to_bytes())),
        Err(error) => {
            let mut response = Response::new(format!("the request's body: {error}\n").into_bytes());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    };
    response.map(|body| Full::new(body.into()))
}

/// A socket for hyper whose every call finishes.
struct Blocking<'s>(&'s TcpStream);

impl hyper::rt::Read for Blocking<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = [0; 16 * 1024];
        let room = buffer.len().min(into.remaining());
        let read = retried(|| self.0.read(&mut buffer[..room]))?;
        into.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Blocking<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(retried(|| self.0.write(bytes)))
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
