//! When two requests are the same, and which responses may be shared at all.

use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, PRAGMA,
    RANGE, SET_COOKIE, VARY,
};
use hyper::{Method, Request};

use crate::backend::Answer;

/// Headers that say which variant of a resource is asked for, by how their names begin.
const VARIANTS: [&str; 4] = ["accept", "if-", "content-", "x-forwarded-"];

/// Headers that say who asks or which operation it is, by a part of their names: Authorization,
/// Cookie, X-Api-Key, Idempotency-Key, X-Csrf-Token, X-Amz-Signature and whatever else is like them.
const CALLERS: [&str; 8] =
    ["auth", "cookie", "token", "key", "session", "secret", "signature", "tenant"];

/// Others that change a response.
const OTHERS: [HeaderName; 4] = [HOST, RANGE, CACHE_CONTROL, PRAGMA];
const MORE: [&str; 4] = ["origin", "prefer", "x-http-method-override", "x-requested-with"];

/// Decides which requests are identical.
pub struct Identity {
    /// Headers that belong to the key besides the built-in ones.
    pub headers: Vec<HeaderName>,
    /// Only GET and HEAD are coalesced.
    pub safe_only: bool,
}

impl Identity {
    /// May this request join another at all?
    pub fn coalesces(&self, method: &Method) -> bool {
        !self.safe_only || [Method::GET, Method::HEAD].contains(method)
    }

    /// Method, target, the headers that count, body. Each field is preceded by its length, and the
    /// bytes are compared as they are: unlike requests never have the same key, whatever they hold.
    pub fn key(&self, request: &Request<Bytes>) -> Vec<u8> {
        let mut key = Vec::with_capacity(256 + request.body().len());
        let mut field = |bytes: &[u8]| {
            key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            key.extend_from_slice(bytes);
        };
        field(request.method().as_str().as_bytes());
        field(request.uri().to_string().as_bytes());
        // By name, since a request is the same in whatever order it names its headers. The sort is
        // stable: values of one name keep theirs.
        let mut headers: Vec<_> =
            request.headers().iter().filter(|(name, _)| self.counts(name)).collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in headers {
            field(name.as_str().as_bytes());
            field(value.as_bytes());
        }
        field(request.body());
        key
    }

    /// A response that may not be given to another caller is declined: each asks for itself.
    pub fn shareable(&self, request: &Request<Bytes>, answer: &Answer) -> bool {
        let anonymous = !request.headers().contains_key(COOKIE)
            && !request.headers().contains_key(AUTHORIZATION);
        // A cookie set for a caller nobody knows would make one session for many people.
        let starts_session = anonymous && answer.headers().contains_key(SET_COOKIE);
        !starts_session && varies_on(answer.headers()).all(|name| self.counts_named(name))
    }

    fn counts_named(&self, name: &str) -> bool {
        // Not a name: `Vary: *`, which no request's headers can match.
        name.parse().is_ok_and(|name| self.counts(&name)) && name != "*"
    }

    fn counts(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        // The body is in the key, and X-Forwarded-For is another one for every client.
        *name != CONTENT_LENGTH
            && text != "x-forwarded-for"
            && (VARIANTS.iter().any(|start| text.starts_with(start))
                || CALLERS.iter().any(|part| text.contains(part))
                || OTHERS.contains(name)
                || MORE.contains(&text)
                || self.headers.contains(name))
    }
}

/// May a response outlive its flight? Failures pass, and some responses say that they may not.
pub fn retainable(answer: &Answer) -> bool {
    let forbidden = ["no-store", "no-cache", "private"];
    let mut directives = list(answer.headers(), &CACHE_CONTROL);
    !answer.status().is_server_error()
        && !directives.any(|directive| forbidden.iter().any(|word| directive.starts_with(word)))
}

fn varies_on(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    list(headers, &VARY)
}

/// The members of a comma-separated header, in all its lines.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}
