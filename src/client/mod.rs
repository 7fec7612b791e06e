//! A middleware for [ureq](https://docs.rs/ureq): identical requests that are under way at the same time
//! are sent once.
//!
//! | a request | sent | what its caller has |
//! |-|-|-|
//! | nobody has sent one like it | yes: it leads | the response, or the error |
//! | one like it is under way | no | the same response, or that error |
//! | one like it was answered within the ttl, and not by a 5xx or a refusal that may pass (401, 403, 408, 409, 425, 429) | no | the same response |
//! | it has waited for longer than `wait` | no | [`Timeout`](crate::ErrorKind::Timeout), as [`ureq::Error::Other`] |
//! | coalescing is off, its body is too long, or a middleware sends it on behalf of an identical one | yes | its own |
//! | the leader's response is too long to share | yes, each | its own |
//! | the leader's thread panics | yes: the first in line leads | its own, which the others share |
//!
//! From the outside in: this file has [`Coalesce`]; `options` what can be chosen, globally, by profile or
//! by request; `identity` when requests are the same; `shared` what is passed on; `retry` keys for requests
//! that are sent again.

mod identity;
mod options;
mod retry;
mod shared;

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{Request, Response};
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Body, SendBody};

pub use options::{Builder, Options, Wish};
pub use retry::{IdempotencyKey, retry};

use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::table::{Begin, DedupTable, Lead, Stats};
use options::OnEvent;
use shared::{Outcome, Taken};

/// Sends identical concurrent requests once. Give a clone to each [`ureq::Agent`] that is to share.
///
/// Two requests are identical if their method, URL, body and headers are, but for headers that are
/// [ignored](Builder::ignore_header); credentials never are. All of it is compared, not a hash. They should
/// come from agents that are set up alike: what an agent does by itself (cookies, redirects, status codes as
/// errors) is the leader's doing, for all of them.
///
/// ```
/// use onceflight::client::{Coalesce, Wish};
/// use std::time::Duration;
///
/// let coalesce = Coalesce::builder().ttl(Duration::from_millis(500)).build();
/// let agent: ureq::Agent = ureq::Agent::config_builder().middleware(coalesce.clone()).build().into();
/// // By request:
/// let _ = agent.get("http://127.0.0.1:1/report").extension(Wish::new().key("report")).call();
/// let _ = agent.post("http://127.0.0.1:1/orders").extension(Wish::off()).send("one more");
/// ```
#[derive(Clone)]
pub struct Coalesce(Arc<Inner>);

struct Inner {
    table: DedupTable<Vec<u8>, Arc<Outcome>>,
    usual: Options,
    profiles: HashMap<String, Options>,
    on_event: Option<OnEvent>,
}

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// It was sent, and has its response; so have those who waited.
    Led,
    /// It was sent, and failed, and so did those who waited.
    Failed,
    /// It was sent; the response was too long to share, so that those who waited send theirs.
    Declined,
    /// It waited, and has another's response or error.
    Shared,
    /// It has a response that was there already.
    Replayed,
    /// It waited for too long.
    TimedOut,
}

/// One request, once it is over.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// A hash of what identifies it: what was sent may be secret.
    pub key: Fingerprint,
    /// What happened.
    pub kind: EventKind,
    /// Since the request began.
    pub took: Duration,
    /// Of one that was sent: how many waited for it at the end.
    pub waiters: usize,
}

impl Coalesce {
    /// On for all requests, nothing kept.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets it up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Counters: how many lead, wait, were shared.
    pub fn stats(&self) -> Stats {
        self.0.table.stats()
    }

    /// Forgets a response that is kept under a [key of one's own](Wish::key). Answers whether there was one.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked).
    pub fn forget(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.0.table.forget(&identity::chosen(key.as_ref())[..])
    }
}

impl Default for Coalesce {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for Coalesce {
    fn handle(
        &self,
        mut request: Request<SendBody>,
        next: MiddlewareNext,
    ) -> Result<Response<Body>, ureq::Error> {
        retry::sign(&mut request);
        let wish = request.extensions().get::<Wish>().cloned().unwrap_or_default();
        let options = self.0.options(&wish)?;
        if !options.enabled {
            return next.handle(request);
        }
        let (parts, body) = request.into_parts();
        let mut reader = body.into_reader();
        let mut sent = Vec::new();
        reader
            .by_ref()
            .take((options.max_request as u64).saturating_add(1))
            .read_to_end(&mut sent)?;
        if sent.len() > options.max_request {
            let whole = &mut (&sent[..]).chain(reader);
            return next.handle(Request::from_parts(parts, SendBody::from_reader(whole)));
        }
        let key = match &wish.key {
            Some(key) => identity::chosen(key),
            None => identity::of(&parts, &sent, |name| options.ignores(name)),
        };
        let call = Call { inner: &self.0, options: &options, key: &key, start: Instant::now() };
        call.run(|| {
            if sent.is_empty() && identity::has_no_body(&parts.method) {
                return next.handle(Request::from_parts(parts, SendBody::none()));
            }
            let mut sent = &sent[..];
            next.handle(Request::from_parts(parts, ureq::AsSendBody::as_body(&mut sent)))
        })
    }
}

/// One request on its way.
struct Call<'c> {
    inner: &'c Inner,
    options: &'c Options,
    key: &'c Vec<u8>,
    start: Instant,
}

impl Call<'_> {
    fn run(
        self,
        send: impl FnOnce() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.inner.table.request(self.key).timeout(self.options.wait);
        match request.same_thread().begin() {
            Ok(Begin::Lead(lead)) => self.lead(lead, send()),
            Ok(Begin::Shared(outcome)) => {
                self.tell(EventKind::Shared, 0);
                outcome.give()
            }
            Ok(Begin::Replayed(outcome)) => {
                self.tell(EventKind::Replayed, 0);
                outcome.give()
            }
            Ok(Begin::Bypass) => send(),
            // Asked by a middleware further in, on behalf of the same request.
            Err(error) if error.kind() == ErrorKind::WouldDeadlock => send(),
            Err(error) => {
                if error.kind() == ErrorKind::Timeout {
                    self.tell(EventKind::TimedOut, 0);
                }
                Err(ureq::Error::Other(error.into()))
            }
        }
    }

    /// Passes on what came back: everybody who waits has it, and only what isn't a failure is kept.
    fn lead(
        &self,
        lead: Lead<'_, Vec<u8>, Arc<Outcome>>,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ureq::Error> {
        let taken = shared::take(answer, self.options.max_response);
        let waiters = lead.followers();
        let (kind, settled, answer) = match taken {
            Taken::Whole(outcome) => {
                let ttl = if outcome.may_stay() { self.options.ttl } else { Duration::ZERO };
                let kind = if outcome.is_failure() { EventKind::Failed } else { EventKind::Led };
                let outcome = Arc::new(outcome);
                let settled = lead.complete_for(outcome.clone(), ttl).map_err(Error::from);
                (kind, settled, outcome.give())
            }
            Taken::Failed(outcome, error) => {
                let settled =
                    lead.complete_for(Arc::new(outcome), Duration::ZERO).map_err(Error::from);
                (EventKind::Failed, settled, Err(error))
            }
            Taken::TooLong(response) => (EventKind::Declined, lead.decline(), Ok(response)),
        };
        // A lead that couldn't be settled has no followers any more, and the response is this caller's.
        drop(settled);
        self.tell(kind, waiters);
        answer
    }

    fn tell(&self, kind: EventKind, waiters: usize) {
        if let Some(on_event) = &self.inner.on_event {
            let key = Fingerprint::of([self.key]);
            on_event(&Event { key, kind, took: self.start.elapsed(), waiters });
        }
    }
}

impl Inner {
    fn options(&self, wish: &Wish) -> Result<Options, ureq::Error> {
        let base = match &wish.profile {
            None => &self.usual,
            Some(name) => self.profiles.get(name).ok_or_else(|| {
                let detail = format!("no profile {name}: name it when the middleware is set up");
                ureq::Error::Other(Error::new(ErrorKind::Invalid, detail).into())
            })?,
        };
        Ok(wish.over(base))
    }
}

impl fmt::Debug for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce").field("usual", &self.0.usual).finish_non_exhaustive()
    }
}
