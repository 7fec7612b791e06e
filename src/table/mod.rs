//! The in-process table: leader, followers, and the window after them.
//!
//! From the outside in: this file is the API, with `builder`, `request`, `lead` and `follower`;
//! `engine` is what a table consists of; `begin`, `settle`, `clear` are its verbs and `upkeep` what
//! happens by itself; `index`, `line` and `flight` are the states and where they stand; `local` is
//! what each thread has of its own; `seat` is where followers wait, `window` what bounds the
//! responses kept, `deadlock` who waits for whom. All but the API is written over a `form`: what
//! keys and responses are made of, which is any Rust types (`typed`) or bytes (`bytes`).

// Five of these have unsafe code: where a key stands, what it owns, and what a thread has of its own.
// The measurements that pay for it are in docs/DESIGN.md.
mod begin;
mod builder;
#[cfg_attr(not(feature = "capi"), allow(dead_code))] // tables of bytes are C's; responses of bytes, stores' and sessions' too
#[allow(unsafe_code)]
mod bytes;
mod clear;
mod deadlock;
#[allow(clippy::unused_self, clippy::unnecessary_box_returns)]
// verbs alike; boxes are what lines own
mod engine;
#[allow(clippy::unnecessary_box_returns)] // boxes are what lines own
mod flight;
mod follower;
#[allow(unsafe_code)]
mod form;
mod index;
#[cfg_attr(not(feature = "capi"), allow(dead_code))] // tables of bytes are C's
mod key;
mod lead;
#[allow(unsafe_code)]
mod line;
#[allow(unsafe_code)]
mod local;
mod request;
mod seat;
#[allow(clippy::unused_self)] // verbs alike
mod settle;
mod stats;
#[allow(unsafe_code)]
mod typed;
mod upkeep;
mod window;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

pub use builder::{Builder, OnCancel, OnLeaseExpired};
pub use follower::Follower;
pub use lead::{Lead, Refused};
pub use request::Request;
pub use stats::Stats;

use crate::error::Error;
use crate::hash::SipState;
use begin::AtOnce;
use builder::Config;
use engine::{Granted, Inner};
use typed::{Asked, Typed};

#[cfg_attr(not(all(feature = "capi", feature = "store")), allow(unused_imports))]
pub(crate) mod internal {
    //! What the C ABI, tables over a store and sessions build on: the same verbs, with leads known by their id.
    pub(crate) use super::begin::AtOnce;
    pub(crate) use super::builder::Config;
    pub(crate) use super::bytes::{Bytes, Given, Head, Reply, Response};
    pub(crate) use super::deadlock::this_thread;
    pub(crate) use super::engine::{Ask, Follow, Granted, Inner, Step};
    pub(crate) use super::flight::Terms;
    pub(crate) use super::follower::{Arrived, Waiter};
    #[cfg(all(test, feature = "capi"))]
    pub(crate) use super::seat::tests::crowd;
    pub(crate) use super::seat::{Turn, Waker};
    pub(crate) use super::settle::LeadRef;
    pub(crate) use super::typed::{Asked, Typed, Work};
}

/// What can be a key: anything owned that can be compared and shared between threads.
pub trait Key: Eq + Send + Sync + 'static {}
impl<T: Eq + Send + Sync + 'static> Key for T {}

/// What can be a value: anything owned that can be shared between threads.
pub trait Value: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Value for T {}

/// Makes identical requests run once: for each key at most one caller, the *leader*, does the work,
/// and every other caller with that key gets its outcome.
///
/// The states of a key, and what each call does in them:
///
/// | state | `begin` | `complete` | `cancel` | abandoned, or the lease passes | `decline` |
/// |-|-|-|-|-|-|
/// | vacant | leads | | | | |
/// | in flight | waits; `Shared` once it completes | the followers get it; kept for its ttl | the first in line leads, or all get `Cancelled` | the first in line, or the next begin, leads; or unknown, by policy | all followers get `Bypass` |
/// | completed | `Replayed`, until the ttl passes | | | | |
/// | unknown | `Unknown`; leads if flagged `recover` | by the old lead, while nobody has recovered | | | |
///
/// A table is shared by reference or in an `Arc`; all methods may be called from any thread.
/// Distinct keys never wait for each other's work, and no user code runs under a lock but a key's
/// `Eq`. After a `fork` the child's copy says [`Forked`](crate::ErrorKind::Forked).
///
/// ```
/// use onceflight::{DedupTable, Role};
///
/// let table: DedupTable<String, u64> = DedupTable::new();
/// let outcome = table.run("answer", || 42)?;
/// assert_eq!((outcome.value, outcome.role), (42, Role::Led));
/// # Ok::<(), onceflight::Error>(())
/// ```
pub struct DedupTable<K: Key, V: Value, S = SipState> {
    inner: Arc<Inner<Typed<K, V>>>,
    hasher: S,
}

/// What [`DedupTable::begin`] found.
#[must_use = "a dropped lead abandons its flight"]
#[derive(Debug)]
pub enum Begin<'t, K: Key, V: Value> {
    /// This caller does the work, and settles.
    Lead(Lead<'t, K, V>),
    /// The outcome of the flight that this caller waited for.
    Shared(V),
    /// A response completed earlier, within its ttl.
    Replayed(V),
    /// The leader declined to share: do the work yourself, and settle nothing.
    Bypass,
}

/// What [`DedupTable::try_begin`] found.
#[must_use = "a dropped lead abandons its flight, and a dropped follower leaves the line"]
#[derive(Debug)]
pub enum TryBegin<'t, K: Key, V: Value, S = SipState> {
    /// This caller does the work, and settles.
    Lead(Lead<'t, K, V>),
    /// The key is in flight: this is a place in its line.
    Follower(Follower<'t, K, V, S>),
    /// A response completed earlier, within its ttl.
    Replayed(V),
}

/// What [`DedupTable::run`] has, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<V> {
    /// The response.
    pub value: V,
    /// Whose work it is.
    pub role: Role,
}

/// How a caller came by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// It did the work, and the followers have its value (unless that was too large to share).
    Led,
    /// It waited for the leader's.
    Shared,
    /// It was completed earlier.
    Replayed,
    /// The leader declined, so it did its own work.
    Bypassed,
    /// It did the work, but it wasn't the leader any more by then: the value is this caller's alone,
    /// and the followers have another's.
    Overtaken,
    /// It did the work, but the store couldn't be told: the value is this caller's alone, and the
    /// next leader may do the work again. Tables in memory have no such thing.
    Unrecorded,
}

impl<K, V> DedupTable<K, V>
where
    K: Hash + Key,
    V: Clone + Value,
{
    /// A table that shares what is in flight and keeps nothing; see [`Builder`] for the limits.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets up a table.
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }
}

impl<K, V, S> DedupTable<K, V, S>
where
    K: Hash + Key,
    V: Clone + Value,
    S: BuildHasher,
{
    /// Leads by calling `work`, or waits for the caller that does.
    ///
    /// If `work` panics the flight is abandoned, the next in line leads, and the panic goes on. A
    /// failure that is to be shared belongs into `V`, as a `Result` with a cloneable error.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) where `work`, on this thread or in a ring of
    /// threads, begins what is waiting for it; [`Closed`](crate::ErrorKind::Closed),
    /// [`Overloaded`](crate::ErrorKind::Overloaded), [`Unknown`](crate::ErrorKind::Unknown),
    /// [`Mismatch`](crate::ErrorKind::Mismatch), [`Cancelled`](crate::ErrorKind::Cancelled),
    /// [`Forked`](crate::ErrorKind::Forked).
    pub fn run<Q>(&self, key: &Q, work: impl FnOnce() -> V) -> Result<Outcome<V>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        self.request(key).run(work)
    }

    /// Leads, or waits for as long as it takes.
    #[inline(always)]
    pub fn begin<Q>(&self, key: &Q) -> Result<Begin<'_, K, V>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        let (inner, asked) = (&self.inner, self.asked(key));
        match inner.begin_typed(&asked, &inner.usual, None) {
            AtOnce::Lead(id) => {
                let granted = Granted { id, attempt: 1 };
                Ok(Begin::Lead(Lead::new(inner, asked.hash, granted, &inner.usual)))
            }
            AtOnce::Replay(value) => Ok(Begin::Replayed(value)),
            _ => Request::begin_plainly(self, &asked).map(|begun| *begun),
        }
    }

    /// Leads, or waits for at most `timeout`: [`Timeout`](crate::ErrorKind::Timeout). Zero doesn't wait.
    pub fn begin_timeout<Q>(&self, key: &Q, timeout: Duration) -> Result<Begin<'_, K, V>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        self.request(key).timeout(timeout).begin()
    }

    /// Leads, or takes a place in line without blocking.
    pub fn try_begin<Q>(&self, key: &Q) -> Result<TryBegin<'_, K, V, S>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        self.request(key).try_begin()
    }

    /// A request with terms of its own.
    #[inline(always)]
    pub fn request<'r, Q>(&self, key: &'r Q) -> Request<'_, 'r, K, V, S, Q>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        Request::new(self, key)
    }
}

impl<K, V, S> DedupTable<K, V, S>
where
    K: Hash + Key,
    V: Value,
    S: BuildHasher,
{
    fn with(form: Typed<K, V>, config: Config, hasher: S) -> Self {
        Self { inner: Inner::new(form, config), hasher }
    }

    /// Drops a completed response, or detaches a flight: its followers still get its outcome, or
    /// begin again if it fails, while a new begin starts afresh. What a detached flight completes
    /// with isn't kept. An unknown outcome is forgotten. Answers whether there was anything.
    pub fn forget<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        self.inner.forget(&self.asked(key))
    }

    #[inline(always)]
    fn asked<'a, Q: Hash + ?Sized>(&self, key: &'a Q) -> Asked<'a, K, Q> {
        Asked {
            key,
            hash: self.hasher.hash_one(key),
            shared: self.inner.form.weigher.is_some(),
            kind: PhantomData,
        }
    }
}

impl<K: Key, V: Value, S> DedupTable<K, V, S> {
    /// Refuses new begins and wakes every follower with [`Closed`](crate::ErrorKind::Closed). Leads
    /// still settle. Dropping a table closes it.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Counters. In the child of a fork they are all zero.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn inner(&self) -> &Arc<Inner<Typed<K, V>>> {
        &self.inner
    }

    /// Rings the alarms that the model's clock has passed.
    #[cfg(onceflight_shuttle)]
    pub fn tick(&self) {
        self.inner.alarms.ring_due();
        self.inner.reaper.ring_due();
    }
}

impl<K, V> Default for DedupTable<K, V>
where
    K: Hash + Key,
    V: Clone + Value,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V: Value, S> Drop for DedupTable<K, V, S> {
    fn drop(&mut self) {
        self.inner.abolish();
    }
}

impl<K: Key, V: Value, S> fmt::Debug for DedupTable<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DedupTable").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
