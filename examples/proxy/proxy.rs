//! The proxy: every request begins its key, and leads, waits, or is answered at once.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use onceflight::{Begin, DedupTable, ErrorKind, Lead, TryBegin};

use crate::backend::{Answer, Asked, Backend};
use crate::identity::{Identity, retainable};
use crate::server::{Content, text, whole};

/// Memory for responses that are kept after their flight.
const WINDOW_BYTES: usize = 64 << 20;

/// What a request does next; told to the observer when it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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
pub type Observer = Box<dyn Fn(Step, &Request<Bytes>) + Send + Sync>;

/// One table in front of one backend.
pub struct Proxy {
    table: DedupTable<Vec<u8>, Arc<Answer>>,
    backend: Backend,
    identity: Identity,
    wait: Duration,
    observe: Observer,
}

impl Proxy {
    /// Responses are kept for `window`; a request waits for another's for at most `wait`.
    pub fn new(
        backend: Backend,
        identity: Identity,
        window: Duration,
        wait: Duration,
        observe: Observer,
    ) -> Self {
        let table = DedupTable::<Vec<u8>, Arc<Answer>>::builder()
            .completed_ttl(window)
            .weigher(|key: &Vec<u8>, answer: &Arc<Answer>| key.len() + size(answer))
            .max_bytes(WINDOW_BYTES)
            .retain(|answer: &Arc<Answer>| retainable(answer))
            .build();
        Self { table, backend, identity, wait, observe }
    }

    /// Answers one request. Blocks for as long as that takes.
    pub fn handle(&self, request: &Request<Bytes>) -> Response<Content> {
        if !request.uri().path().starts_with('/') {
            return text(StatusCode::BAD_REQUEST, "the request's target has to begin with /");
        }
        if !self.identity.coalesces(request.method()) {
            return self.ask_alone(request);
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
            Ok(Begin::Lead(lead)) => self.lead(lead, request),
            Ok(Begin::Shared(answer)) => reply(&answer, "shared"),
            Ok(Begin::Replayed(answer)) => {
                (self.observe)(Step::Replays, request);
                reply(&answer, "replayed")
            }
            Ok(Begin::Bypass) => self.ask_alone(request),
            Err(error) if error.kind() == ErrorKind::Timeout => self.ask_alone(request),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }

    fn lead(
        &self,
        lead: Lead<'_, Vec<u8>, Arc<Answer>>,
        request: &Request<Bytes>,
    ) -> Response<Content> {
        (self.observe)(Step::Leads, request);
        // Should this panic, the lead is dropped: the first in line leads instead.
        let asked = self.backend.ask(request);
        // A settlement can't fail here: nobody overtakes a lead that has no lease. And if it did,
        // the response would be this caller's all the same.
        match asked {
            Asked::Whole(answer) if self.identity.shareable(request, &answer) => {
                let answer = Arc::new(answer);
                let _ = lead.complete(Arc::clone(&answer));
                reply(&answer, "led")
            }
            asked => {
                let _ = lead.decline();
                unshared(asked)
            }
        }
    }

    fn ask_alone(&self, request: &Request<Bytes>) -> Response<Content> {
        (self.observe)(Step::Alone, request);
        unshared(self.backend.ask(request))
    }
}

fn unshared(asked: Asked) -> Response<Content> {
    match asked {
        Asked::Whole(answer) => reply(&answer, "alone"),
        Asked::Stream(response) => marked(response, "alone"),
    }
}

/// A response shares its body's bytes with every other copy.
fn reply(answer: &Answer, role: &'static str) -> Response<Content> {
    marked(answer.clone().map(whole), role)
}

/// Says how the response came about, for whoever wonders.
fn marked(mut response: Response<Content>, role: &'static str) -> Response<Content> {
    response.headers_mut().insert("x-onceflight", HeaderValue::from_static(role));
    response
}

fn size(answer: &Answer) -> usize {
    let headers = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    answer.body().len() + headers.sum::<usize>()
}
