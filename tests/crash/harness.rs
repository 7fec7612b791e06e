//! Where a test's records are, and what its tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{env, fs, process};

use onceflight::idempotency::{Begin, Builder, Lead};
use onceflight::store::{MemoryStore, Response};
use onceflight::{Error, IdempotencyTable};

use crate::worker::{self, Address};

#[path = "../support/patience.rs"]
#[allow(dead_code, reason = "shared")]
mod patience;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
use patience::within;
pub use patience::{PATIENCE, eventually};
pub use random::Random;

/// One `#[test]` of each case for each store: `on_every_store!(case, …)`.
macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        $crate::harness::on_every_store!(@sqlite, "sqlite": $($case)+);
        $crate::harness::on_every_store!(servers: $($case),+);
    };
    (memory: $($case:ident),+) => {
        $crate::harness::on_every_store!(@memory, "store": $($case)+);
    };
    (servers: $($case:ident),+) => {
        $crate::harness::on_every_store!(@postgres, "postgres": $($case)+);
        $crate::harness::on_every_store!(@redis, "redis": $($case)+);
        $crate::harness::on_every_store!(@redis_cluster, "redis": $($case)+);
        $crate::harness::on_every_store!(@memcached, "memcached": $($case)+);
    };
    (@$store:ident, $feature:literal: $($case:ident)+) => {
        #[cfg(feature = $feature)]
        mod $store {
            $(
                #[test]
                fn $case() {
                    let name = concat!(module_path!(), "::", stringify!($case));
                    $crate::harness::run(stringify!($store), name, super::$case);
                }
            )+
        }
    };
}
pub(crate) use on_every_store;

/// The same for those that are servers.
#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
macro_rules! on_every_server {
    ($($case:ident),+ $(,)?) => {
        $crate::harness::on_every_store!(servers: $($case),+);
    };
}
#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
pub(crate) use on_every_server;

/// The same for those that have transactions of the caller's.
macro_rules! on_every_database {
    ($($case:ident),+ $(,)?) => {
        $crate::harness::on_every_store!(@sqlite, "sqlite": $($case)+);
        $crate::harness::on_every_store!(@postgres, "postgres": $($case)+);
    };
}
pub(crate) use on_every_database;

/// The same for SQLite alone.
macro_rules! on_sqlite {
    ($($case:ident),+ $(,)?) => {
        $crate::harness::on_every_store!(@sqlite, "sqlite": $($case)+);
    };
}
pub(crate) use on_sqlite;

/// Records that only this test knows: in a file of its own, or on a server under a scope of its own.
pub struct Place {
    /// `memory` (of each table its own), `sqlite`, `postgres`, `redis`, `redis_cluster`, `memcached`.
    pub store: &'static str,
    /// The test, as the harness of the standard library calls it.
    pub test: &'static str,
    pub url: String,
    pub scope: String,
    /// For files of its own.
    pub dir: Directory,
}

impl Place {
    /// `test` with the name of its crate in front. A worker's is the place of who started it.
    fn new(store: &'static str, test: &'static str) -> Self {
        let test = test.strip_prefix("crash::").expect("a test of this crate");
        if let Some(Address { url, scope, dir }) = worker::address() {
            return Self { store, test, url, scope, dir: Directory { path: dir, ours: false } };
        }
        let dir = Directory::new();
        let url = match store {
            "memory" => String::new(),
            "sqlite" => format!("sqlite:{}", dir.path.join("records.db").display()),
            server => {
                let variable = format!("ONCEFLIGHT_TEST_{}", server.to_uppercase());
                env::var(&variable).unwrap_or_else(|_| {
                    panic!("no {variable}: run this under `scripts/servers.sh run`")
                })
            }
        };
        Self { store, test, url, scope: unique(), dir }
    }

    pub fn address(&self) -> Address {
        let (url, scope) = (self.url.clone(), self.scope.clone());
        Address { url, scope, dir: self.dir.path.clone() }
    }

    /// The same on another server.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
    pub fn at(&self, url: String) -> Self {
        Self { url, scope: unique(), dir: Directory::new(), ..*self }
    }

    /// A table that shares nothing with others but the records, as another process would have it.
    pub fn table(&self, terms: impl FnOnce(Builder) -> Builder) -> IdempotencyTable {
        let builder = terms(IdempotencyTable::builder().scope(&self.scope));
        let table = match self.store {
            "memory" => builder.over(Arc::new(MemoryStore::new())),
            _ => builder.open(&self.url),
        };
        table.unwrap_or_else(|error| panic!("{}: {error}", self.url))
    }

    /// The file, of a store that is one.
    pub fn file(&self) -> &Path {
        Path::new(self.url.strip_prefix("sqlite:").expect("records in a file"))
    }
}

/// Runs a case on a store, and fails if it hangs.
pub fn run(store: &'static str, test: &'static str, case: fn(&Place)) {
    let amounts = amount("ONCEFLIGHT_KILLS", 0) + amount("ONCEFLIGHT_RECORDS", 0);
    let time = 5 * PATIENCE + Duration::from_secs(amounts as u64);
    within(time, move || case(&Place::new(store, test)));
}

/// Says so when it is dropped, in a panic too: threads that go on until then don't outlive a failure.
pub struct AtTheEnd<'a>(pub &'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How much of something a test does: as that variable says, or so many.
pub fn amount(variable: &str, usual: usize) -> usize {
    env::var(variable).map_or(usual, |number| number.parse().expect("a number"))
}

pub fn response(data: impl AsRef<[u8]>) -> Response {
    Response::new(200, data.as_ref())
}

/// What a begin is expected to have found.
pub trait Found<'t> {
    fn lead(self) -> Lead<'t>;
    fn response(self) -> Response;
}

impl<'t> Found<'t> for Result<Begin<'t>, Error> {
    #[track_caller]
    fn lead(self) -> Lead<'t> {
        match self {
            Ok(Begin::Lead(lead)) => lead,
            other => panic!("a lead was due: {other:?}"),
        }
    }

    #[track_caller]
    fn response(self) -> Response {
        match self {
            Ok(Begin::Shared(response) | Begin::Replayed(response)) => response,
            other => panic!("a response was due: {other:?}"),
        }
    }
}

/// What a test's random choices are drawn from: `ONCEFLIGHT_SEED`, or another each time, which is told.
pub fn seed() -> u64 {
    let seed = env::var("ONCEFLIGHT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(process::id()) ^ nanos());
    println!("ONCEFLIGHT_SEED={seed}");
    seed
}

fn nanos() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    u64::try_from(since).expect("before 2554")
}

/// A text that no other test, process or run has.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("crash-{}-{}-{}", process::id(), nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removed in the end by who made it.
pub struct Directory {
    pub path: PathBuf,
    ours: bool,
}

impl Directory {
    pub fn new() -> Self {
        let path = env::temp_dir().join(format!("onceflight-{}", unique()));
        fs::create_dir(&path).expect("a temporary directory");
        Self { path, ours: true }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
