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
    /// `None`: the body's bytes.
    pub payload: Option<Box<Payload>>,
    pub keep: Box<ByStatus>,
    pub strip: Vec<HeaderName>,
    pub lenient: bool,
    pub disabled: bool,
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

impl Rules {
    /// Whose key it is. Hashed: credentials don't belong into a store.
    pub fn scope<B>(&self, request: &Request<B>) -> Fingerprint {
        let principal = (self.principal)(request.headers());
        let route = [request.method().as_str(), request.uri().path()].map(str::as_bytes);
        Fingerprint::keyed(&self.secret, [b"scope", &*principal, route[0], route[1]])
    }

    pub fn fingerprint<B: AsRef<[u8]>>(&self, request: &Request<B>) -> Fingerprint {
        let uri = request.uri();
        let body = request.body().as_ref();
        let chosen = self.payload.as_ref().map(|payload| payload(uri, request.headers(), body));
        let payload = chosen.as_deref().unwrap_or(body);
        let query = uri.query().unwrap_or_default().as_bytes();
        // `/a` and `/a?` aren't the same.
        let asks: &[u8] = if uri.query().is_some() { b"?" } else { b"" };
        Fingerprint::keyed(&self.secret, [b"payload", asks, query, payload])
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
            payload: None,
            keep: Box::new(Keep::usual),
            strip: Vec::new(),
            lenient: false,
            disabled: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_statuses_say_what() {
        for code in 100..1000 {
            let keep = match code {
                401 | 403 | 408 | 425 | 429 | 503 => Keep::NothingHappened,
                100..=499 => Keep::Response,
                _ => Keep::MayHaveHappened,
            };
            assert_eq!(Keep::usual(StatusCode::from_u16(code).unwrap()), keep, "{code}");
        }
    }

    fn request(
        method: &str,
        uri: &str,
        authorization: &str,
        body: &'static str,
    ) -> Request<&'static str> {
        let request = Request::builder().method(method).uri(uri);
        request.header("authorization", authorization).body(body).unwrap()
    }

    /// Who, method and path make the scope; query and body the payload. None reaches into another.
    #[test]
    fn what_counts_as_what() {
        let rules = Rules::default();
        let known = |request: &Request<_>| (rules.scope(request), rules.fingerprint(request));
        let (scope, payload) = known(&request("POST", "/a?b", "ada", "c"));
        for (other, same_scope, same_payload) in [
            (request("POST", "/a?b", "ada", "c"), true, true),
            (request("POST", "http://example.org/a?b", "ada", "c"), true, true),
            (request("PUT", "/a?b", "ada", "c"), false, true),
            (request("POST", "/ab?b", "ada", "c"), false, true),
            (request("POST", "/a?b", "ad", "c"), false, true),
            (request("OST", "/a?b", "adaP", "c"), false, true),
            (request("POST", "/a?bc", "ada", ""), true, false),
            (request("POST", "/a?", "ada", "bc"), true, false),
            (request("POST", "/a", "ada", "?bc"), true, false),
            (request("POST", "/a?b", "ada", "C"), true, false),
        ] {
            let (other_scope, other_payload) = known(&other);
            assert_eq!(other_scope == scope, same_scope, "{other:?}");
            assert_eq!(other_payload == payload, same_payload, "{other:?}");
        }
        assert_ne!(
            rules.fingerprint(&request("POST", "/a", "", "")),
            rules.fingerprint(&request("POST", "/a?", "", ""))
        );
    }

    #[test]
    fn a_secret_changes_what_is_stored() {
        let (public, secret) = (Rules::default(), Rules { secret: [7; 16], ..Rules::default() });
        let request = request("POST", "/a", "ada", "b");
        assert_ne!(public.scope(&request), secret.scope(&request));
        assert_ne!(public.fingerprint(&request), secret.fingerprint(&request));
    }
}
