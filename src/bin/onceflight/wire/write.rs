//! Heads and bodies on their way out.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::socket::Socket;

/// A body as long as this goes out with its head, in one piece.
const SMALL: usize = 32 << 10;

/// What is read at once of one that streams.
const PIECE: usize = 64 << 10;

/// A response's body.
pub enum Content {
    /// All there, and shared with whoever else gets it.
    Whole(Arc<Vec<u8>>),
    /// As it comes; its length, if that is known.
    Stream(Box<dyn Read>, Option<u64>),
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Arc::new(bytes))
    }
}

/// A response of one line of text.
pub fn text(status: StatusCode, line: impl Into<String>) -> Response<Vec<u8>> {
    let mut response = Response::new((line.into() + "\n").into_bytes());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The bytes of a head.
pub fn head(first_line: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(64 + 48 * headers.len());
    head.extend_from_slice(first_line.as_bytes());
    for (name, value) in headers {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
    }
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// A first line for that status.
pub fn status_line(status: StatusCode) -> String {
    format!("HTTP/1.1 {} {}", status.as_str(), status.canonical_reason().unwrap_or_default())
}

/// Writes a message: in one piece, if its body is small.
pub fn send(socket: &Socket, head: &[u8], body: &[u8]) -> io::Result<()> {
    if body.len() <= SMALL {
        return socket.write(&[head, body].concat());
    }
    socket.write(head)?;
    socket.write(body)
}

/// Who asked, as far as the response's form depends on it.
pub struct Asker {
    pub method: Method,
    pub version: Version,
    pub keep_alive: bool,
}

/// Writes a response, whose headers are end-to-end ones. Answers whether the connection can go on.
pub fn respond(socket: &Socket, asker: &Asker, response: Response<Content>) -> io::Result<bool> {
    let (parts, content) = response.into_parts();
    let (status, mut headers) = (parts.status, parts.headers);
    let bodiless = asker.method == Method::HEAD
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let len = match &content {
        Content::Whole(bytes) => Some(bytes.len() as u64),
        Content::Stream(_, len) => *len,
    };
    let chunked = !bodiless && len.is_none() && asker.version == Version::HTTP_11;
    let delimited = bodiless || len.is_some() || chunked;
    let keep_alive = asker.keep_alive && delimited;

    // Without a body the length that it tells stands: that of what a GET would be given.
    if !bodiless || status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    match len {
        _ if chunked => _ = headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        Some(len) if !bodiless => _ = headers.insert(CONTENT_LENGTH, len.into()),
        _ => {}
    }
    match (keep_alive, asker.version) {
        (false, _) => _ = headers.insert(CONNECTION, HeaderValue::from_static("close")),
        (true, Version::HTTP_10) => {
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        (true, _) => {}
    }
    if !headers.contains_key(DATE)
        && let Ok(now) = httpdate::fmt_http_date(SystemTime::now()).parse()
    {
        headers.insert(DATE, now);
    }
    let out = head(&status_line(status), &headers);
    match content {
        Content::Whole(bytes) if !bodiless => send(socket, &out, &bytes)?,
        Content::Stream(mut body, len) if !bodiless => {
            stream(out, &mut *body, len, chunked, socket)?;
        }
        _ => socket.write(&out)?,
    }
    Ok(keep_alive)
}

/// Each piece as it comes: nobody waits for more than what is there.
fn stream(
    mut out: Vec<u8>,
    body: &mut dyn Read,
    len: Option<u64>,
    chunked: bool,
    socket: &Socket,
) -> io::Result<()> {
    // Where no length is told the body may be long in coming, and its head is news.
    if len.is_none() {
        socket.write(&out)?;
        out.clear();
    }
    let mut piece =
        vec![0; len.map_or(PIECE, |len| PIECE.min(usize::try_from(len).unwrap_or(PIECE)))];
    loop {
        let read = body.read(&mut piece)?;
        if chunked {
            write!(out, "{read:x}\r\n")?;
        }
        out.extend_from_slice(&piece[..read]);
        if chunked {
            out.extend_from_slice(b"\r\n");
        }
        socket.write(&out)?;
        out.clear();
        if read == 0 {
            return Ok(());
        }
    }
}
