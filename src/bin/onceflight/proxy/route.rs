//! What becomes of a request: it leads, waits, is answered at once, or goes alone.
//!
//! | request | how |
//! |-|-|
//! | with an `Idempotency-Key` that counts | `keyed`: over the store |
//! | GET, HEAD | `coalesced`: in memory |
//! | any other | `alone`: passed through |

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, Response};
use onceflight::http::{Idempotency, Keyed, Problem};
use onceflight::idempotency::{Begin as BeginKeyed, Lead as KeyedLead};
use onceflight::{Begin, DedupTable, Error, ErrorKind, Lead, Response as Kept, TryBegin};

use super::backend::{Backend, Failure, Incoming, is_endless};
use super::identity::{Identity, retainable};
use super::metrics::{Metrics, Role};
use crate::budget::{Budget, Room};
use crate::server::Arrived;
use crate::wire::{Content, Interim, end_to_end};

/// A response as the table keeps it.
type Answer = Response<Arc<Vec<u8>>>;

/// How a response came about: `led`, `shared`, `replayed`, `alone` or `refused`.
const ROLE: HeaderName = HeaderName::from_static("x-onceflight");

/// Tells the backend of a keyed request's execution: what a resource can refuse lower ones by, and whether
/// an earlier one was lost.
const FENCE: HeaderName = HeaderName::from_static("onceflight-fence");
const ATTEMPT: HeaderName = HeaderName::from_static("onceflight-attempt");

/// What a request does next; told when it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has a key, and asks the store.
    Asks,
    /// It asks the backend, for itself and for whoever joins it.
    Leads,
    /// It has joined a flight.
    Waits,
    /// It gets a response that was kept.
    Replays,
    /// It asks the backend for itself only.
    Alone,
}

/// Told of every step of every request.
pub type Observer = Box<dyn Fn(Step, &Request<Vec<u8>>) + Send + Sync>;

/// Two tables in front of one backend.
pub struct Proxy {
    pub table: DedupTable<Vec<u8>, Arc<Answer>>,
    pub keys: Idempotency,
    pub backend: Backend,
    pub identity: Identity,
    pub metrics: Arc<Metrics>,
    /// How long a request waits for another's response.
    pub wait: Duration,
    /// The longest response that is shared, in bytes.
    pub max_body: usize,
    /// For the bodies of all requests and responses.
    pub memory: Arc<Budget>,
    pub observe: Observer,
}

/// The table of coalesced requests. Responses that are kept after their flight have `memory` bytes, or less.
pub fn table(
    window: Duration,
    max_in_flight: usize,
    memory: usize,
) -> DedupTable<Vec<u8>, Arc<Answer>> {
    const WINDOW_BYTES: usize = 64 << 20;
    DedupTable::<Vec<u8>, Arc<Answer>>::builder()
        .completed_ttl(window)
        .max_in_flight(max_in_flight)
        .weigher(|key: &Vec<u8>, answer: &Arc<Answer>| key.len() + size(answer))
        .max_bytes(WINDOW_BYTES.min(memory))
        .retain(|answer: &Arc<Answer>| retainable(answer))
        .build()
}

/// A response, and how it came about.
type Told = (Role, Response<Content>);

/// What came of asking the backend.
enum Asked {
    /// All of the response.
    Whole(Response<Vec<u8>>),
    /// More than may be kept in memory, or than there is room for, or a stream of events: it goes to one
    /// caller, as it comes.
    Stream(Response<Content>),
}

impl Proxy {
    /// Answers one request. Blocks for as long as that takes. Whoever makes the backend work has the backend's
    /// interim responses, too.
    pub fn handle(&self, request: Arrived, client: &Interim<'_>) -> Response<Content> {
        let began = Instant::now();
        let (role, mut response) = self.answer(request, client);
        response.headers_mut().insert(ROLE, HeaderValue::from_static(role.name()));
        self.metrics.answered(role, began.elapsed());
        response
    }

    fn answer(&self, request: Arrived, client: &Interim<'_>) -> Told {
        let (head, body) = request.into_parts();
        let Some(body) = body else { return self.refused(&Problem::Overloaded) };
        let mut request = Request::from_parts(head, body);
        let headers = request.headers_mut();
        end_to_end(headers);
        for ours in [FENCE, ATTEMPT] {
            headers.remove(ours);
        }
        // The backend is told so, and what it is told is what counts.
        headers.entry(HOST).or_insert_with(|| self.backend.host().clone());
        match self.keys.identify(&request) {
            Ok(Some(keyed)) => self.keyed(&keyed, request, client),
            Ok(None) if Identity::coalesces(request.method()) => self.coalesced(&request, client),
            Ok(None) => self.alone(&request, client),
            Err(problem) => self.refused(&problem),
        }
    }

    fn coalesced(&self, request: &Request<Vec<u8>>, client: &Interim<'_>) -> Told {
        // The key has the body in it, here and in the table.
        let mut room = self.memory.room();
        if !room.grow_to(request.body().len().saturating_mul(2)) {
            return self.alone(request, client);
        }
        let key = self.identity.key(request);
        let begun = match self.table.try_begin(key.as_slice()) {
            Ok(TryBegin::Follower(mut follower)) => {
                (self.observe)(Step::Waits, request);
                follower.wait_timeout(self.wait)
            }
            Ok(TryBegin::Lead(lead)) => Ok(Begin::Lead(lead)),
            Ok(TryBegin::Replayed(answer)) => Ok(Begin::Replayed(answer)),
            Err(error) => Err(error),
        };
        match begun {
            Ok(Begin::Lead(lead)) => self.lead(lead, request, client),
            Ok(Begin::Shared(answer)) => (Role::Shared, shared(&answer)),
            Ok(Begin::Replayed(answer)) => {
                (self.observe)(Step::Replays, request);
                (Role::Replayed, shared(&answer))
            }
            Ok(Begin::Bypass) => self.alone(request, client),
            Err(error) if error.kind() == ErrorKind::Timeout => self.alone(request, client),
            Err(error) => self.refused(&Problem::of(&error)),
        }
    }

    fn lead(
        &self,
        lead: Lead<'_, Vec<u8>, Arc<Answer>>,
        request: &Request<Vec<u8>>,
        client: &Interim<'_>,
    ) -> Told {
        (self.observe)(Step::Leads, request);
        // Should this panic, the lead is dropped: the first in line leads instead.
        let asked = match self.ask(request, client, self.memory.room()) {
            Ok(asked) => asked,
            Err(failure) => Asked::Whole(failure.response()),
        };
        // A settlement can't fail here: nobody overtakes a lead that has no lease. And if it did,
        // the response would be this caller's all the same.
        match asked {
            Asked::Whole(response) if self.identity.shareable(request, &response) => {
                let answer = Arc::new(response.map(Arc::new));
                let _ = lead.complete(Arc::clone(&answer));
                (Role::Led, shared(&answer))
            }
            asked => {
                let _ = lead.decline();
                (Role::Alone, asked.into())
            }
        }
    }

    fn alone(&self, request: &Request<Vec<u8>>, client: &Interim<'_>) -> Told {
        (self.observe)(Step::Alone, request);
        let response = match self.send(request, client) {
            Ok(response) => streamed(response, Vec::new()),
            Err(failure) => failure.response().map(Content::from),
        };
        (Role::Alone, response)
    }

    fn keyed(&self, keyed: &Keyed, request: Request<Vec<u8>>, client: &Interim<'_>) -> Told {
        // Before it is begun: a response that there is no room for is lost to those who retry.
        if self.memory.is_spent() {
            return self.refused(&Problem::Overloaded);
        }
        (self.observe)(Step::Asks, &request);
        match self.keys.request(keyed).same_thread().begin() {
            Ok(BeginKeyed::Lead(lead)) => (Role::Led, self.execute(lead, request, client)),
            Ok(BeginKeyed::Shared(kept)) => self.retell(Role::Shared, &kept, request),
            Ok(BeginKeyed::Replayed(kept)) => {
                (self.observe)(Step::Replays, &request);
                self.retell(Role::Replayed, &kept, request)
            }
            // Not by us: another program with the same keys doesn't share.
            Ok(BeginKeyed::Bypass) => self.refused(&Problem::InProgress),
            Err(error) => {
                self.note(&error);
                self.refused(&Problem::of(&error))
            }
        }
    }

    /// Each caller has a copy of its own, in place of its request.
    fn retell(&self, role: Role, kept: &Kept, request: Request<Vec<u8>>) -> Told {
        drop(request);
        let mut room = self.memory.room();
        if !room.grow_to(kept.data().len()) {
            return self.refused(&Problem::Overloaded);
        }
        let mut response = self.keys.replay(kept).map(Content::from);
        room.stay_with(response.extensions_mut());
        (role, response)
    }

    fn execute(
        &self,
        lead: KeyedLead<'_>,
        mut request: Request<Vec<u8>>,
        client: &Interim<'_>,
    ) -> Response<Content> {
        (self.observe)(Step::Leads, &request);
        request.headers_mut().insert(FENCE, lead.fence().into());
        request.headers_mut().insert(ATTEMPT, lead.attempt().into());
        let asked = self.ask(&request, client, self.memory.room_for_outcome());
        let (settled, response) = match asked {
            Ok(Asked::Whole(response)) => {
                (self.keys.settle(lead, &response), response.map(Content::from))
            }
            Ok(Asked::Stream(response)) => {
                (self.keys.settle_unkept(lead, response.status()), response)
            }
            Err(failure) => {
                let response = failure.response();
                let settled = if failure.is_before_anything() {
                    lead.cancel_with(self.keys.keep(&response))
                } else {
                    self.keys.settle(lead, &response)
                };
                (settled, response.map(Content::from))
            }
        };
        // The response is this caller's, whatever the store says; a retry finds that it may have happened.
        if let Err(error) = settled {
            self.note(&error);
        }
        response
    }

    /// Asks the backend, and takes all of the response if that may be shared, and if there is room for it.
    fn ask(
        &self,
        request: &Request<Vec<u8>>,
        client: &Interim<'_>,
        mut room: Room,
    ) -> Result<Asked, Failure> {
        let mut response = self.send(request, client)?;
        // What is told beforehand decides before anything is read, so that nobody waits for that.
        let announced = response.body().announced().unwrap_or(0);
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let fits = announced <= self.max_body && room.grow_to(announced);
        if !fits || is_endless(response.headers()) {
            return Ok(Asked::Stream(streamed(response, Vec::new())));
        }
        let read = response.body_mut().read_whole(self.max_body, &mut room);
        let (bytes, whole) = read.inspect_err(|failure| self.metrics.failed(failure))?;
        room.stay_with(response.extensions_mut());
        Ok(if whole {
            Asked::Whole(response.map(|_| bytes))
        } else {
            Asked::Stream(streamed(response, bytes))
        })
    }

    fn send(
        &self,
        request: &Request<Vec<u8>>,
        client: &Interim<'_>,
    ) -> Result<Response<Incoming>, Failure> {
        self.metrics.asked();
        self.backend
            .ask(request, &|interim| client.pass(interim))
            .inspect_err(|failure| self.metrics.failed(failure))
    }

    fn refused(&self, problem: &Problem) -> Told {
        self.metrics.refused(problem);
        (Role::Refused, self.keys.refusal(problem).map(Content::from))
    }

    /// What an operator should know of.
    fn note(&self, error: &Error) {
        match error.kind() {
            ErrorKind::Store => {
                self.metrics.store_failed();
                log::error!("{error}");
            }
            ErrorKind::Stale => log::warn!("an execution was overtaken: {error}"),
            _ => {}
        }
    }
}

impl From<Asked> for Response<Content> {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Whole(response) => response.map(Content::from),
            Asked::Stream(response) => response,
        }
    }
}

/// What was read of a response, and then the rest, as it comes.
fn streamed(response: Response<Incoming>, start: Vec<u8>) -> Response<Content> {
    response.map(|rest| {
        let len = rest.announced();
        Content::Stream(Box::new(std::io::Read::chain(std::io::Cursor::new(start), rest)), len)
    })
}

/// A response shares its body's bytes with every other copy.
fn shared(answer: &Answer) -> Response<Content> {
    answer.clone().map(Content::Whole)
}

fn size(answer: &Answer) -> usize {
    let headers = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    answer.body().len() + headers.sum::<usize>()
}
