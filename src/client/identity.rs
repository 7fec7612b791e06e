//! When two requests are the same: every field, with its length before it, compared as bytes.

use ureq::http::request::Parts;
use ureq::http::{HeaderName, Method};

/// The key of a request: method, URL, headers, body.
pub(super) fn of(parts: &Parts, body: &[u8], ignored: impl Fn(&HeaderName) -> bool) -> Vec<u8> {
    let mut key = vec![b'r'];
    field(&mut key, parts.method.as_str().as_bytes());
    field(&mut key, parts.uri.to_string().as_bytes());
    // By name, since a request is the same in whatever order it names its headers. The sort is stable:
    // values of one name keep theirs.
    let mut headers: Vec<_> = parts.headers.iter().filter(|(name, _)| !ignored(name)).collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        field(&mut key, name.as_str().as_bytes());
        field(&mut key, value.as_bytes());
    }
    field(&mut key, body);
    key
}

/// A key of the caller's own: never that of a request.
pub(super) fn chosen(key: &[u8]) -> Vec<u8> {
    [b"c", key].concat()
}

/// What is sent without a body, not with an empty one.
pub(super) fn has_no_body(method: &Method) -> bool {
    !matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn field(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}
