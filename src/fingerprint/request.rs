//! The request key: bytes that say "the same HTTP request".
//!
//! One rule stands above the others: two requests that may mean different things never get the
//! same frame. What is folded (the case of a header's name, the blanks around its value, the order
//! of different names) is what RFC 9110 says has no meaning; all else is taken byte for byte.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use once_cell::race::OnceBox;

use super::{Fingerprint, Fingerprinter, Frame, Sink, Tag};

const REQUEST: &Tag = b"onceflight/rq/1\n";

/// Makes the key under which identical HTTP requests meet.
///
/// ```
/// use onceflight::RequestKey;
///
/// let mut request = RequestKey::new("GET", "https://example.org/a?b=c");
/// request.header("Accept", "text/html").header("Cookie", "id=7");
///
/// let mut same = RequestKey::new("GET", "https://example.org/a?b=c");
/// same.header("cookie", "id=7").header("accept", " text/html ");
/// assert_eq!(request.finish(), same.finish());
///
/// same.body("x");
/// assert_ne!(request.finish(), same.finish());
/// ```
///
/// | part | how it is compared |
/// |-|-|
/// | method | byte for byte: it is case-sensitive |
/// | URL | byte for byte: nothing is decoded, sorted, completed or cut off, not even a fragment |
/// | header name | without regard to ASCII case |
/// | header value | byte for byte, without the spaces and tabs around it |
/// | header order | counts among headers of one name, and not between names |
/// | body | byte for byte; no body is an empty body |
///
/// Only the headers that are added count. Whatever the response depends on belongs in the key:
/// the host, if the URL has none, and whoever is asking (`Authorization`, `Cookie`), or one
/// user's response is handed to another.
///
/// [`to_bytes`](Self::to_bytes) is the exact key, as long as the request.
/// [`finish`](Self::finish) and [`finish_with`](Self::finish_with) hash it to 16 bytes, so that
/// two different requests share a key with a chance of 2⁻¹²⁸, as long as the secret is one.
/// Format and hash are stable, as a [`Fingerprint`]'s are.
#[derive(Clone)]
pub struct RequestKey<'a> {
    method: &'a [u8],
    url: &'a [u8],
    /// Lower-case name, trimmed value, in order of arrival.
    headers: Vec<(Vec<u8>, &'a [u8])>,
    body: &'a [u8],
}

impl<'a> RequestKey<'a> {
    /// A request without headers and body.
    pub fn new(
        method: &'a (impl AsRef<[u8]> + ?Sized),
        url: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        Self { method: method.as_ref(), url: url.as_ref(), headers: Vec::new(), body: &[] }
    }

    /// Adds a header. It is not checked: a name or value that HTTP doesn't allow makes a key, and
    /// no other request has the same.
    pub fn header(
        &mut self,
        name: &(impl AsRef<[u8]> + ?Sized),
        value: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> &mut Self {
        self.headers.push((name.as_ref().to_ascii_lowercase(), trim(value.as_ref())));
        self
    }

    /// Adds a header given as one line, `Name: value`, without its line end.
    ///
    /// `None`, and nothing is added, if that isn't a header: no colon, a name that isn't a token
    /// (an empty one, or one with a blank before the colon), or a value with CR, LF or NUL.
    ///
    /// ```
    /// use onceflight::RequestKey;
    ///
    /// let mut lines = RequestKey::new("GET", "/");
    /// assert!(lines.header_line("Host: example.org:8080").is_some());
    /// assert!(lines.header_line("no colon").is_none());
    /// assert!(lines.header_line("Host : example.org").is_none());
    ///
    /// let mut pairs = RequestKey::new("GET", "/");
    /// pairs.header("host", "example.org:8080");
    /// assert_eq!(lines.finish(), pairs.finish());
    /// ```
    pub fn header_line(&mut self, line: &'a (impl AsRef<[u8]> + ?Sized)) -> Option<&mut Self> {
        let line = line.as_ref();
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let named = !name.is_empty() && name.iter().copied().all(is_token);
        let whole = !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        (named && whole).then(|| self.header(name, value))
    }

    /// Sets the body.
    pub fn body(&mut self, bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> &mut Self {
        self.body = bytes.as_ref();
        self
    }

    /// The key under a secret that this process drew at random: for keys that stay in memory.
    ///
    /// Another process gets other keys for the same requests, so nobody can know one beforehand.
    /// The secret is drawn once, by the first call; a process forked after that inherits it.
    pub fn finish(&self) -> Fingerprint {
        self.finish_with(process_secret())
    }

    /// The key under a secret of yours: for keys that are kept in a store, or compared between
    /// processes.
    ///
    /// ```
    /// use onceflight::RequestKey;
    ///
    /// let secret = *b"sixteen of bytes";
    /// let key = RequestKey::new("GET", "/").finish_with(&secret);
    /// assert_eq!(key.to_string(), "6182654eb6cfd1bd0a02d24ed2a5934a");
    /// ```
    pub fn finish_with(&self, secret: &[u8; 16]) -> Fingerprint {
        let mut hashed = Fingerprinter::tagged(REQUEST, secret);
        self.write(&mut hashed.0);
        hashed.finish()
    }

    /// The whole request as one unambiguous string of bytes: equal exactly if the requests are.
    ///
    /// It holds every header and the body in the clear, so it suits a table in memory, not a
    /// store.
    ///
    /// ```
    /// use onceflight::RequestKey;
    ///
    /// let moved = |name, value| RequestKey::new("GET", "/").header(name, value).to_bytes();
    /// assert_ne!(moved("x-a", "bc"), moved("x-ab", "c"));
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut framed = Frame::open(REQUEST, Vec::new());
        self.write(&mut framed);
        framed.close()
    }

    /// Method, URL, name, value, …, body. The body is always there, so the place of a field in the
    /// list says what it is.
    fn write<S: Sink>(&self, frame: &mut Frame<S>) {
        let mut headers: Vec<_> = self.headers.iter().collect();
        // A stable sort: among headers of one name the order has a meaning.
        headers.sort_by_key(|(name, _)| name);

        frame.field(self.method);
        frame.field(self.url);
        for (name, value) in headers {
            frame.field(name);
            frame.field(value);
        }
        frame.field(self.body);
    }
}

impl fmt::Debug for RequestKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither URL nor headers nor body: a log is no place for credentials.
        f.debug_struct("RequestKey")
            .field("method", &self.method.escape_ascii().to_string())
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// Without the optional whitespace of RFC 9110 around a value: spaces and tabs, nothing else.
fn trim(value: &[u8]) -> &[u8] {
    let solid = |&byte: &u8| !matches!(byte, b' ' | b'\t');
    match (value.iter().position(solid), value.iter().rposition(solid)) {
        (Some(first), Some(last)) => &value[first..=last],
        _ => &[],
    }
}

/// A character of an RFC 9110 token, such as a header's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn process_secret() -> &'static [u8; 16] {
    // The kind that never waits: a child forked while another thread draws must not hang.
    static SECRET: OnceBox<[u8; 16]> = OnceBox::new();
    SECRET.get_or_init(|| Box::new(from_kernel().unwrap_or_else(from_hash_maps)))
}

fn from_kernel() -> Option<[u8; 16]> {
    // Elsewhere the path may be a file that anybody put there.
    if !cfg!(unix) {
        return None;
    }
    let mut secret = [0; 16];
    File::open("/dev/urandom").ok()?.read_exact(&mut secret).ok()?;
    Some(secret)
}

/// Where there is no `/dev`: the keys that std draws to protect its maps from chosen collisions.
fn from_hash_maps() -> [u8; 16] {
    let keys = RandomState::new();
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&keys.hash_one(0).to_le_bytes());
    secret[8..].copy_from_slice(&keys.hash_one(1).to_le_bytes());
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_fill_the_secret_anew_each_time() {
        let draws_anew = |source: fn() -> [u8; 16]| {
            let (one, two) = (source(), source());
            one[..8] != two[..8] && one[8..] != two[8..]
        };
        assert!(draws_anew(from_hash_maps));
        if cfg!(target_os = "linux") {
            assert!(draws_anew(|| from_kernel().unwrap()));
        }
    }
}
