//! The stores under test, and how a test calls them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, process, thread};

use onceflight::ErrorKind;
use onceflight::store::{
    self, Claim, Claimed, Grant, Held, MemoryStore, News, Record, RecordKey, Release, Response,
    Settled, Store, Token,
};

#[path = "../support/patience.rs"]
#[allow(dead_code, reason = "shared")]
mod patience;
pub use patience::{PATIENCE, eventually, within};

/// A lease or a ttl that never passes during a test.
pub const LONG: Duration = Duration::from_secs(3600);
/// One that a test waits for.
pub const SHORT: Duration = Duration::from_millis(50);
/// How long a store remembers those who followed a flight, and some more.
pub const GRACE: Duration = Duration::from_secs(12);

/// A store: where it is, and in what it documents that it is less than others.
pub struct Backend {
    pub name: &'static str,
    at: At,
    /// Whether `list` works.
    pub lists: bool,
    /// The largest response that it must take.
    pub largest: usize,
}

enum At {
    Memory,
    TemporaryFile,
    /// The variable that has its URL.
    Server(&'static str),
}

const WHOLE: Backend = Backend { name: "", at: At::Memory, lists: true, largest: 16 << 20 };

pub const MEMORY: Backend = Backend { name: "memory", ..WHOLE };
pub const SQLITE: Backend = Backend { name: "sqlite", at: At::TemporaryFile, ..WHOLE };
pub const POSTGRES: Backend =
    Backend { name: "postgres", at: At::Server("ONCEFLIGHT_TEST_POSTGRES"), ..WHOLE };
pub const REDIS: Backend =
    Backend { name: "redis", at: At::Server("ONCEFLIGHT_TEST_REDIS"), ..WHOLE };
pub const REDIS_CLUSTER: Backend =
    Backend { name: "redis_cluster", at: At::Server("ONCEFLIGHT_TEST_REDIS_CLUSTER"), ..WHOLE };
/// Keeps no index, and an item of 1 MiB at most as it is set up by default.
pub const MEMCACHED: Backend = Backend {
    name: "memcached",
    at: At::Server("ONCEFLIGHT_TEST_MEMCACHED"),
    lists: false,
    largest: 512 << 10,
};

/// One `#[test]` of each case named, for each store: `suite!(case, …)`. With `proxied:` before the
/// names, for those only that are a server and can be reached through a [`Proxy`](crate::proxy::Proxy).
macro_rules! suite {
    (proxied: $($case:ident),+ $(,)?) => {
        suite!(@postgres, POSTGRES, "postgres": $($case)+);
        suite!(@redis, REDIS, "redis": $($case)+);
        suite!(@memcached, MEMCACHED, "memcached": $($case)+);
    };
    (shared: $($case:ident),+ $(,)?) => {
        suite!(@sqlite, SQLITE, "sqlite": $($case)+);
        suite!(@redis_cluster, REDIS_CLUSTER, "redis": $($case)+);
        suite!(proxied: $($case),+);
    };
    ($($case:ident),+ $(,)?) => {
        suite!(@memory, MEMORY, "store": $($case)+);
        suite!(shared: $($case),+);
    };
    (@$store:ident, $backend:ident, $feature:literal: $($case:ident)+) => {
        #[cfg(feature = $feature)]
        mod $store {
            $(
                #[test]
                fn $case() {
                    $crate::harness::run(&$crate::harness::$backend, super::$case);
                }
            )+
        }
    };
}
pub(crate) use suite;

/// Runs a case on a store, and fails if it hangs.
pub fn run(backend: &'static Backend, case: fn(&World)) {
    within(2 * PATIENCE, move || case(&World::new(backend)));
}

/// A store with a scope in it that only this test knows.
pub struct World {
    pub backend: &'static Backend,
    pub url: String,
    pub scope: Vec<u8>,
    memory: MemoryStore,
    client: Client,
    _files: Option<Directory>,
}

impl World {
    pub fn new(backend: &'static Backend) -> Self {
        let files = matches!(backend.at, At::TemporaryFile).then(Directory::new);
        let url = match backend.at {
            At::Memory => String::new(),
            At::TemporaryFile => {
                let path = files.as_ref().expect("just made").0.join("records.db");
                format!("sqlite:{}", path.display())
            }
            At::Server(variable) => env::var(variable).unwrap_or_else(|_| {
                panic!("no {variable}: run this under `scripts/servers.sh run`")
            }),
        };
        Self::open(backend, url, unique().into_bytes(), files)
    }

    /// The world of another process.
    pub fn of(backend: &'static Backend, url: String, scope: Vec<u8>) -> Self {
        Self::open(backend, url, scope, None)
    }

    fn open(
        backend: &'static Backend,
        url: String,
        scope: Vec<u8>,
        files: Option<Directory>,
    ) -> Self {
        let memory = MemoryStore::new();
        let client = open(backend, &memory, &url);
        Self { backend, url, scope, memory, client, _files: files }
    }

    pub fn store(&self) -> &Client {
        &self.client
    }

    /// A handle that shares nothing with the others but the records, as another process would have.
    pub fn another(&self) -> Client {
        open(self.backend, &self.memory, &self.url)
    }

    /// `count` of them.
    pub fn others(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| self.another()).collect()
    }

    pub fn key(&self, name: &str) -> RecordKey {
        RecordKey::new(&self.scope, name).expect("a short scope")
    }
}

fn open(backend: &Backend, memory: &MemoryStore, url: &str) -> Client {
    match backend.at {
        At::Memory => Client(Arc::new(memory.clone())),
        _ => Client(store::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))),
    }
}

/// A text that no other test, process or run has.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    format!("test-{}-{since}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("onceflight-{}", unique()));
        fs::create_dir(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store as most tests call it: with time enough, and without errors.
#[derive(Clone)]
pub struct Client(pub Arc<dyn Store>);

/// A lead, and how it came about.
#[derive(Clone, Debug)]
pub struct Led {
    pub held: Held,
    pub grant: Grant,
}

impl Client {
    #[track_caller]
    pub fn claim(&self, key: &RecordKey, claim: &Claim<'_>) -> Claimed {
        self.0.claim(key, claim, soon()).expect("a claim")
    }

    /// Claims what must be free.
    #[track_caller]
    pub fn lead(&self, key: &RecordKey, claim: &Claim<'_>) -> Led {
        led(claim, self.claim(key, claim))
    }

    #[track_caller]
    pub fn renew(&self, key: &RecordKey, held: Held, lease: Option<Duration>) -> Settled {
        self.0.renew(key, held, lease, soon()).expect("a renewal")
    }

    #[track_caller]
    pub fn checkpoint(&self, key: &RecordKey, held: Held, data: &[u8]) -> Settled {
        self.0.checkpoint(key, held, data, soon()).expect("a checkpoint")
    }

    #[track_caller]
    pub fn complete(&self, key: &RecordKey, held: Held, data: &[u8], ttl: Duration) -> Settled {
        self.respond(key, held, &Response::new(200, data), ttl)
    }

    #[track_caller]
    pub fn respond(&self, key: &RecordKey, held: Held, with: &Response, ttl: Duration) -> Settled {
        self.0.complete(key, held, with, ttl, soon()).expect("a completion")
    }

    #[track_caller]
    pub fn release(&self, key: &RecordKey, held: Held, release: Release) -> Settled {
        self.0.release(key, held, release, soon()).expect("a release")
    }

    #[track_caller]
    pub fn withdraw(&self, key: &RecordKey, token: Token) {
        self.0.withdraw(key, token, soon()).expect("a withdrawal");
    }

    #[track_caller]
    pub fn forget(&self, key: &RecordKey) -> bool {
        self.0.forget(key, soon()).expect("an answer")
    }

    #[track_caller]
    pub fn evict(&self, key: &RecordKey) -> bool {
        self.0.evict(key, soon()).expect("an answer")
    }

    #[track_caller]
    pub fn read(&self, key: &RecordKey) -> Option<Record> {
        self.0.read(key, soon()).expect("an answer")
    }

    /// What there must be.
    #[track_caller]
    pub fn record(&self, key: &RecordKey) -> Record {
        self.read(key).expect("a record")
    }

    #[track_caller]
    pub fn purge(&self, max: usize) -> usize {
        self.0.purge(max, soon()).expect("a number")
    }

    #[track_caller]
    pub fn listen(&self) -> Box<dyn News> {
        self.0.listen(soon()).expect("news")
    }

    /// Claims until the answer isn't that somebody leads.
    #[track_caller]
    pub fn outwait(&self, key: &RecordKey, claim: &Claim<'_>) -> Claimed {
        eventually("the end of the lease", || match self.claim(key, claim) {
            Claimed::InProgress { .. } => None,
            other => Some(other),
        })
    }
}

/// The deadline of a call that has time enough.
pub fn soon() -> Instant {
    Instant::now() + PATIENCE / 2
}

/// A claim that leads whatever it may, safe for long.
pub fn claim() -> Claim<'static> {
    Claim {
        token: Token::draw().expect("randomness"),
        fingerprint: Some(b"payload"),
        lease: Some(LONG),
        keep: Some(LONG),
        take_over: true,
        watch: false,
        following: None,
    }
}

/// One whose lease passes soon.
pub fn brief() -> Claim<'static> {
    Claim { lease: Some(SHORT), ..claim() }
}

pub const CANCEL: Release = Release::Cancel { successor: false, keep: LONG };
pub const SUCCEED: Release = Release::Cancel { successor: true, keep: LONG };

#[track_caller]
pub fn led(claim: &Claim<'_>, claimed: Claimed) -> Led {
    match claimed {
        Claimed::Lead(grant) => {
            Led { held: Held { token: claim.token, epoch: grant.epoch }, grant }
        }
        other => panic!("a lead was due: {other:?}"),
    }
}

#[track_caller]
pub fn completed(claimed: Claimed) -> Response {
    match claimed {
        Claimed::Completed(response) => response,
        other => panic!("a response was due: {other:?}"),
    }
}

/// The epoch, and what is left of the lease.
#[track_caller]
pub fn in_progress(claimed: Claimed) -> (u64, Option<Duration>) {
    match claimed {
        Claimed::InProgress { epoch, lease_left } => (epoch, lease_left),
        other => panic!("a lead of somebody else was due: {other:?}"),
    }
}

#[track_caller]
pub fn mismatch(claimed: &Claimed) {
    assert!(matches!(claimed, Claimed::Mismatch), "a mismatch was due: {claimed:?}");
}

#[track_caller]
pub fn unknown(claimed: &Claimed) {
    assert!(matches!(claimed, Claimed::Unknown), "an unknown outcome was due: {claimed:?}");
}

/// That a store failed.
#[track_caller]
pub fn failed<T: std::fmt::Debug>(result: Result<T, onceflight::Error>) {
    let error = result.expect_err("an error was due");
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
}

/// All that a record says which time doesn't change, to compare.
pub fn essence(record: Option<Record>) -> impl PartialEq + std::fmt::Debug {
    record.map(|it| {
        let leased = it.lease_left.map(|left| !left.is_zero());
        (it.state, it.fingerprint, it.epoch, it.attempt, leased, it.response, it.checkpoint)
    })
}

/// Runs `work` on so many threads at once, with their numbers.
pub fn at_once<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let one = |number| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(number)
            })
        };
        let all: Vec<_> = (0..threads).map(one).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}
