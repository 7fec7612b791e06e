//! Asking the backend: one request, one response, hop-by-hop headers left out both ways.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::response;
use hyper::{Request, Response, StatusCode};
use ureq::config::AutoHeaderValue;
use ureq::{Agent, BodyReader};

use crate::server::{Content, text};

/// A response as the table keeps it.
pub type Answer = Response<Bytes>;

/// What came of asking.
pub enum Asked {
    /// All of the response, or one of ours that says why there is none.
    Whole(Answer),
    /// More than may be kept in memory, or a stream of events: it goes to one caller, as it comes.
    Stream(Response<Content>),
}

/// The server behind the proxy.
pub struct Backend {
    base: String,
    agent: Agent,
    max_body: usize,
}

impl Backend {
    /// `base` is `http://HOST[:PORT][/PREFIX]`. The backend may keep silent for `timeout`.
    pub fn new(base: &str, max_body: usize, timeout: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .proxy(None)
            .user_agent(AutoHeaderValue::None)
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            // A connection kept from an earlier request can be one that the backend is just closing,
            // and a live backend would look like a dead one.
            .max_idle_connections(0)
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .build()
            .new_agent();
        Self { base: base.trim_end_matches('/').into(), agent, max_body }
    }

    /// Sends the request and reads the response, up to the limit.
    pub fn ask(&self, request: &Request<Bytes>) -> Asked {
        match self.send(request).and_then(|response| self.receive(response)) {
            Ok(asked) => asked,
            Err(error) => Asked::Whole(failure(&error)),
        }
    }

    fn send(&self, request: &Request<Bytes>) -> Result<Response<ureq::Body>, ureq::Error> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let sent = request.headers();
        let mut headers = end_to_end(sent);
        // These two were for us: hyper has acted on them, and ureq says its own length.
        headers.remove(EXPECT);
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let mut copy = Request::builder()
            .method(request.method())
            .uri(format!("{}{target}", self.base))
            .body(())?;
        *copy.headers_mut() = headers;
        if sent.contains_key(CONTENT_LENGTH) || sent.contains_key(TRANSFER_ENCODING) {
            self.agent.run(copy.map(|()| request.body().as_ref()))
        } else {
            self.agent.run(copy)
        }
    }

    fn receive(&self, response: Response<ureq::Body>) -> Result<Asked, ureq::Error> {
        let (head, body) = response.into_parts();
        // What is told beforehand decides before anything is read, so that nobody waits for that.
        let announced = body.content_length().unwrap_or(0);
        let endless = body.mime_type() == Some("text/event-stream");
        let mut reader = body.into_with_config().limit(u64::MAX).reader();
        let mut start = Vec::new();
        if announced <= self.max_body as u64 && !endless {
            // One byte more than is allowed, to know whether that was all.
            reader.by_ref().take(self.max_body as u64 + 1).read_to_end(&mut start)?;
            if start.len() <= self.max_body {
                return Ok(Asked::Whole(response_of(&head, start.into())));
            }
        }
        let stream = Stream { start: start.into(), rest: reader, flushed: false };
        Ok(Asked::Stream(response_of(&head, stream.boxed_unsync())))
    }
}

/// Status and end-to-end headers; the version is each hop's own.
fn response_of<B>(head: &response::Parts, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = end_to_end(&head.headers);
    response
}

/// Without what concerns one connection only.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|names| names.split(',')) {
        kept.remove(name.trim());
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        kept.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"] {
        kept.remove(HeaderName::from_static(name));
    }
    kept
}

fn failure(error: &ureq::Error) -> Answer {
    let slow = match error {
        ureq::Error::Timeout(_) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::TimedOut,
        _ => false,
    };
    let (status, what) = if slow {
        (StatusCode::GATEWAY_TIMEOUT, "the backend is too slow")
    } else {
        (StatusCode::BAD_GATEWAY, "the backend gave no response")
    };
    text(status, "").map(|_| format!("{what}: {error}\n").into())
}

/// A body on its way through: what has been read, then what the backend still sends.
struct Stream {
    start: Bytes,
    rest: BodyReader<'static>,
    /// hyper has been given the occasion to send what it has.
    flushed: bool,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.start)))));
        }
        // The read below blocks, as everything on a connection's thread does. What was read before
        // has to be on its way by then, and hyper flushes when there is nothing more for now.
        self.flushed = !self.flushed;
        if self.flushed {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut chunk = vec![0; 64 * 1024];
        Poll::Ready(match self.rest.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                Some(Ok(Frame::data(chunk.into())))
            }
            Err(error) => Some(Err(error)),
        })
    }
}
