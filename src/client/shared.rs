//! What a leader passes on: a response read to its end, or why there is none.

use std::io::{self, Cursor, Read};

use ureq::http::{HeaderMap, Response, StatusCode, Version};
use ureq::{Body, Timeout};

/// What everybody has who waited.
pub(super) enum Outcome {
    Response {
        status: StatusCode,
        version: Version,
        headers: HeaderMap,
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
    let mime = body.mime_type().map(str::to_owned);
    let charset = body.charset().map(str::to_owned);
    let mut reader = body.into_reader();
    let mut body = Vec::new();
    if let Err(error) = reader.by_ref().take(longest as u64 + 1).read_to_end(&mut body) {
        return failed(ureq::Error::from(error));
    }
    if body.len() > longest {
        let whole = of_kind(mime, charset).reader(Cursor::new(body).chain(reader));
        return Taken::TooLong(Response::from_parts(parts, whole));
    }
    let (status, version, headers) = (parts.status, parts.version, parts.headers);
    Taken::Whole(Outcome::Response { status, version, headers, mime, charset, body })
}

fn failed(error: ureq::Error) -> Taken {
    let failure = match &error {
        ureq::Error::StatusCode(status) => Failure::Status(*status),
        ureq::Error::Timeout(which) => Failure::Timeout(*which),
        ureq::Error::Io(error) => Failure::Io(error.kind(), error.to_string()),
        ureq::Error::HostNotFound => Failure::HostNotFound,
        ureq::Error::ConnectionFailed => Failure::ConnectionFailed,
        ureq::Error::TooManyRedirects => Failure::TooManyRedirects,
        other => Failure::Other(other.to_string()),
    };
    Taken::Failed(Outcome::Failure(failure), error)
}

/// What the reader has done to the bytes (decompression) is done; what it needs to make text of them isn't.
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
            Self::Response { status, .. } => status.is_server_error(),
            Self::Failure(_) => true,
        }
    }

    /// Whether a later request may have it. Failures pass, and some responses say that they may not.
    pub fn may_stay(&self) -> bool {
        let Self::Response { headers, .. } = self else { return false };
        let lines = headers.get_all("cache-control").iter().filter_map(|line| line.to_str().ok());
        !self.is_failure()
            && !lines.flat_map(|line| line.split(',')).any(|it| it.trim() == "no-store")
    }

    /// In bytes, roughly.
    pub fn len(&self) -> usize {
        match self {
            Self::Response { headers, body, .. } => {
                body.len()
                    + headers.iter().map(|(name, it)| name.as_str().len() + it.len()).sum::<usize>()
            }
            Self::Failure(_) => 0,
        }
    }

    /// One more of the same.
    pub fn give(&self) -> Result<Response<Body>, ureq::Error> {
        match self {
            Self::Response { status, version, headers, mime, charset, body } => {
                let body = of_kind(mime.clone(), charset.clone()).data(body.clone());
                let mut response = Response::new(body);
                *response.status_mut() = *status;
                *response.version_mut() = *version;
                response.headers_mut().clone_from(headers);
                Ok(response)
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
