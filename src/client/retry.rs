//! Keys for requests that are sent again, so that a server that knows them does the work once.

use std::fmt;

use ureq::SendBody;
use ureq::http::{HeaderName, HeaderValue, Method, Request};

use crate::error::{Error, ErrorKind};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The key of one operation, however often it is sent: in the extensions of each attempt's request, it
/// becomes the `Idempotency-Key` header (of a POST or PATCH that has none).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A new one: 128 random bits, as 32 hexadecimal digits.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, ureq::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            ureq::Error::Other(format!("no randomness for a key: {error}").into())
        })?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// One of your own: 1 to 255 characters of printable ASCII.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): it isn't.
    pub fn new(key: impl Into<String>) -> Result<Self, Error> {
        let key = key.into();
        let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if (1..=255).contains(&key.len()) && printable {
            return Ok(Self(key));
        }
        let detail = "an idempotency key has 1 to 255 characters of printable ASCII";
        Err(Error::new(ErrorKind::Invalid, detail))
    }

    /// The key, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a String of RFC 8941.
    fn header(&self) -> Option<HeaderValue> {
        let quoted = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        HeaderValue::try_from(format!("\"{quoted}\"")).ok()
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({:?})", self.0)
    }
}

/// Puts the key of its operation on a request.
pub(super) fn sign(request: &mut Request<SendBody>) {
    let unsafe_one = matches!(*request.method(), Method::POST | Method::PATCH);
    if unsafe_one
        && !request.headers().contains_key(HEADER)
        && let Some(key) = request.extensions().get::<IdempotencyKey>()
        && let Some(key) = key.header()
    {
        request.headers_mut().insert(HEADER, key);
    }
}

/// Sends one operation up to `attempts` times, with the same new key, until there is an answer: while
/// there is none (a connection that fails or breaks, a timeout), or one that asks for another attempt (409,
/// 425, 429, 500, 502, 503, 504) and comes as [`ureq::Error::StatusCode`]: where the agent takes status codes
/// for responses, `send` turns them into errors.
///
/// `send` puts the key into the request's extensions. It does its own waiting between attempts, if it wants
/// any; the attempts count from 1.
///
/// ```no_run
/// # use onceflight::client::{Coalesce, retry};
/// # let agent: ureq::Agent = ureq::Agent::config_builder().middleware(Coalesce::new()).build().into();
/// let paid = retry(3, |key, _attempt| {
///     agent.post("https://example.com/payments").extension(key.clone()).send("100 cents to Ada")
/// })?;
/// # Ok::<(), ureq::Error>(())
/// ```
///
/// # Errors
/// The last attempt's.
pub fn retry<T>(
    attempts: u32,
    mut send: impl FnMut(&IdempotencyKey, u32) -> Result<T, ureq::Error>,
) -> Result<T, ureq::Error> {
    let key = IdempotencyKey::random()?;
    let mut attempt = 1;
    loop {
        match send(&key, attempt) {
            Err(error) if attempt < attempts && is_passing(&error) => attempt += 1,
            answer => return answer,
        }
    }
}

fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => {
            matches!(status, 409 | 425 | 429 | 500 | 502 | 503 | 504)
        }
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => true,
        // It waited for another, and nothing was sent.
        ureq::Error::Other(error) => {
            error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Timeout)
        }
        _ => false,
    }
}
