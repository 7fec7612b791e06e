//! Processes over one store, waiting for events, and taking outcomes apart.

use std::ops::Deref;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use onceflight::idempotency::{Begin, Builder, Lead};
use onceflight::store::{MemoryStore, Record, Response};
use onceflight::{Error, ErrorKind, IdempotencyTable};

pub use crate::flaky::{Fault, Flaky, Line, Verb};

#[path = "../support/patience.rs"]
#[allow(dead_code, reason = "shared")]
mod patience;
pub use patience::{PATIENCE, pass, wait_until, within};

/// A lease or a ttl that never passes during a test.
pub const LONG: Duration = Duration::from_secs(3600);
/// One that a test waits for.
pub const SHORT: Duration = Duration::from_millis(20);
/// A lease that a heartbeat keeps up even on a machine that stalls for a while.
pub const BEAT: Duration = Duration::from_millis(1200);

/// A table, and the store as it reaches it. Two of them over one store stand for two processes.
pub struct Process {
    table: IdempotencyTable,
    pub wire: Arc<Flaky>,
}

impl Process {
    pub fn new(store: &MemoryStore, setup: impl FnOnce(Builder) -> Builder) -> Self {
        let wire = Flaky::over(store);
        let table = setup(IdempotencyTable::builder()).over(wire.clone()).unwrap();
        Self { table, wire }
    }

    /// The one look that a caller has who doesn't wait.
    pub fn look(&self, key: &str) -> Result<Begin<'_>, Error> {
        self.begin_timeout(key, Duration::ZERO)
    }

    pub fn begin_patiently(&self, key: &str) -> Result<Begin<'_>, Error> {
        self.begin_timeout(key, PATIENCE)
    }

    pub fn record(&self, key: &str) -> Record {
        self.look_up(key).unwrap().expect("a record")
    }
}

impl Deref for Process {
    type Target = IdempotencyTable;
    fn deref(&self) -> &IdempotencyTable {
        &self.table
    }
}

/// Processes that share a store, each set up in the same way.
pub fn processes<const N: usize>(setup: impl Fn(Builder) -> Builder) -> [Process; N] {
    let store = MemoryStore::new();
    std::array::from_fn(|_| Process::new(&store, &setup))
}

/// The table's defaults.
pub fn usual(table: Builder) -> Builder {
    table
}

/// Leads are lost as soon as their short lease has passed.
pub fn fleeting(table: Builder) -> Builder {
    table.lease(SHORT).heartbeat(false)
}

pub fn response(status: i32) -> Response {
    Response::new(status, format!("response {status}").as_bytes())
}

/// Waits until so many followers are in line in this process.
#[track_caller]
pub fn in_line(process: &Process, count: u64) {
    wait_until("followers in line", || process.stats().waiting == count);
}

/// A caller that waits, in a thread of its own.
pub type Waiting<'scope, 't> = ScopedJoinHandle<'scope, Result<Begin<'t>, Error>>;

/// Begins in a process where the key is led or asked for, and returns once it is in line.
pub fn follow<'scope, 'env, 't: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    process: &'t Process,
    key: &'t str,
) -> Waiting<'scope, 't> {
    let before = process.stats().waiting;
    let waiting = scope.spawn(move || process.begin_patiently(key));
    in_line(process, before + 1);
    waiting
}

/// Begins in a process where nobody has begun, while the key is in progress elsewhere, and returns
/// once the store has said so.
pub fn watch<'scope, 'env, 't: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    process: &'t Process,
    key: &'t str,
) -> Waiting<'scope, 't> {
    let before = process.wire.ended(Verb::Claim);
    let waiting = scope.spawn(move || process.begin_patiently(key));
    process.wire.wait_ended(Verb::Claim, before + 1);
    waiting
}

#[track_caller]
pub fn kind<T>(result: Result<T, impl Into<Error>>) -> ErrorKind {
    error(result).kind()
}

#[track_caller]
pub fn error<T>(result: Result<T, impl Into<Error>>) -> Error {
    match result {
        Ok(_) => panic!("an error was due"),
        Err(error) => error.into(),
    }
}

/// Takes outcomes apart, and says what came instead.
pub trait Taken<'t> {
    fn lead(self) -> Lead<'t>;
    fn shared(self) -> i32;
    fn replayed(self) -> i32;
    /// Either.
    fn status(self) -> i32;
    fn bypassed(self);
}

impl<'t> Taken<'t> for Result<Begin<'t>, Error> {
    #[track_caller]
    fn lead(self) -> Lead<'t> {
        match self {
            Ok(Begin::Lead(lead)) => lead,
            other => panic!("a lead was due: {other:?}"),
        }
    }

    #[track_caller]
    fn shared(self) -> i32 {
        match self {
            Ok(Begin::Shared(response)) => checked(&response),
            other => panic!("a shared response was due: {other:?}"),
        }
    }

    #[track_caller]
    fn replayed(self) -> i32 {
        match self {
            Ok(Begin::Replayed(response)) => checked(&response),
            other => panic!("a replay was due: {other:?}"),
        }
    }

    #[track_caller]
    fn status(self) -> i32 {
        match self {
            Ok(Begin::Shared(response) | Begin::Replayed(response)) => checked(&response),
            other => panic!("a response was due: {other:?}"),
        }
    }

    #[track_caller]
    fn bypassed(self) {
        assert!(matches!(self, Ok(Begin::Bypass)), "a bypass was due: {self:?}");
    }
}

/// The status of one of [`response`]'s, whole.
#[track_caller]
fn checked(found: &Response) -> i32 {
    assert_eq!(response(found.status()).data(), found.data());
    found.status()
}
