//! The head of a message, and what it says of the body's length.
//!
//! Read strictly: lines end in CR LF; a request has one length or is chunked, and one Host; anything that
//! another reader could take differently is refused.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};

use super::Fault;
use super::body::Body;
use super::socket::Socket;

/// The longest head, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// The most headers.
const MAX_HEADERS: usize = 128;

/// A head, and the body that is still to be read.
pub struct Received<H> {
    pub head: H,
    pub body: Body,
    /// Whether the sender would go on with this connection.
    pub keep_alive: bool,
}

/// Reads a request's head. The target is a path, or an http URL, whose authority is the Host then.
pub fn request(socket: &mut Socket) -> Result<Received<Request<()>>, Fault> {
    let bytes = read(socket)?;
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    complete(parsed.parse(&bytes), bytes.len())?;
    let version = version(parsed.version)?;
    let method = parsed.method.unwrap_or_default();
    let mut head = Request::new(());
    *head.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Malformed("the method"))?;
    *head.uri_mut() = parsed.path.unwrap_or_default().parse().map_err(|_| TARGET)?;
    *head.version_mut() = version;
    *head.headers_mut() = headers(parsed.headers)?;
    settle_target(&mut head)?;
    let body = of_request(version, head.headers())?;
    let keep_alive = keeps_alive(version, head.headers());
    Ok(Received { head, body, keep_alive })
}

/// Reads the head of a response to a request with that method. If its status is 1xx, another one follows.
pub fn response(socket: &mut Socket, method: &Method) -> Result<Received<Response<()>>, Fault> {
    let bytes = read(socket)?;
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut slots);
    complete(parsed.parse(&bytes), bytes.len())?;
    let version = version(parsed.version)?;
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default())
        .map_err(|_| Fault::Malformed("the status"))?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::Malformed("it switches protocols, and wasn't asked to"));
    }
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.version_mut() = version;
    *head.headers_mut() = headers(parsed.headers)?;
    let body = of_response(method, status, version, head.headers())?;
    let keep_alive = keeps_alive(version, head.headers()) && !body.ends_with_connection();
    Ok(Received { head, body, keep_alive })
}

const TARGET: Fault = Fault::Malformed("the target isn't a path or an http URL");

/// The bytes of a head, from its first line to the empty one.
fn read(socket: &mut Socket) -> Result<Vec<u8>, Fault> {
    let mut seen = 0;
    loop {
        // Empty lines before a head are passed over, as RFC 9112 has it.
        while seen == 0 && socket.ahead().starts_with(b"\r\n") {
            socket.consume(2);
        }
        if let Some(len) = end_of_head(socket.ahead(), seen) {
            if len > MAX_HEAD {
                return Err(Fault::TooLong);
            }
            let bytes = socket.ahead()[..len].to_vec();
            socket.consume(len);
            return if has_bare_newline(&bytes) {
                Err(Fault::Malformed("a line doesn't end in CR LF"))
            } else {
                Ok(bytes)
            };
        }
        seen = socket.ahead().len();
        if seen > MAX_HEAD {
            return Err(Fault::TooLong);
        }
        if socket.fill()? == 0 {
            return Err(Fault::Closed);
        }
    }
}

/// How long the head is, if all of it is there: up to two line ends in a row, of whatever kind.
/// The bytes before `seen` were looked at before.
fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let mut newlines = (from..bytes.len()).filter(|&at| bytes[at] == b'\n');
    newlines.find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn has_bare_newline(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'))
}

fn complete(parsed: httparse::Result<usize>, len: usize) -> Result<(), Fault> {
    match parsed {
        Ok(httparse::Status::Complete(used)) if used == len => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(Fault::TooLong),
        Err(httparse::Error::Version) => Err(Fault::Malformed("the version isn't HTTP/1.1")),
        _ => Err(Fault::Malformed("the head isn't HTTP")),
    }
}

fn version(minor: Option<u8>) -> Result<Version, Fault> {
    match minor {
        Some(0) => Ok(Version::HTTP_10),
        Some(1) => Ok(Version::HTTP_11),
        _ => Err(Fault::Malformed("the version isn't HTTP/1.1")),
    }
}

fn headers(parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Fault::Malformed("a header"));
        };
        headers.try_append(name, value).map_err(|_| Fault::TooLong)?;
    }
    Ok(headers)
}

/// A URL becomes a path and its Host; a path has exactly one Host beside it (none is needed in HTTP/1.0).
fn settle_target(head: &mut Request<()>) -> Result<(), Fault> {
    if head.headers().get_all(HOST).iter().count() > 1 {
        return Err(Fault::Malformed("there is more than one Host"));
    }
    if let Some(authority) = head.uri().authority() {
        let plain = head.uri().scheme_str() == Some("http") && !authority.as_str().contains('@');
        let host = HeaderValue::from_str(authority.as_str());
        let path = head.uri().path_and_query().cloned();
        let (true, Ok(host), Some(path)) = (plain, host, path) else { return Err(TARGET) };
        head.headers_mut().insert(HOST, host);
        *head.uri_mut() = Uri::from(path);
    }
    if !head.uri().path().starts_with('/') {
        return Err(TARGET);
    }
    if head.version() == Version::HTTP_11 && !head.headers().contains_key(HOST) {
        return Err(Fault::Malformed("there is no Host"));
    }
    Ok(())
}

fn of_request(version: Version, headers: &HeaderMap) -> Result<Body, Fault> {
    match (is_chunked(version, headers)?, length(headers)?) {
        (true, _) => Ok(Body::chunked()),
        (false, len) => Ok(Body::of_length(len.unwrap_or(0))),
    }
}

fn of_response(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Body, Fault> {
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    if bodiless {
        return Ok(Body::of_length(0));
    }
    match (is_chunked(version, headers)?, length(headers)?) {
        (true, _) => Ok(Body::chunked()),
        (false, Some(len)) => Ok(Body::of_length(len)),
        (false, None) => Ok(Body::to_the_end()),
    }
}

fn is_chunked(version: Version, headers: &HeaderMap) -> Result<bool, Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(false) };
    if version != Version::HTTP_11 || headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::Malformed(
            "Transfer-Encoding beside Content-Length, or before HTTP/1.1",
        ));
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::Malformed("the Transfer-Encoding isn't chunked"));
    }
    Ok(true)
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let digits = length.to_str().unwrap_or_default();
    // `parse` would take a sign, too.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(length) if plain && lengths.next().is_none() => Ok(Some(length)),
        _ => Err(Fault::Malformed("the Content-Length isn't one number")),
    }
}

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let says =
        |word| super::hop::connection_options(headers).any(|it| it.eq_ignore_ascii_case(word));
    if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") && !says("close") }
}
