//! What the tests of sessions share.

use onceflight::session::{Applied, Builder, SessionBegin, SessionRequest};
use onceflight::{Error, ErrorKind, Response, SessionTable};

#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
pub use random::Random;

/// The clients of most tests, which have one session or two.
pub const A: &[u8] = b"a";
pub const B: &[u8] = b"b";

/// A window of four, an hour.
pub fn table() -> SessionTable {
    with(|builder| builder)
}

/// The same on other terms.
pub fn with(terms: impl FnOnce(Builder) -> Builder) -> SessionTable {
    terms(SessionTable::builder().window(4)).build().expect("terms that can be had")
}

/// Calls at one time, where it is of no matter which.
pub trait Calls {
    fn life(&mut self, client: &[u8]) -> u64;
    fn ask(&mut self, request: &SessionRequest<'_>) -> Result<SessionBegin, Error>;
    fn lead(&mut self, request: &SessionRequest<'_>, data: &[u8]);
    fn replay(&mut self, request: &SessionRequest<'_>) -> Response;
    fn refusal(&mut self, request: &SessionRequest<'_>) -> ErrorKind;
    fn bytes(&self) -> Vec<u8>;
    fn names(&self) -> Vec<String>;
}

impl Calls for SessionTable {
    /// Registers, with a nonce that is always the same.
    #[track_caller]
    fn life(&mut self, client: &[u8]) -> u64 {
        self.register(client, "nonce", 0).expect("a session")
    }

    fn ask(&mut self, request: &SessionRequest<'_>) -> Result<SessionBegin, Error> {
        self.begin(request, 0)
    }

    /// Begins what wasn't executed, and records that.
    #[track_caller]
    fn lead(&mut self, request: &SessionRequest<'_>, data: &[u8]) {
        assert_eq!(Ok(SessionBegin::Lead), self.ask(request));
        assert_eq!(data, self.record(request, 0, data).expect("room").data());
    }

    #[track_caller]
    fn replay(&mut self, request: &SessionRequest<'_>) -> Response {
        match self.ask(request) {
            Ok(SessionBegin::Replayed(response)) => response,
            other => panic!("a replay was due: {other:?}"),
        }
    }

    #[track_caller]
    fn refusal(&mut self, request: &SessionRequest<'_>) -> ErrorKind {
        self.ask(request).expect_err("a refusal").kind()
    }

    #[track_caller]
    fn bytes(&self) -> Vec<u8> {
        self.freeze().expect("no entry is open").to_bytes()
    }

    /// Who has a session, from the longest unused on.
    fn names(&self) -> Vec<String> {
        self.sessions().map(|session| session.client.escape_ascii().to_string()).collect()
    }
}

/// What was refused, and why.
#[track_caller]
pub fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("a refusal").kind()
}

/// Adds one to `sum` if the request is executed.
pub fn add(
    table: &mut SessionTable,
    request: &SessionRequest<'_>,
    now_ms: u64,
    sum: &mut u64,
) -> Result<Applied, Error> {
    table.apply(request, now_ms, || {
        *sum += 1;
        (0, sum.to_string())
    })
}

/// What random choices are drawn from: `ONCEFLIGHT_SEED`, or always the same.
pub fn seed() -> u64 {
    let seed = std::env::var("ONCEFLIGHT_SEED").ok();
    let seed = seed.map_or(1, |seed| seed.parse().expect("a number"));
    println!("ONCEFLIGHT_SEED={seed}");
    seed
}
