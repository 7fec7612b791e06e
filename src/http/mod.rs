//! `Idempotency-Key` for HTTP servers, on the types of the `http` crate.
//!
//! A client that sends a request again, with the same key, gets the response of the first one, whatever
//! happened to either: the work is done once, over the store of an
//! [`IdempotencyTable`]. The header is that of the IETF's draft
//! (draft-ietf-httpapi-idempotency-key-header), the problem bodies those of RFC 9457.
//!
//! | a request with a key | answer |
//! |-|-|
//! | the first | the handler's |
//! | again, same payload, done | the same, with `Idempotent-Replayed: true` |
//! | again, same payload, in progress | the same, once it is there; past the wait 409 and `Retry-After` |
//! | again, other payload | 422, in progress or not |
//! | again, and the response was too large to keep | 409, of a type of its own |
//! | again, and whether it was executed can't be told ([`OnLeaseExpired::Hold`](crate::OnLeaseExpired)) | 409, of a type of its own |
//! | no key where there must be one; a key that can't be used | 400 |
//! | longer than is fingerprinted | 413 |
//! | the store is down | 503, and nothing is executed |
//!
//! | what the handler answers | those who wait | the key from then on |
//! |-|-|-|
//! | 2xx, 3xx, 4xx | get it | replays it |
//! | 401, 403, 408, 425, 429, 503: nothing happened | get it | free |
//! | any other 5xx, or it panics: it may have happened | get it; after a panic the next leads | the next leads, with attempt + 1; held, by policy |
//!
//! From the outside in: this file has [`Idempotency`], `transaction` its form inside a transaction;
//! `execution` is what a handler finds, `builder` and `policy` what can be chosen, `key` the header, `record`
//! how a response is kept, `problem` the refusals.

mod builder;
mod execution;
mod key;
mod policy;
mod problem;
mod record;
mod transaction;

use std::fmt;

use http::{HeaderValue, Request, Response, StatusCode};

pub use builder::Builder;
pub use execution::Execution;
pub use policy::{Keep, Requirement};
pub use problem::Problem;

use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::idempotency::{self, Begin, IdempotencyTable, Lead, Refused};
use crate::response::Response as Kept;
use policy::Rules;

/// What marks a response that was given before.
const REPLAYED: &str = "idempotent-replayed";

/// Does requests with the same `Idempotency-Key` once.
///
/// Shared by reference or in an `Arc`; called from any thread, it blocks for the store, and for others'
/// requests up to the wait.
///
/// | for servers | |
/// |-|-|
/// | that have whole requests and responses | [`handle`](Self::handle) |
/// | whose effects are in the database that the records are in | [`handle_in`](Self::handle_in) |
/// | that stream, or begin by themselves | the steps of `handle`, below |
///
/// Those steps are [`identify`](Self::identify); [`request`](Self::request), and its `begin`; for a lead
/// [`settle`](Self::settle) or [`settle_unkept`](Self::settle_unkept), and [`first`](Self::first); for what
/// was kept [`replay`](Self::replay); for a problem [`refusal`](Self::refusal).
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use onceflight::http::Idempotency;
/// use onceflight::IdempotencyTable;
/// # use onceflight::store::MemoryStore;
/// # use std::sync::Arc;
///
/// // IdempotencyTable::open("sqlite:payments.db"), with the feature `sqlite`
/// let table = IdempotencyTable::over(Arc::new(MemoryStore::new()))?;
/// let idempotency = Idempotency::new(table);
/// let pay = || {
///     let request = Request::post("/payments")
///         .header("idempotency-key", "\"4f2c81\"")
///         .body("100 cents to Ada")
///         .unwrap();
///     idempotency.handle(request, |_| {
///         Response::builder().status(201).body(b"paid".to_vec()).unwrap()
///     })
/// };
/// let (first, retry) = (pay(), pay());
/// assert_eq!(first.status(), StatusCode::CREATED);
/// assert_eq!((retry.status(), retry.body()), (first.status(), first.body()));
/// assert_eq!(retry.headers()["idempotent-replayed"], "true");
/// # Ok::<(), onceflight::Error>(())
/// ```
pub struct Idempotency {
    table: IdempotencyTable,
    rules: Rules,
}

/// What a request with a key is known by: see [`Idempotency::identify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The client's key, unquoted.
    pub key: String,
    /// Whose key it is: the caller, the method and the path, hashed.
    scope: Fingerprint,
    /// The rest of the request.
    fingerprint: Fingerprint,
}

impl Idempotency {
    /// With the defaults of [`Builder`].
    pub fn new(table: IdempotencyTable) -> Self {
        Self::builder().over(table)
    }

    /// Sets it up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Answers a request: calls `handler` if it is to be executed now. A request that needs no key and has
    /// none is executed without asking the store.
    ///
    /// If `handler` panics the panic goes on, and the key is as if the response had been a 500. A response
    /// that the store couldn't be told is the client's all the same; whether it was executed is unknown from
    /// then on.
    ///
    /// What the table failed with, if it did, is in the response's extensions: an [`Error`], for the server's
    /// log. So is why it refused (409, 422): its [`kind`](Error::kind) tells.
    pub fn handle<B: AsRef<[u8]>>(
        &self,
        mut request: Request<B>,
        handler: impl FnOnce(Request<B>) -> Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        let keyed = match self.identify(&request) {
            Ok(Some(keyed)) => keyed,
            Ok(None) => return self.unkeyed(request, handler),
            Err(problem) => return self.refusal(&problem),
        };
        match self.request(&keyed).same_thread().begin() {
            Ok(Begin::Lead(lead)) => {
                request.extensions_mut().insert(Execution::of(&keyed.key, &lead));
                let mut response = self.first(handler(request));
                if let Err(error) = self.settle(lead, &response) {
                    response.extensions_mut().insert(error);
                }
                response
            }
            Ok(Begin::Shared(kept) | Begin::Replayed(kept)) => self.replay(&kept),
            // Not by us: a table of the same keys that declines leaves nothing to answer with.
            Ok(Begin::Bypass) => self.refusal(&Problem::InProgress),
            Err(error) => self.refused(&Problem::of(&error), error),
        }
    }

    /// Has a request executed that goes without a key.
    fn unkeyed<B>(
        &self,
        mut request: Request<B>,
        handler: impl FnOnce(Request<B>) -> Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        let Some(execution) = self.unrecorded(&request) else { return handler(request) };
        request.extensions_mut().insert(execution);
        self.first(handler(request))
    }

    /// With keys disabled: what a handler finds that expects an execution.
    fn unrecorded<B>(&self, request: &Request<B>) -> Option<Execution> {
        if !self.rules.disabled {
            return None;
        }
        let key = key::of(request.headers(), &self.rules);
        match ((self.rules.require)(request.method(), request.uri()), key) {
            (Requirement::Off, _) | (Requirement::Optional, Ok(None)) => None,
            (_, key) => Some(Execution::unrecorded(key.ok().flatten())),
        }
    }

    /// What a request is known by. `None`: it goes without a key, and so past the store.
    ///
    /// # Errors
    /// The problem to answer it with, by [`refusal`](Self::refusal).
    pub fn identify<B: AsRef<[u8]>>(&self, request: &Request<B>) -> Result<Option<Keyed>, Problem> {
        let requirement = (self.rules.require)(request.method(), request.uri());
        if requirement == Requirement::Off || self.rules.disabled {
            return Ok(None);
        }
        let Some(key) = key::of(request.headers(), &self.rules)? else {
            return match requirement {
                Requirement::Required => Err(Problem::KeyMissing),
                _ => Ok(None),
            };
        };
        let len = request.body().as_ref().len();
        if len > self.rules.max_request {
            return Err(Problem::RequestTooLarge { len, most: self.rules.max_request });
        }
        Ok(Some(Keyed {
            key,
            scope: self.rules.scope(request),
            fingerprint: self.rules.fingerprint(request),
        }))
    }

    /// The table's request for a key, to begin by oneself.
    pub fn request<'t, 'r>(&'t self, keyed: &'r Keyed) -> idempotency::Request<'t, 'r> {
        self.table
            .request(&keyed.key)
            .scope(keyed.scope.as_bytes())
            .fingerprint(keyed.fingerprint.as_bytes())
            .timeout(self.rules.wait)
    }

    /// Settles as the response says: see the table of the [module](self).
    ///
    /// # Errors
    /// What the store couldn't be told is given up: the response is the client's all the same, and the
    /// next attempt is told that there was one.
    pub fn settle(&self, lead: Lead<'_>, response: &Response<Vec<u8>>) -> Result<(), Error> {
        self.settle_as(lead, response.status(), self.keep(response))
    }

    /// Settles for a response that is too large to keep: who asks again is told its status.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn settle_unkept(&self, lead: Lead<'_>, status: StatusCode) -> Result<(), Error> {
        self.settle_as(lead, status, record::without_body(status))
    }

    fn settle_as(&self, lead: Lead<'_>, status: StatusCode, kept: Kept) -> Result<(), Error> {
        match (self.rules.keep)(status) {
            Keep::NothingHappened => lead.cancel_with(kept),
            Keep::MayHaveHappened => lead.abandon_with(kept),
            Keep::Response => match lead.complete(kept) {
                Ok(()) => Ok(()),
                Err(Refused { error, lead: Some(lead), .. })
                    if error.kind() == ErrorKind::TooLarge =>
                {
                    lead.complete(record::without_body(status)).map_err(Error::from)
                }
                Err(refused) => Err(refused.error),
            },
        }
    }

    /// A response as it is kept, without the headers that aren't: for a lead that is settled otherwise than
    /// by its status.
    pub fn keep(&self, response: &Response<Vec<u8>>) -> Kept {
        record::encode(response, |name| self.rules.strips(name))
    }

    /// A handler's response as its first caller has it: as it is, but for
    /// [`created_then_ok`](Builder::created_then_ok).
    pub fn first(&self, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        self.rules.first(response)
    }

    /// What was kept, as it was, and marked.
    pub fn replay(&self, kept: &Kept) -> Response<Vec<u8>> {
        match record::decode(kept) {
            Ok(response) => {
                let mut response = self.rules.again(response);
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                response
            }
            Err(problem) => self.refusal(&problem),
        }
    }

    /// The response that tells a problem.
    pub fn refusal(&self, problem: &Problem) -> Response<Vec<u8>> {
        problem.render(&self.rules)
    }

    fn refused(&self, problem: &Problem, error: Error) -> Response<Vec<u8>> {
        let mut response = self.refusal(problem);
        response.extensions_mut().insert(error);
        response
    }

    /// The scope that a caller's keys for this method and path have in the store: for operators.
    pub fn scope_of<B>(&self, request: &Request<B>) -> Fingerprint {
        self.rules.scope(request)
    }

    /// The table.
    pub fn table(&self) -> &IdempotencyTable {
        &self.table
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("table", &self.table).finish_non_exhaustive()
    }
}

/// A status that is known to be one.
const fn status(code: u16) -> StatusCode {
    match StatusCode::from_u16(code) {
        Ok(status) => status,
        Err(_) => panic!("a status has three digits"),
    }
}
