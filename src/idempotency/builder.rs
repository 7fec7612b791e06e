//! How a table over a store behaves: its options, their defaults, and what each is for.

use std::sync::Arc;
use std::time::Duration;

use super::IdempotencyTable;
use super::shared::Shared;
use crate::clock::FOREVER;
use crate::error::{Error, ErrorKind};
use crate::store::{self, RecordKey, Store};
use crate::table::{OnCancel, OnLeaseExpired};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub scope: Box<[u8]>,
    pub ttl: Duration,
    pub lease: Option<Duration>,
    pub heartbeat: bool,
    pub max_lead: Duration,
    pub store_timeout: Duration,
    pub offer: Duration,
    pub max_in_flight: usize,
    pub max_waiters: usize,
    pub max_key_len: usize,
    pub max_response_len: usize,
    pub on_cancel: OnCancel,
    pub on_lease_expired: OnLeaseExpired,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scope: Box::default(),
            ttl: Duration::from_secs(24 * 3600),
            lease: Some(Duration::from_secs(30)),
            heartbeat: true,
            max_lead: Duration::from_secs(600),
            store_timeout: Duration::from_secs(5),
            offer: Duration::from_secs(5),
            max_in_flight: 1 << 20,
            max_waiters: 1 << 14,
            max_key_len: 64 << 10,
            max_response_len: 16 << 20,
            on_cancel: OnCancel::default(),
            on_lease_expired: OnLeaseExpired::default(),
        }
    }
}

/// How long a lead that was lost or cancelled is remembered for its successor: as long as a response
/// would be. Where responses aren't kept, its fingerprint, attempt and checkpoint still are.
pub(super) fn remembered(ttl: Duration) -> Duration {
    const NOTHING_KEPT: Duration = Duration::from_secs(60);
    if ttl.is_zero() { NOTHING_KEPT } else { ttl }
}

/// A lease as stores have it: `Duration::MAX` doesn't end.
pub(super) fn ending(lease: Duration) -> Option<Duration> {
    (lease != FOREVER).then_some(lease)
}

/// Sets up an [`IdempotencyTable`].
///
/// | option | default |
/// |-|-|
/// | [`scope`](Self::scope) | empty |
/// | [`ttl`](Self::ttl) | 24 hours |
/// | [`lease`](Self::lease) | 30 s |
/// | [`heartbeat`](Self::heartbeat), [`max_lead`](Self::max_lead) | on, 10 minutes |
/// | [`store_timeout`](Self::store_timeout) | 5 s |
/// | [`max_in_flight`](Self::max_in_flight) | 1,048,576 keys |
/// | [`max_waiters`](Self::max_waiters) | 16,384 a key |
/// | [`max_key_len`](Self::max_key_len), [`max_response_len`](Self::max_response_len) | 64 KiB, 16 MiB |
/// | [`on_cancel`](Self::on_cancel) | [`OnCancel::Promote`] |
/// | [`on_lease_expired`](Self::on_lease_expired) | [`OnLeaseExpired::TakeOver`] |
///
/// Tables of several processes over one store should agree on `on_lease_expired` and `lease`.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it opens a table"]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// Whose keys these are: records of other scopes are other records. A request may say another.
    /// At most [`RecordKey::MAX_SCOPE`] bytes.
    pub fn scope(mut self, scope: impl AsRef<[u8]>) -> Self {
        self.config.scope = scope.as_ref().into();
        self
    }

    /// How long a response is replayed, from its completion on.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = ttl;
        self
    }

    /// How long a lead that isn't renewed is safe from being taken over. `Duration::MAX`: for ever,
    /// so that a crash leaves the key in progress until an operator evicts it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = ending(lease);
        self
    }

    /// Whether leads are renewed by themselves, at half the lease, while the process lives.
    pub fn heartbeat(mut self, on: bool) -> Self {
        self.config.heartbeat = on;
        self
    }

    /// How long a heartbeat renews a lead that doesn't settle.
    pub fn max_lead(mut self, max: Duration) -> Self {
        self.config.max_lead = max;
        self
    }

    /// How long the store may take over one answer. A settle is tried again that long.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.config.store_timeout = timeout;
        self
    }

    /// How long a lead waits on an event queue to be read. At least a millisecond.
    #[cfg_attr(not(feature = "capi"), doc(hidden))]
    pub fn offer(mut self, offer: Duration) -> Self {
        self.config.offer = offer.max(Duration::from_millis(1));
        self
    }

    /// Keys that callers of this process begin at once; more are
    /// [`Overloaded`](ErrorKind::Overloaded).
    pub fn max_in_flight(mut self, max: usize) -> Self {
        self.config.max_in_flight = max;
        self
    }

    /// Followers of one key in this process; more are [`Overloaded`](ErrorKind::Overloaded).
    pub fn max_waiters(mut self, max: usize) -> Self {
        self.config.max_waiters = max;
        self
    }

    /// Bytes of a key, or of a fingerprint; more are [`TooLarge`](ErrorKind::TooLarge).
    pub fn max_key_len(mut self, max: usize) -> Self {
        self.config.max_key_len = max;
        self
    }

    /// Bytes of a response, or of a checkpoint; more are [`TooLarge`](ErrorKind::TooLarge), and the
    /// lead stays live.
    pub fn max_response_len(mut self, max: usize) -> Self {
        self.config.max_response_len = max;
        self
    }

    /// What becomes of the followers in this process when a leader cancels.
    pub fn on_cancel(mut self, policy: OnCancel) -> Self {
        self.config.on_cancel = policy;
        self
    }

    /// What becomes of a key whose leader was lost.
    pub fn on_lease_expired(mut self, policy: OnLeaseExpired) -> Self {
        self.config.on_lease_expired = policy;
        self
    }

    /// A table over the store with that URL; see [`store::open`].
    pub fn open(self, url: &str) -> Result<IdempotencyTable, Error> {
        self.checked()?.over(store::open(url)?)
    }

    /// A table over that store.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): an option that can't be meant.
    pub fn over(self, store: Arc<dyn Store>) -> Result<IdempotencyTable, Error> {
        let Self { config } = self.checked()?;
        Ok(IdempotencyTable { shared: Shared::new(store, config) })
    }

    fn checked(self) -> Result<Self, Error> {
        let invalid = |detail: &'static str| Err(Error::new(ErrorKind::Invalid, detail));
        RecordKey::new(&self.config.scope, [])?;
        if self.config.lease.is_some_and(|lease| lease.is_zero()) {
            return invalid("a lease of 0 would be over at once; Duration::MAX never ends");
        }
        if self.config.store_timeout.is_zero() {
            return invalid("a store_timeout of 0 would let no answer arrive");
        }
        Ok(self)
    }
}
