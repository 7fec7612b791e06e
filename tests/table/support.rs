//! Waiting for events, and taking outcomes apart.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onceflight::{Begin, DedupTable, Error, ErrorKind, Follower, Lead, TryBegin};

#[path = "../support/patience.rs"]
#[allow(dead_code, reason = "shared")]
mod patience;
pub use patience::{PATIENCE, pass, wait_until, within};

/// A lease or a ttl that never passes during a test.
pub const LONG: Duration = Duration::from_secs(3600);
/// One that a test waits for.
pub const SHORT: Duration = Duration::from_millis(20);

pub type Table = DedupTable<String, u64>;

/// Waits until so many followers are in line.
pub fn in_line<K, V, S>(table: &DedupTable<K, V, S>, count: u64)
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    wait_until("followers in line", || table.stats().waiting == count);
}

pub fn kind<T>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was due"),
        Err(error) => error.kind(),
    }
}

/// Takes outcomes apart, and says what came instead.
pub trait Taken<'t, K: Eq + Send + Sync + 'static, V: Send + Sync + 'static> {
    fn lead(self) -> Lead<'t, K, V>;
    fn shared(self) -> V;
    fn replayed(self) -> V;
}

impl<'t, K, V> Taken<'t, K, V> for Result<Begin<'t, K, V>, Error>
where
    K: Eq + Debug + Send + Sync + 'static,
    V: Debug + Send + Sync + 'static,
{
    #[track_caller]
    fn lead(self) -> Lead<'t, K, V> {
        match self {
            Ok(Begin::Lead(lead)) => lead,
            other => panic!("a lead was due: {other:?}"),
        }
    }

    #[track_caller]
    fn shared(self) -> V {
        match self {
            Ok(Begin::Shared(value)) => value,
            other => panic!("a shared response was due: {other:?}"),
        }
    }

    #[track_caller]
    fn replayed(self) -> V {
        match self {
            Ok(Begin::Replayed(value)) => value,
            other => panic!("a replay was due: {other:?}"),
        }
    }
}

#[track_caller]
pub fn follower<K, V, S>(begun: Result<TryBegin<'_, K, V, S>, Error>) -> Follower<'_, K, V, S>
where
    K: Eq + Debug + Send + Sync + 'static,
    V: Debug + Send + Sync + 'static,
{
    match begun {
        Ok(TryBegin::Follower(follower)) => follower,
        Ok(TryBegin::Lead(lead)) => panic!("a place in line was due: {lead:?}"),
        Ok(TryBegin::Replayed(value)) => panic!("a place in line was due: {value:?}"),
        Err(error) => panic!("a place in line was due: {error:?}"),
    }
}

/// How many of something are alive.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<AtomicUsize>);

impl Census {
    pub fn alive(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub fn member(&self, id: u64) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted { id, census: self.clone() }
    }
}

/// Counted while it lives; its clones are too.
#[derive(Debug)]
pub struct Counted {
    pub id: u64,
    census: Census,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.census.member(self.id)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Counted {}

impl std::hash::Hash for Counted {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// All keys in one shard, and all with one hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneShard;

impl std::hash::BuildHasher for OneShard {
    type Hasher = Zero;
    fn build_hasher(&self) -> Zero {
        Zero
    }
}

pub struct Zero;

impl std::hash::Hasher for Zero {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, _: &[u8]) {}
}
