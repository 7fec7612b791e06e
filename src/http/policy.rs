//! What can be chosen, and what is if nobody does.

use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri};

use super::status;
use crate::fingerprint::Fingerprint;

/// Whether a request has to carry a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// A key is ignored.
    Off,
    /// A key is honoured.
    Optional,
    /// Without a key: 400.
    Required,
}

/// What a response says of the request's effects, and so what becomes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// It was executed: the response is kept, and replayed.
    Response,
    /// It wasn't executed: the key is free again.
    NothingHappened,
    /// It may have been executed: the next attempt takes over, or is held, by the table's policy.
    MayHaveHappened,
}

impl Requirement {
    /// Required of POST and PATCH, honoured on PUT and DELETE, off for the rest.
    pub fn usual(method: &Method) -> Self {
        match *method {
            Method::POST | Method::PATCH => Self::Required,
            Method::PUT | Method::DELETE => Self::Optional,
            _ => Self::Off,
        }
    }
}

impl Keep {
    /// By the status alone; the table is at the top of the [module](super).
    pub fn usual(status: StatusCode) -> Self {
        match status.as_u16() {
            401 | 403 | 408 | 425 | 429 | 503 => Self::NothingHappened,
            500.. => Self::MayHaveHappened,
            _ => Self::Response,
        }
    }
}

type Require = dyn Fn(&Method, &Uri) -> Requirement + Send + Sync;
type Principal = dyn Fn(&HeaderMap) -> Vec<u8> + Send + Sync;
type Payload = dyn Fn(&Uri, &HeaderMap, &[u8]) -> Vec<u8> + Send + Sync;
type ByStatus = dyn Fn(StatusCode) -> Keep + Send + Sync;

pub(super) struct Rules {
    pub require: Box<Require>,
    pub principal: Box<Principal>,
    pub payload: Box<Payload>,
    pub keep: Box<ByStatus>,
    pub strip: Vec<HeaderName>,
    pub lenient: bool,
    pub wait: Duration,
    pub retry_after: Duration,
    pub max_request: usize,
    pub secret: [u8; 16],
    /// What a success is told as at first, and when it is told again.
    pub successes: Option<(StatusCode, StatusCode)>,
    pub problems: String,
    pub docs: Option<String>,
}

/// The header that tells who calls.
pub(super) fn authorization(headers: &HeaderMap) -> Vec<u8> {
    headers
        .get(http::header::AUTHORIZATION)
        .map(|value| value.as_bytes().to_vec())
        .unwrap_or_default()
}

/// The body alone; the query is always part of it.
pub(super) fn body(_: &Uri, _: &HeaderMap, body: &[u8]) -> Vec<u8> {
    body.to_vec()
}

impl Rules {
    /// Whose key it is. Hashed: credentials don't belong into a store.
    pub fn scope<B>(&self, request: &Request<B>) -> Fingerprint {
        let principal = (self.principal)(request.headers());
        let route = [request.method().as_str(), request.uri().path()].map(str::as_bytes);
        Fingerprint::keyed(&self.secret, [b"scope", &*principal, route[0], route[1]])
    }

    pub fn fingerprint<B: AsRef<[u8]>>(&self, request: &Request<B>) -> Fingerprint {
        let uri = request.uri();
        let payload = (self.payload)(uri, request.headers(), request.body().as_ref());
        let query = uri.query().unwrap_or_default().as_bytes();
        // `/a` and `/a?` aren't the same.
        let asks: &[u8] = if uri.query().is_some() { b"?" } else { b"" };
        Fingerprint::keyed(&self.secret, [b"payload", asks, query, &payload])
    }

    /// Headers that are of the connection or of the moment, and those that were chosen.
    pub fn strips(&self, name: &HeaderName) -> bool {
        const OURS: [HeaderName; 8] = [
            CONNECTION,
            CONTENT_LENGTH,
            DATE,
            PROXY_AUTHENTICATE,
            TE,
            TRAILER,
            TRANSFER_ENCODING,
            UPGRADE,
        ];
        OURS.contains(name) || name == "keep-alive" || self.strip.contains(name)
    }

    pub fn first(&self, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        self.tell_as(response, |(first, _)| first)
    }

    pub fn again(&self, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        self.tell_as(response, |(_, again)| again)
    }

    fn tell_as(
        &self,
        mut response: Response<Vec<u8>>,
        which: impl FnOnce((StatusCode, StatusCode)) -> StatusCode,
    ) -> Response<Vec<u8>> {
        if let Some(successes) = self.successes
            && response.status().is_success()
        {
            *response.status_mut() = which(successes);
        }
        response
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            require: Box::new(|method, _| Requirement::usual(method)),
            principal: Box::new(authorization),
            payload: Box::new(body),
            keep: Box::new(Keep::usual),
            strip: Vec::new(),
            lenient: false,
            wait: Duration::from_secs(10),
            retry_after: Duration::from_secs(1),
            max_request: 16 << 20,
            secret: Fingerprint::PUBLIC_KEY,
            successes: None,
            problems: "urn:onceflight:problem:".into(),
            docs: None,
        }
    }
}

/// 201 at first, 200 when it is told again.
pub(super) const CREATED_THEN_OK: (StatusCode, StatusCode) = (status(201), status(200));
