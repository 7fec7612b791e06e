//! Sets up an [`Idempotency`].

use std::io::{self, Write};
use std::sync::Once;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use super::Idempotency;
use super::policy::{CREATED_THEN_OK, Keep, Requirement, Rules};
use crate::idempotency::IdempotencyTable;

/// Sets up an [`Idempotency`].
///
/// | option | default |
/// |-|-|
/// | [`require`](Self::require) | of POST and PATCH; a key on PUT and DELETE is honoured |
/// | [`lenient_keys`](Self::lenient_keys) | off: a key is a quoted string (RFC 8941) |
/// | [`principal`](Self::principal) | the `Authorization` header |
/// | [`payload`](Self::payload) | the body's bytes, beside the query |
/// | [`keep`](Self::keep) | by status: see the [module](super) |
/// | [`strip`](Self::strip) | what is of the connection, `Date`, `Content-Length` |
/// | [`wait`](Self::wait), [`retry_after`](Self::retry_after) | 10 s, 1 s |
/// | [`max_request`](Self::max_request) | 16 MiB |
/// | [`secret`](Self::secret) | a public one |
/// | [`problems`](Self::problems), [`docs`](Self::docs) | `urn:onceflight:problem:`, none |
/// | [`disabled`](Self::disabled) | no; for tests alone |
///
/// How long a response is kept, how large it may be, and what becomes of an execution that is lost, are
/// the table's ([`ttl`](crate::idempotency::Builder::ttl),
/// [`max_response_len`](crate::idempotency::Builder::max_response_len),
/// [`on_lease_expired`](crate::idempotency::Builder::on_lease_expired)).
#[derive(Default)]
#[must_use = "a builder does nothing until it has a table"]
pub struct Builder {
    rules: Rules,
}

impl Builder {
    /// 201 for a success at first and 200 when it is told again; 409 at once for what is in progress;
    /// 400 without a key for PUT and DELETE too. Replaces what [`require`](Self::require) said before.
    pub fn created_then_ok(mut self) -> Self {
        self.rules.successes = Some(CREATED_THEN_OK);
        self.rules.wait = Duration::ZERO;
        self.require(|method, _| match Requirement::usual(method) {
            Requirement::Off => Requirement::Off,
            _ => Requirement::Required,
        })
    }

    /// Which requests carry a key.
    pub fn require(
        mut self,
        require: impl Fn(&Method, &Uri) -> Requirement + Send + Sync + 'static,
    ) -> Self {
        self.rules.require = Box::new(require);
        self
    }

    /// Takes keys without quotes too, as many clients send them: `4f2c81` is then the same as `"4f2c81"`.
    pub fn lenient_keys(mut self, lenient: bool) -> Self {
        self.rules.lenient = lenient;
        self
    }

    /// Who calls: the same key of another caller is another key. Take what can't be forged, and stays the
    /// same from a request to its retry: not a token that is renewed meanwhile.
    pub fn principal(
        mut self,
        principal: impl Fn(&HeaderMap) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.rules.principal = Box::new(principal);
        self
    }

    /// What says "the same payload": the body, some of its fields, or a canonical form of it. The query
    /// string counts in any case.
    pub fn payload(
        mut self,
        payload: impl Fn(&Uri, &HeaderMap, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.rules.payload = Some(Box::new(payload));
        self
    }

    /// What a response says of the request's effects. [`Keep::usual`] is what it is by default.
    pub fn keep(mut self, keep: impl Fn(StatusCode) -> Keep + Send + Sync + 'static) -> Self {
        self.rules.keep = Box::new(keep);
        self
    }

    /// A header that isn't kept, such as one that is a secret of its caller.
    pub fn strip(mut self, name: HeaderName) -> Self {
        self.rules.strip.push(name);
        self
    }

    /// How long a request waits for another with its key. Zero: it is answered 409 at once.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.rules.wait = wait;
        self
    }

    /// What a client is told to wait, in whole seconds, before it tries again.
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.rules.retry_after = time;
        self
    }

    /// The longest body of a request with a key, in bytes.
    pub fn max_request(mut self, most: usize) -> Self {
        self.rules.max_request = most;
        self
    }

    /// What scopes and payloads are hashed with. All processes over one store need the same, for as long
    /// as there are records. Without one, who reads the store can test guesses of credentials.
    pub fn secret(mut self, secret: [u8; 16]) -> Self {
        self.rules.secret = secret;
        self
    }

    /// What the type of a problem begins with; its name follows.
    pub fn problems(mut self, base: impl Into<String>) -> Self {
        self.rules.problems = base.into();
        self
    }

    /// Where clients read about keys: the `Link` of a problem.
    pub fn docs(mut self, url: impl Into<String>) -> Self {
        self.rules.docs = Some(url.into());
        self
    }

    /// For tests of handlers that want no keys: every request is executed, the store is never asked, nothing
    /// is kept, and no key is missed or refused. Handlers find an
    /// [`Execution`](super::Execution) where they otherwise would: the first one, of the request's key or a
    /// made-up one.
    ///
    /// The process says so once, on stderr. It takes a line of code, and no environment variable, so
    /// that no setting can quietly take the safety from a server.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.rules.disabled = disabled;
        self
    }

    /// Over that table, whose own scope isn't used.
    pub fn over(self, table: IdempotencyTable) -> Idempotency {
        if self.rules.disabled {
            warn();
        }
        Idempotency { table, rules: self.rules }
    }
}

/// Says, once a process, that there is no safety. To stderr, since there is no log that everybody has; and
/// not by `eprintln`, which panics where there is no stderr.
fn warn() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = writeln!(
            io::stderr(),
            "onceflight: Idempotency-Keys are disabled: every request is executed, a retry too. \
             This is for tests."
        );
    });
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}
