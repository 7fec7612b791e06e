//! A table as C has it: in memory, or over a store. The same verbs, so that nothing above has to know.

use std::sync::Arc;
use std::time::Duration;

use super::code::{Failure, ONCEFLIGHT_E_TOO_LARGE};
use super::options::{Lengths, onceflight_options};
use super::request::Parsed;
use super::turn;
use crate::Stats;
use crate::clock::{self, NEVER};
use crate::error::Error;
use crate::hash::SipState;
#[cfg(feature = "store")]
use crate::idempotency::internal::{Asking, Attempt, Begun, Config, Led, Pending, Shared};
#[cfg(feature = "store")]
use crate::store::{self, RecordKey};
use crate::table::internal::{
    Arrived, Ask, Bytes, Follow, Given, Inner, LeadRef, Reply, Response, Step, Terms, Waiter,
    Waker, this_thread,
};

pub(super) enum Table {
    Memory(Memory),
    #[cfg(feature = "store")]
    Store(Durable),
}

/// A table of keys and responses in memory.
pub(super) struct Memory {
    pub inner: Arc<Inner<Bytes>>,
    pub lengths: Lengths,
    /// Keys from outside may be chosen to collide, so the hash has a secret of its own.
    hasher: SipState,
}

/// A table over a store.
#[cfg(feature = "store")]
pub(super) struct Durable {
    shared: Arc<Shared>,
    lengths: Lengths,
}

/// An outcome, or what it is to be waited for on. It needs nothing of the table's handle any more,
/// which so may be freed meanwhile.
pub(super) enum Next {
    Have(Arrived<Response>),
    Wait(Waiter<Bytes>),
    #[cfg(feature = "store")]
    Attempt(Box<Attempt>),
}

/// A begin whose outcome arrives on a queue.
pub(super) enum Follower {
    Memory(Waiter<Bytes>),
    #[cfg(feature = "store")]
    Store(Pending),
}

/// What `onceflight_lead_details` tells.
pub(super) struct Details {
    pub fence: u64,
    pub attempt: u32,
    pub checkpoint: Option<Arc<[u8]>>,
}

impl Memory {
    pub fn new(options: &onceflight_options) -> Self {
        let inner = Inner::new(Bytes, options.config());
        Self { inner, lengths: options.lengths(), hasher: SipState::new() }
    }

    #[inline(always)]
    pub fn given<'a>(&self, key: &'a [u8]) -> Given<'a> {
        Given { key, hash: self.hasher.hash_bytes(key) }
    }

    /// Leads, replays, or takes a place in line.
    fn begin(
        &self,
        parsed: &Parsed<'_>,
        follow: Follow,
        waker: Option<Arc<dyn Waker>>,
    ) -> Result<Next, Failure> {
        let config = &self.inner.config;
        let usual = &self.inner.usual;
        let terms = Terms {
            lease: parsed.lease.map_or(usual.lease, |lease| config.lease_of(lease)),
            ttl: parsed.ttl.map_or(usual.ttl, clock::span),
            thread: if parsed.same_thread { this_thread() } else { 0 },
            recover: parsed.recover,
        };
        let deadline = match follow {
            Follow::Later => clock::after(clock::span(parsed.timeout)),
            Follow::No | Follow::Blocking => NEVER,
        };
        let ask = Ask { terms, fingerprint: parsed.fingerprint, follow, deadline };
        let given = self.given(parsed.key);
        Ok(match self.inner.begin(&given, &ask, waker.as_ref())? {
            Step::Lead(granted) => Next::Have(Arrived::Lead(granted)),
            Step::Replay(response) => Next::Have(Arrived::Replayed(response)),
            Step::Follow(joined) => {
                let waiter = Waiter::new(joined, given.hash, &ask, waker);
                Next::Wait(waiter.in_turn(parsed.in_turn))
            }
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.inner.abolish();
    }
}

#[cfg(feature = "store")]
impl Durable {
    fn open(url: &str, options: &onceflight_options) -> Result<Self, Error> {
        let (config, lengths): (Config, Lengths) = (options.store_config(), options.lengths());
        Ok(Self { shared: Shared::new(store::open(url)?, config), lengths })
    }

    fn asking(&self, parsed: &Parsed<'_>) -> Result<Asking, Error> {
        let lease = parsed.lease.map(|lease| (lease != clock::FOREVER).then_some(lease));
        Ok(Asking {
            key: Arc::new(self.key(parsed.key)?),
            fingerprint: parsed.fingerprint.map(Into::into),
            timeout: parsed.timeout,
            lease: lease.unwrap_or(self.shared.config().lease),
            ttl: parsed.ttl.unwrap_or(self.shared.config().ttl),
            recover: parsed.recover,
            thread: if parsed.same_thread { this_thread() } else { 0 },
        })
    }

    fn key(&self, key: &[u8]) -> Result<RecordKey, Error> {
        RecordKey::new(&self.shared.config().scope, key)
    }
}

#[cfg(feature = "store")]
impl Drop for Durable {
    fn drop(&mut self) {
        self.shared.abolish();
    }
}

impl Table {
    /// `None`: a table in memory.
    pub fn open(url: Option<&str>, options: &onceflight_options) -> Result<Self, Failure> {
        match url {
            None => Ok(Self::Memory(Memory::new(options))),
            #[cfg(feature = "store")]
            Some(url) => Ok(Self::Store(Durable::open(url, options)?)),
            #[cfg(not(feature = "store"))]
            Some(url) => Err(no_store(url)),
        }
    }

    #[inline(always)]
    #[cfg_attr(not(feature = "store"), allow(clippy::unnecessary_wraps))] // then it always is
    pub fn in_memory(&self) -> Option<&Memory> {
        match self {
            Self::Memory(table) => Some(table),
            #[cfg(feature = "store")]
            Self::Store(_) => None,
        }
    }

    pub fn lengths(&self) -> &Lengths {
        match self {
            Self::Memory(table) => &table.lengths,
            #[cfg(feature = "store")]
            Self::Store(table) => &table.lengths,
        }
    }

    pub fn verbs(&self) -> Verbs<'_> {
        match self {
            Self::Memory(table) => Verbs::Memory(table),
            #[cfg(feature = "store")]
            Self::Store(table) => Verbs::Store(Arc::clone(&table.shared)),
        }
    }

    pub fn check_fork(&self) -> Result<(), Error> {
        match self {
            Self::Memory(table) => table.inner.check_fork(),
            #[cfg(feature = "store")]
            Self::Store(table) => table.shared.check_fork(),
        }
    }

    /// A begin on a thread that may block.
    pub fn begin(&self, parsed: &Parsed<'_>) -> Result<Next, Failure> {
        match self {
            Self::Memory(table) => {
                let no_wait = parsed.timeout.is_zero();
                table.begin(parsed, if no_wait { Follow::No } else { Follow::Blocking }, None)
            }
            #[cfg(feature = "store")]
            Self::Store(table) => {
                let attempt = Attempt::new(&table.shared, table.asking(parsed)?, None);
                Ok(Next::Attempt(Box::new(attempt)))
            }
        }
    }

    /// A begin that doesn't block, and rings when there is something to look at.
    pub fn begin_later(
        &self,
        parsed: &Parsed<'_>,
        bell: Arc<dyn Waker>,
    ) -> Result<Result<Follower, Arrived<Response>>, Failure> {
        match self {
            Self::Memory(table) => {
                let no_wait = parsed.timeout.is_zero();
                let follow = if no_wait { Follow::No } else { Follow::Later };
                Ok(match table.begin(parsed, follow, Some(bell))? {
                    Next::Have(arrived) => Err(arrived),
                    Next::Wait(waiter) => Ok(Follower::Memory(waiter)),
                    #[cfg(feature = "store")]
                    Next::Attempt(_) => unreachable!("in memory"),
                })
            }
            #[cfg(feature = "store")]
            Self::Store(table) => {
                let pending = Pending::begin(&table.shared, table.asking(parsed)?, bell)?;
                Ok(Ok(Follower::Store(pending)))
            }
        }
    }

    pub fn details(&self, lead: u64) -> Result<Details, Error> {
        match self {
            Self::Memory(table) => {
                let details = table.inner.details(LeadRef::named(lead))?;
                let (attempt, checkpoint) = (details.attempt, details.checkpoint);
                Ok(Details { fence: lead, attempt, checkpoint })
            }
            #[cfg(feature = "store")]
            Self::Store(table) => {
                let details = table.shared.details(lead)?;
                let (attempt, checkpoint) = (details.attempt, details.checkpoint);
                Ok(Details { fence: details.fence, attempt, checkpoint })
            }
        }
    }

    pub fn close(&self) {
        match self {
            Self::Memory(table) => table.inner.close(),
            #[cfg(feature = "store")]
            Self::Store(table) => table.shared.close(),
        }
    }

    pub fn stats(&self) -> Stats {
        match self {
            Self::Memory(table) => table.inner.stats(),
            #[cfg(feature = "store")]
            Self::Store(table) => table.shared.stats(),
        }
    }

    /// Refuses more bytes than a response may have. Their number is looked at first: one made up by
    /// mistake must not be read.
    pub fn check_response_len(&self, len: usize) -> Result<(), Failure> {
        let most = self.lengths().response;
        if len <= most {
            return Ok(());
        }
        let detail = format!("{len} bytes; max_response_len is {most}");
        Err(Failure::new(ONCEFLIGHT_E_TOO_LARGE, detail))
    }
}

/// The verbs that over a store block: there they hold what they need, since the table may be freed
/// meanwhile. (In memory they don't block.)
pub(super) enum Verbs<'a> {
    Memory(&'a Memory),
    #[cfg(feature = "store")]
    Store(Arc<Shared>),
}

impl Verbs<'_> {
    pub fn complete(
        &self,
        lead: u64,
        status: i32,
        data: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        match self {
            Self::Memory(table) => {
                let (lead, reply) = (LeadRef::named(lead), Reply::new(status, data));
                let done = table.inner.complete_in_full(lead, reply, ttl.map(clock::span));
                done.map_err(|(error, _)| error)
            }
            #[cfg(feature = "store")]
            Self::Store(shared) => shared.complete(lead, &store::Response::new(status, data), ttl),
        }
    }

    pub fn settle(&self, lead: u64, how: Settle) -> Result<(), Error> {
        match self {
            Self::Memory(table) => {
                let (inner, lead) = (&table.inner, LeadRef::named(lead));
                match how {
                    Settle::Cancel => inner.cancel(lead),
                    Settle::Abandon => inner.abandon(lead),
                    Settle::Decline => inner.decline(lead),
                }
            }
            #[cfg(feature = "store")]
            Self::Store(shared) => match how {
                Settle::Cancel => shared.cancel(lead),
                Settle::Abandon => given_up(shared, lead, shared.abandon(lead)),
                Settle::Decline => shared.decline(lead),
            },
        }
    }

    pub fn settle_with(
        &self,
        lead: u64,
        how: SettleWith,
        status: i32,
        data: &[u8],
    ) -> Result<(), Error> {
        match self {
            Self::Memory(table) => {
                let (inner, lead) = (&table.inner, LeadRef::named(lead));
                let response = Response::of(status, data, &[]);
                match how {
                    SettleWith::Cancel => inner.cancel_with(lead, response),
                    SettleWith::Abandon => inner.abandon_with(lead, response),
                }
            }
            #[cfg(feature = "store")]
            Self::Store(shared) => {
                let response = store::Response::new(status, data);
                match how {
                    SettleWith::Cancel => shared.cancel_with(lead, response),
                    SettleWith::Abandon => {
                        given_up(shared, lead, shared.abandon_with(lead, response))
                    }
                }
            }
        }
    }

    pub fn renew(&self, lead: u64, lease: Option<Duration>) -> Result<(), Error> {
        match self {
            Self::Memory(table) => {
                let lease = lease.map(|lease| table.inner.config.lease_of(lease));
                table.inner.renew(LeadRef::named(lead), lease)
            }
            #[cfg(feature = "store")]
            Self::Store(shared) => shared.renew(lead, lease),
        }
    }

    pub fn checkpoint(&self, lead: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Memory(table) => table.inner.set_checkpoint(LeadRef::named(lead), data),
            #[cfg(feature = "store")]
            Self::Store(shared) => shared.checkpoint(lead, data),
        }
    }

    pub fn forget(&self, key: &[u8]) -> Result<bool, Error> {
        match self {
            Self::Memory(table) => table.inner.forget(&table.given(key)),
            #[cfg(feature = "store")]
            Self::Store(shared) => shared.forget(&RecordKey::new(&shared.config().scope, key)?),
        }
    }
}

/// How a lead ends without a response.
#[derive(Clone, Copy)]
pub(super) enum Settle {
    Cancel,
    Abandon,
    Decline,
}

/// How a lead ends with a response that isn't kept.
#[derive(Clone, Copy)]
pub(super) enum SettleWith {
    Cancel,
    Abandon,
}

/// Who abandons has nothing more to say, so what the store couldn't be told now is told it later.
#[cfg(feature = "store")]
fn given_up(shared: &Shared, lead: u64, abandoned: Result<(), Error>) -> Result<(), Error> {
    abandoned.inspect_err(|_| shared.give_up(lead, clock::instant_after(Duration::ZERO)))
}

impl Next {
    /// Blocks until there is an outcome.
    pub fn wait(self, timeout: Duration) -> Result<Arrived<Response>, Error> {
        match self {
            Self::Have(arrived) => Ok(arrived),
            Self::Wait(mut waiter) => {
                let arrived = waiter.wait(clock::after(clock::span(timeout)), true);
                turn::begin(waiter.turn());
                arrived
            }
            #[cfg(feature = "store")]
            Self::Attempt(attempt) => attempt.run().map(arrived),
        }
    }
}

impl Follower {
    /// Whether there may be something to look at.
    pub fn is_told(&self) -> bool {
        match self {
            Self::Memory(waiter) => waiter.is_told(),
            #[cfg(feature = "store")]
            Self::Store(pending) => pending.is_told(),
        }
    }

    /// The outcome, if it is there.
    pub fn poll(&mut self) -> Option<Result<Arrived<Response>, Error>> {
        match self {
            Self::Memory(waiter) => waiter.poll(),
            #[cfg(feature = "store")]
            Self::Store(pending) => pending.poll().map(|begun| begun.map(arrived)),
        }
    }
}

/// An outcome of a store's table as one in memory has it.
#[cfg(feature = "store")]
fn arrived(begun: Begun) -> Arrived<Response> {
    use crate::table::internal::Granted;
    match begun {
        Begun::Lead(Led { name, attempt, .. }) => Arrived::Lead(Granted { id: name, attempt }),
        Begun::Shared(response) => Arrived::Shared(response.into_block()),
        Begun::Replayed(response) => Arrived::Replayed(response.into_block()),
        Begun::Bypass => Arrived::Bypass,
    }
}

/// Of the URL only the scheme is told: the rest may have a password in it.
#[cfg(not(feature = "store"))]
fn no_store(url: &str) -> Failure {
    const SCHEMES: [&str; 7] =
        ["sqlite", "postgres", "postgresql", "redis", "rediss", "redis-cluster", "memcached"];
    match url.split_once(':').filter(|(scheme, _)| SCHEMES.contains(scheme)) {
        Some((scheme, _)) => Failure::new(
            super::code::ONCEFLIGHT_E_UNSUPPORTED,
            format!("this build has no stores, so it can't open {scheme}:"),
        ),
        None => Failure::invalid(
            "the URL is none of memory:, sqlite:PATH, postgres://, redis://, redis-cluster://, memcached://",
        ),
    }
}
