//! One request with terms of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Asking, Attempt, Begun};
use super::builder::ending;
use super::lead::{Lead, Refused};
use super::shared::Shared;
use super::{Begin, check_len};
use crate::clock::FOREVER;
use crate::error::{Error, ErrorKind};
use crate::store::{RecordKey, Response};
use crate::table::internal::this_thread;
use crate::table::{Outcome, Role};

/// A request to begin, with its own scope, timeout, lease, ttl, fingerprint and flags; what isn't set
/// is the table's.
#[must_use = "a request does nothing until it begins"]
pub struct Request<'t, 'r> {
    shared: &'t Arc<Shared>,
    key: &'r [u8],
    scope: Option<&'r [u8]>,
    fingerprint: Option<&'r [u8]>,
    timeout: Duration,
    lease: Option<Duration>,
    ttl: Option<Duration>,
    recover: bool,
    same_thread: bool,
}

impl<'t, 'r> Request<'t, 'r> {
    pub(super) fn new(shared: &'t Arc<Shared>, key: &'r [u8]) -> Self {
        Self {
            shared,
            key,
            scope: None,
            fingerprint: None,
            timeout: FOREVER,
            lease: None,
            ttl: None,
            recover: false,
            same_thread: false,
        }
    }

    /// Whose key it is.
    pub fn scope(mut self, scope: &'r (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.scope = Some(scope.as_ref());
        self
    }

    /// Bytes that say "the same payload": a key in use with others is a
    /// [`Mismatch`](ErrorKind::Mismatch). None equals only none.
    pub fn fingerprint(mut self, fingerprint: &'r (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.fingerprint = Some(fingerprint.as_ref());
        self
    }

    /// How long to wait for a flight; zero asks the store once and doesn't wait. For ever, if not set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The lease of the lead, should this request lead. `Duration::MAX`: for ever.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long the response is kept, should this request lead.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// May lead where an earlier attempt's outcome is unknown.
    pub fn recover(mut self) -> Self {
        self.recover = true;
        self
    }

    /// Promises to settle the lead on this thread, so that a wait that would never end is found:
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock).
    pub fn same_thread(mut self) -> Self {
        self.same_thread = true;
        self
    }

    /// Leads, or waits for the outcome.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store): nothing was executed on its word.
    /// [`Mismatch`](ErrorKind::Mismatch), [`Timeout`](ErrorKind::Timeout),
    /// [`Unknown`](ErrorKind::Unknown), [`Cancelled`](ErrorKind::Cancelled),
    /// [`TooLarge`](ErrorKind::TooLarge), [`Overloaded`](ErrorKind::Overloaded),
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock), [`Closed`](ErrorKind::Closed),
    /// [`Forked`](ErrorKind::Forked).
    pub fn begin(self) -> Result<Begin<'t>, Error> {
        let asking = self.asking()?;
        Ok(match Attempt::new(self.shared, asking, None).run()? {
            Begun::Lead(led) => Begin::Lead(Lead::new(self.shared, led)),
            Begun::Shared(response) => Begin::Shared(response),
            Begun::Replayed(response) => Begin::Replayed(response),
            Begun::Bypass => Begin::Bypass,
        })
    }

    /// Leads by calling `work`, or waits for the caller that does.
    ///
    /// If `work` panics the key is abandoned, and the panic goes on. A response that can't be stored
    /// is the caller's all the same: see [`Role::Overtaken`] and [`Role::Unrecorded`].
    pub fn run(self, work: impl FnOnce() -> Response) -> Result<Outcome<Response>, Error> {
        let (value, role) = match self.same_thread().begin()? {
            Begin::Lead(lead) => {
                let response = work();
                let role = publish(lead, response.clone());
                (response, role)
            }
            Begin::Shared(response) => (response, Role::Shared),
            Begin::Replayed(response) => (response, Role::Replayed),
            Begin::Bypass => (work(), Role::Bypassed),
        };
        Ok(Outcome { value, role })
    }

    pub(super) fn shared(&self) -> &'t Arc<Shared> {
        self.shared
    }

    pub(super) fn asking(&self) -> Result<Asking, Error> {
        let config = &self.shared.config;
        check_len(self.key, config.max_key_len, "key")?;
        check_len(self.fingerprint.unwrap_or_default(), config.max_key_len, "fingerprint")?;
        if self.lease.is_some_and(|lease| lease.is_zero()) {
            return Err(Error::new(ErrorKind::Invalid, "a lease of 0 would be over at once"));
        }
        Ok(Asking {
            key: Arc::new(RecordKey::new(self.scope.unwrap_or(&config.scope), self.key)?),
            fingerprint: self.fingerprint.map(Into::into),
            timeout: self.timeout,
            lease: self.lease.map_or(config.lease, ending),
            ttl: self.ttl.unwrap_or(config.ttl),
            recover: self.recover,
            thread: if self.same_thread { this_thread() } else { 0 },
        })
    }
}

/// Stores and shares what `run` has made. What is too large to be stored is declined, so that
/// followers do their own work instead of waiting for it again.
fn publish(lead: Lead<'_>, response: Response) -> Role {
    match lead.complete(response) {
        Ok(()) => Role::Led,
        Err(Refused { error, lead: Some(lead), .. }) if error.kind() == ErrorKind::TooLarge => {
            match lead.decline() {
                Ok(()) => Role::Led,
                Err(error) if error.kind() == ErrorKind::Stale => Role::Overtaken,
                Err(_) => Role::Unrecorded,
            }
        }
        Err(Refused { lead: Some(_), .. }) => Role::Unrecorded,
        Err(_) => Role::Overtaken,
    }
}

impl fmt::Debug for Request<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
