//! When two requests without a key are the same, and which responses may be shared at all.

use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE, USER_AGENT, VARY, VIA};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use onceflight::RequestKey;

/// Headers that say how a request came here, and not what is asked for.
const IGNORED: [HeaderName; 10] = [
    USER_AGENT,
    VIA,
    HeaderName::from_static("priority"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-amzn-trace-id"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

/// Decides which requests are identical.
pub struct Identity {
    ignored: Vec<HeaderName>,
}

impl Default for Identity {
    fn default() -> Self {
        Self { ignored: IGNORED.into() }
    }
}

impl Identity {
    /// This header may differ, too.
    ///
    /// # Errors
    /// It says who asks, or for which variant.
    pub fn ignore(&mut self, name: HeaderName) -> Result<(), String> {
        if always_counts(&name) {
            return Err(format!("{name} says who asks, or for what, and can't be ignored"));
        }
        self.ignored.push(name);
        Ok(())
    }

    /// May this request join another at all?
    pub fn coalesces(method: &Method) -> bool {
        [Method::GET, Method::HEAD].contains(method)
    }

    /// All of the request, as bytes: unlike requests never have the same, whatever they hold.
    pub fn key(&self, request: &Request<Vec<u8>>) -> Vec<u8> {
        let url = request.uri().to_string();
        let mut key = RequestKey::new(request.method().as_str(), &url);
        for (name, value) in request.headers() {
            if !self.ignored.contains(name) {
                key.header(name.as_str(), value.as_bytes());
            }
        }
        key.body(request.body());
        key.to_bytes()
    }

    /// A response that may not be given to another caller is declined: each asks for itself.
    pub fn shareable<B>(&self, request: &Request<Vec<u8>>, response: &Response<B>) -> bool {
        let anonymous = !request.headers().contains_key(COOKIE)
            && !request.headers().contains_key(AUTHORIZATION);
        // A cookie set for a caller nobody knows would make one session for many people.
        let starts_session = anonymous && response.headers().contains_key(SET_COOKIE);
        let counts = |name: &str| {
            // `Vary: *` is no name, and no request's headers can match it.
            name.parse().is_ok_and(|name| name != "*" && !self.ignored.contains(&name))
        };
        !starts_session && list(response.headers(), &VARY).all(counts)
    }
}

fn always_counts(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["authorization", "cookie", "range", "host", "idempotency-key"].contains(&name)
        || name.starts_with("accept")
        || name.starts_with("if-")
}

/// May a response outlive its flight? Failures pass, and some responses say that they may not.
pub fn retainable<B>(response: &Response<B>) -> bool {
    let forbidden = ["no-store", "no-cache", "private"];
    let mut directives = list(response.headers(), &CACHE_CONTROL);
    !response.status().is_server_error()
        && !directives.any(|it| forbidden.iter().any(|word| starts_with(it, word)))
}

fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The members of a comma-separated header, in all its lines.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}
