//! What a leader passes on: a response read to its end, or why there is none.

use std::io::{self, Cursor, Read};

use ureq::http::Response;
use ureq::http::response::Parts;
use ureq::{Body, Timeout};

/// What everybody has who waited.
pub(super) enum Outcome {
    Response {
        /// Its extensions too: the URI that it came from is one.
        parts: Parts,
        mime: Option<String>,
        charset: Option<String>,
        body: Vec<u8>,
    },
    Failure(Failure),
}

/// An error, as it can be given more than once.
pub(super) enum Failure {
    Status(u16),
    Timeout(Timeout),
    Io(io::ErrorKind, String),
    HostNotFound,
    ConnectionFailed,
    TooManyRedirects,
    Other(String),
}

/// What came back, as far as it can be passed on.
pub(super) enum Taken {
    Whole(Outcome),
    /// The leader has the error itself, the others what can be told of it.
    Failed(Outcome, ureq::Error),
    /// Only the leader has it, whole: what was read of it, and then the rest.
    TooLong(Response<Body>),
}

pub(super) fn take(answer: Result<Response<Body>, ureq::Error>, longest: usize) -> Taken {
    let response = match answer {
        Ok(response) => response,
        Err(error) => return failed(error),
    };
    let (parts, body) = response.into_parts();
    if body.content_length().is_some_and(|len| len > longest as u64) {
        return Taken::TooLong(Response::from_parts(parts, body));
    }
    let mime = body.mime_type().map(str::to_owned);
    // Text has been decoded once it is read here, if it is at all: it mustn't be decoded again.
    let is_text = mime.as_deref().is_some_and(|mime| mime.starts_with("text/"));
    let charset = body.charset().filter(|_| !is_text).map(str::to_owned);
    let mut reader = body.into_reader();
    let mut body = Vec::new();
    if let Err(error) =
        reader.by_ref().take((longest as u64).saturating_add(1)).read_to_end(&mut body)
    {
        return failed(ureq::Error::from(error));
    }
    if body.len() > longest {
        let whole = of_kind(mime, charset).reader(Cursor::new(body).chain(reader));
        return Taken::TooLong(Response::from_parts(parts, whole));
    }
    Taken::Whole(Outcome::Response { parts, mime, charset, body })
}

fn failed(error: ureq::Error) -> Taken {
    let failure = match &error {
        ureq::Error::StatusCode(status) => Failure::Status(*status),
        ureq::Error::Timeout(which) => Failure::Timeout(*which),
        ureq::Error::Io(error) => Failure::Io(error.kind(), error.to_string()),
        // It can't be made again; as this it is as passing as it was.
        ureq::Error::Protocol(error) => Failure::Io(io::ErrorKind::InvalidData, error.to_string()),
        ureq::Error::HostNotFound => Failure::HostNotFound,
        ureq::Error::ConnectionFailed => Failure::ConnectionFailed,
        ureq::Error::TooManyRedirects => Failure::TooManyRedirects,
        other => Failure::Other(other.to_string()),
    };
    Taken::Failed(Outcome::Failure(failure), error)
}

/// What the reader has done to the bytes (decompression, decoding of text) is done.
fn of_kind(mime: Option<String>, charset: Option<String>) -> ureq::BodyBuilder {
    let mut body = Body::builder();
    if let Some(mime) = mime {
        body = body.mime_type(mime);
    }
    if let Some(charset) = charset {
        body = body.charset(charset);
    }
    body
}

impl Outcome {
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Response { parts, .. } => parts.status.is_server_error(),
            Self::Failure(_) => true,
        }
    }

    /// Whether a later request may have it. Failures and refusals pass, and some responses say that they
    /// may not.
    pub fn may_stay(&self) -> bool {
        let Self::Response { parts, .. } = self else { return false };
        let refused = matches!(parts.status.as_u16(), 401 | 403 | 408 | 409 | 425 | 429);
        let says = |line: &[u8]| {
            line.split(|&byte| byte == b',')
                .any(|it| it.trim_ascii().eq_ignore_ascii_case(b"no-store"))
        };
        let mut lines = parts.headers.get_all("cache-control").iter();
        !self.is_failure() && !refused && !lines.any(|line| says(line.as_bytes()))
    }

    /// In bytes, roughly.
    pub fn len(&self) -> usize {
        match self {
            Self::Response { parts, body, .. } => {
                let headers = parts.headers.iter();
                body.len() + headers.map(|(name, it)| name.as_str().len() + it.len()).sum::<usize>()
            }
            Self::Failure(_) => 0,
        }
    }

    /// One more of the same.
    pub fn give(&self) -> Result<Response<Body>, ureq::Error> {
        match self {
            Self::Response { parts, mime, charset, body } => {
                let body = of_kind(mime.clone(), charset.clone()).data(body.clone());
                Ok(Response::from_parts(parts.clone(), body))
            }
            Self::Failure(failure) => Err(failure.give()),
        }
    }
}

impl Failure {
    fn give(&self) -> ureq::Error {
        match self {
            Self::Status(status) => ureq::Error::StatusCode(*status),
            Self::Timeout(which) => ureq::Error::Timeout(*which),
            Self::Io(kind, text) => ureq::Error::Io(io::Error::new(*kind, text.clone())),
            Self::HostNotFound => ureq::Error::HostNotFound,
            Self::ConnectionFailed => ureq::Error::ConnectionFailed,
            Self::TooManyRedirects => ureq::Error::TooManyRedirects,
            Self::Other(text) => ureq::Error::Other(text.clone().into()),
        }
    }
}
