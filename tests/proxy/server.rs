//! The tests' backend speaks HTTP by another implementation than the proxy: hyper, over blocking sockets,
//! a thread a connection. It is never stopped.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

/// Serves `handler`, and says where.
pub fn serve<H>(handler: H) -> SocketAddr
where
    H: Fn(Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handler = Arc::new(handler);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let handler = Arc::clone(&handler);
            thread::spawn(move || converse(stream.unwrap(), &*handler));
        }
    });
    address
}

fn converse(stream: TcpStream, handler: &impl Fn(Request<Bytes>) -> Response<Bytes>) {
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("the proxy sends whole requests").to_bytes();
        Ok::<_, Infallible>(handler(Request::from_parts(head, body)).map(Full::new))
    });
    // Without half_close hyper would read on while a request is in flight, and that blocks here.
    let connection =
        http1::Builder::new().half_close(true).serve_connection(Blocking(stream), service);
    // That a connection ends is nothing to a test.
    let _ = pollster::block_on(connection);
}

/// A response of one line of text.
pub fn text(status: StatusCode, line: impl Into<String>) -> Response<Bytes> {
    let mut response = Response::new((line.into() + "\n").into());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", "text/plain; charset=utf-8".parse().unwrap());
    response
}

/// A socket for hyper whose every call finishes.
struct Blocking(TcpStream);

impl hyper::rt::Read for Blocking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = [0; 16 * 1024];
        let room = buffer.len().min(into.remaining());
        let read = self.0.read(&mut buffer[..room])?;
        into.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Blocking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}
