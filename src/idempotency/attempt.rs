//! One caller's begin, from its first look to its outcome.
//!
//! | state | what is done in it | leaves it for |
//! |-|-|-|
//! | joining | a look at the flights here | following; claiming; an outcome |
//! | following | waits for whoever speaks for the flight here | an outcome; claiming, when it is this caller's turn |
//! | claiming | asks the store | an outcome, which the followers here get too; watching |
//! | watching | waits for news of another process's lead | claiming |
//! | over | | |
//!
//! Whoever speaks for a flight and can't go on (out of time, unwinding) hands its turn to the next
//! follower. A thread drives its attempt by blocking; a queue's attempts are driven by workers, and
//! the only difference is whether it waits in `following` and `watching`, or comes back when rung.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::leads::{CHORE_FOR, Chore, Leading, Place};
use super::shared::{Answer, Flying, Shared};
use super::turn::Turn;
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::store::{Claimed, Grant, Held, RecordKey, RecordState, Response};
use crate::table::OnLeaseExpired;
use crate::table::internal::{Arrived, Ask, Asked, Follow, Granted, Step, Terms, Waiter, Waker};

/// What a caller asks for.
#[derive(Clone)]
pub(crate) struct Asking {
    pub key: Arc<RecordKey>,
    pub fingerprint: Option<Box<[u8]>>,
    /// Zero doesn't wait.
    pub timeout: Duration,
    /// `None`: it doesn't end.
    pub lease: Option<Duration>,
    pub ttl: Duration,
    pub recover: bool,
    /// The thread that will settle, or 0.
    pub thread: u32,
}

/// A lead as it is given.
pub(crate) struct Led {
    pub name: u64,
    pub fence: u64,
    pub attempt: u32,
    pub checkpoint: Option<Arc<[u8]>>,
}

/// An outcome.
pub(crate) enum Begun {
    Lead(Led),
    Shared(Response),
    Replayed(Response),
    Bypass,
}

/// A caller that has no outcome yet.
pub(crate) struct Attempt {
    shared: Arc<Shared>,
    asking: Asking,
    /// Scope, key and fingerprint, framed.
    flight: Box<[u8]>,
    hash: u64,
    deadline: Moment,
    /// Rung when a caller that doesn't block had better look again.
    waker: Option<Arc<dyn Waker>>,
    state: State,
    /// Whether there is nothing to do for a caller that doesn't block.
    waits: bool,
}

/// What [`Attempt::until_turn`] came to.
pub(super) enum Turned {
    Turn(Turn),
    Begun(Begun),
}

enum State {
    Joining,
    Following(Box<Waiter<Flying>>),
    Claiming(Turn),
    /// Until when, at the latest.
    Watching(Turn, Moment),
    Over,
}

impl Attempt {
    pub fn new(shared: &Arc<Shared>, asking: Asking, waker: Option<Arc<dyn Waker>>) -> Self {
        let flight = frame(&asking);
        Self {
            hash: shared.hasher.hash_bytes(&flight),
            deadline: clock::after(clock::span(asking.timeout)),
            shared: Arc::clone(shared),
            asking,
            flight,
            waker,
            state: State::Joining,
            waits: false,
        }
    }

    /// Blocks until there is an outcome.
    pub fn run(mut self) -> Result<Begun, Error> {
        loop {
            if let Some(outcome) = self.step() {
                self.shared.count(&outcome);
                return outcome;
            }
        }
    }

    /// Blocks until it is this caller's turn to ask the store, or there is an outcome without.
    pub(super) fn until_turn(mut self) -> Result<Turned, Error> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Claiming(turn) => return Ok(Turned::Turn(turn)),
                state => self.state = state,
            }
            if let Some(outcome) = self.advance() {
                self.shared.count(&outcome);
                return outcome.map(Turned::Begun);
            }
        }
    }

    /// Goes on as far as it can. `None`: nothing to do until it is rung, or
    /// [`look_at`](Self::look_at) has come. (A caller that blocks has waited, and calls again.)
    pub fn step(&mut self) -> Option<Result<Begun, Error>> {
        loop {
            if let Some(outcome) = self.advance() {
                return Some(outcome);
            }
            if self.waits {
                self.waits = false;
                return None;
            }
        }
    }

    /// One transition. `None`: go on, or `waits`.
    fn advance(&mut self) -> Option<Result<Begun, Error>> {
        let (state, next) = match std::mem::replace(&mut self.state, State::Over) {
            State::Joining => self.join(),
            State::Following(waiter) => self.follow(waiter),
            State::Claiming(turn) => self.claim(turn),
            State::Watching(turn, until) => self.watch(turn, until),
            State::Over => done(Err(ErrorKind::Invalid.into())),
        };
        self.state = state;
        match next {
            Next::Go => None,
            Next::Wait => {
                self.waits = true;
                None
            }
            Next::Done(outcome) => Some(outcome),
        }
    }

    /// When it has something to do though nobody rings. (Followers ring at their deadlines.)
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub fn look_at(&self) -> Moment {
        if let State::Watching(_, until) = &self.state { *until } else { NEVER }
    }

    fn blocks(&self) -> bool {
        self.waker.is_none()
    }

    fn join(&mut self) -> (State, Next) {
        if let Err(error) = self.shared.check_fork() {
            return done(Err(error));
        }
        let ask = self.ask();
        let asked = Asked::<Box<[u8]>, [u8]>::of(&self.flight, self.hash);
        match self.shared.flights.begin(&asked, &ask, self.waker.as_ref()) {
            Ok(Step::Lead(granted)) => self.take_turn(granted),
            Ok(Step::Follow(joined)) => {
                let waiter = Waiter::new(joined, self.hash, &ask, self.waker.clone());
                (State::Following(Box::new(waiter)), Next::Go)
            }
            Ok(Step::Replay(_)) => unreachable!("flights here are never kept"),
            Err(error) if error.kind() == ErrorKind::Timeout => done(self.peek()),
            Err(error) => done(Err(error)),
        }
    }

    fn ask(&self) -> Ask<'static> {
        let follow = match (self.asking.timeout.is_zero(), self.blocks()) {
            (true, _) => Follow::No,
            (false, true) => Follow::Blocking,
            (false, false) => Follow::Later,
        };
        let terms = Terms { thread: self.asking.thread, ..self.shared.flights.usual };
        let deadline = if follow == Follow::Later { self.deadline } else { NEVER };
        Ask { terms, fingerprint: None, follow, deadline }
    }

    /// This caller won't wait for who asks the store or leads here, or may not lead: but it may have
    /// what is there.
    fn peek(&self) -> Result<Begun, Error> {
        let asking = &self.asking;
        let Some(record) = self.shared.store.read(&asking.key, self.store_deadline())? else {
            return Err(ErrorKind::Timeout.into());
        };
        let binds = record.state != RecordState::Released || record.checkpoint.is_some();
        if binds && record.fingerprint != asking.fingerprint {
            return Err(ErrorKind::Mismatch.into());
        }
        let lost =
            record.state == RecordState::InProgress && record.lease_left == Some(Duration::ZERO);
        let held = self.shared.config.on_lease_expired == OnLeaseExpired::Hold;
        match record.response {
            Some(response) => Ok(Begun::Replayed(response)),
            None if lost && held && !asking.recover => Err(ErrorKind::Unknown.into()),
            None => Err(ErrorKind::Timeout.into()),
        }
    }

    fn follow(&mut self, mut waiter: Box<Waiter<Flying>>) -> (State, Next) {
        let arrived = if self.blocks() {
            waiter.wait(self.deadline, true)
        } else {
            match waiter.poll() {
                Some(arrived) => arrived,
                None => return (State::Following(waiter), Next::Wait),
            }
        };
        match arrived {
            Ok(Arrived::Lead(granted)) => self.take_turn(granted),
            Ok(Arrived::Bypass) => done(Ok(Begun::Bypass)),
            Ok(Arrived::Shared(answer) | Arrived::Replayed(answer)) => match &answer.value {
                Answer::Shared(response) => done(Ok(Begun::Shared(response.clone()))),
                Answer::Replayed(response) => done(Ok(Begun::Replayed(response.clone()))),
                Answer::Failed(error)
                    if error.kind() == ErrorKind::Unknown && self.asking.recover =>
                {
                    // Whoever asked wasn't allowed to; this caller is.
                    (State::Joining, Next::Go)
                }
                Answer::Failed(error) => done(Err(error.clone())),
            },
            Err(error) => done(Err(error)),
        }
    }

    fn take_turn(&self, granted: Granted) -> (State, Next) {
        match Turn::new(&self.shared, granted) {
            Ok(turn) => (State::Claiming(turn), Next::Go),
            Err(error) => done(Err(error)),
        }
    }

    fn claim(&mut self, mut turn: Turn) -> (State, Next) {
        let (shared, asking) = (&self.shared, &self.asking);
        let waits = !asking.timeout.is_zero();
        let Some(place) = shared.leads.reserve(shared.config.max_in_flight) else {
            // No more leads: but it may have what is there.
            return match self.peek() {
                Err(error) if error.kind() == ErrorKind::Timeout => done(Err(too_many())),
                outcome => done(outcome),
            };
        };
        let (sent, fresh) = (clock::now(), shared.freshness(&asking.key));
        let claim = turn.claim(shared, asking, waits);
        match shared.store.claim(&asking.key, &claim, self.store_deadline()) {
            Ok(Claimed::Lead(grant)) => done(self.lead(turn, place, grant, sent)),
            Ok(Claimed::Completed(response)) => {
                let (answer, begun) = if turn.following.is_some() {
                    (Answer::Shared(response.clone()), Begun::Shared(response))
                } else {
                    (Answer::Replayed(response.clone()), Begun::Replayed(response))
                };
                // Forgotten meanwhile: who has come since asks anew.
                if fresh == shared.freshness(&asking.key) {
                    turn.answer(shared, answer);
                }
                done(Ok(begun))
            }
            Ok(Claimed::InProgress { epoch, lease_left }) => {
                if clock::passed(self.deadline) {
                    return done(Err(ErrorKind::Timeout.into()));
                }
                turn.follow(epoch);
                self.listen(turn, lease_left)
            }
            Ok(Claimed::Mismatch) => fail(shared, turn, ErrorKind::Mismatch.into()),
            Ok(Claimed::Unknown) => fail(shared, turn, ErrorKind::Unknown.into()),
            Err(error) => {
                // It may have been granted all the same, to nobody.
                let until = sent.saturating_add(clock::span(asking.lease.unwrap_or(CHORE_FOR)));
                shared.leads.chore(Chore::withdraw(&asking.key, turn.token, until));
                if waits && clock::passed(self.deadline) {
                    // This caller's time was up, not the store's: the next follower asks.
                    return done(Err(error));
                }
                fail(shared, turn, error)
            }
        }
    }

    /// No later than the store's timeout, nor (by much) than the caller's own deadline. A caller
    /// that doesn't wait still has its one look.
    fn store_deadline(&self) -> Instant {
        let most = self.shared.config.store_timeout;
        if self.asking.timeout.is_zero() || self.deadline == NEVER {
            return clock::instant_after(most);
        }
        let left = Duration::from_nanos(self.deadline.saturating_sub(clock::now()));
        clock::instant_after(most.min(left.max(A_LOOK)))
    }

    fn lead(
        &self,
        turn: Turn,
        place: Place<'_>,
        grant: Grant,
        sent: Moment,
    ) -> Result<Begun, Error> {
        let Grant { epoch, attempt, checkpoint, taken_over } = grant;
        let (shared, asking) = (&self.shared, &self.asking);
        let held = Held { token: turn.token, epoch };
        let mut lead = Leading::new(Arc::clone(&asking.key), held, attempt, asking.lease);
        lead.checkpoint = checkpoint.map(Arc::from);
        lead.ttl = asking.ttl;
        lead.taken_over = taken_over;
        let name = turn.lead;
        let checkpoint = lead.checkpoint.clone();
        lead.flight = Some(name);
        let max_lead = shared.config.heartbeat.then_some(shared.config.max_lead);
        if !place.take(name, lead, sent, max_lead) {
            // Closed meanwhile: nobody could settle it.
            let _ = shared.store.withdraw(&asking.key, turn.token, self.store_deadline());
            return Err(ErrorKind::Closed.into());
        }
        // All may have leads to care for since it was asked last: then nobody knows of this one. There are
        // threads already, so this can't fail.
        let _ = shared.keep_up();
        shared.count_lead(attempt, taken_over);
        turn.use_up();
        Ok(Begun::Lead(Led { name, fence: epoch, attempt, checkpoint }))
    }

    /// Another process leads: subscribe, look again, and only then wait.
    fn listen(&self, mut turn: Turn, lease_left: Option<Duration>) -> (State, Next) {
        if turn.watcher.is_none() {
            match self.shared.watch.watch(self.asking.key.id(), self.waker.clone()) {
                Ok(watcher) => turn.watcher = Some(watcher),
                Err(error) => return done(Err(error)),
            }
        }
        let until = turn.watcher.as_mut().map_or(NEVER, |watcher| watcher.look_at(lease_left));
        (State::Watching(turn, until.min(self.deadline)), Next::Go)
    }

    fn watch(&mut self, turn: Turn, until: Moment) -> (State, Next) {
        let Some(watcher) = &turn.watcher else { return (State::Claiming(turn), Next::Go) };
        if self.blocks() {
            watcher.wait(until);
        } else if !watcher.take_heard() && !clock::passed(until) {
            return (State::Watching(turn, until), Next::Wait);
        }
        if watcher.closed() {
            return done(Err(ErrorKind::Closed.into()));
        }
        if clock::passed(self.deadline) {
            return done(Err(ErrorKind::Timeout.into()));
        }
        (State::Claiming(turn), Next::Go)
    }
}

/// What a look at the store may take though the caller's time is nearly up: that is the time it
/// waits for others.
const A_LOOK: Duration = Duration::from_millis(250);

enum Next {
    Go,
    Wait,
    Done(Result<Begun, Error>),
}

fn done(outcome: Result<Begun, Error>) -> (State, Next) {
    (State::Over, Next::Done(outcome))
}

fn fail(shared: &Shared, turn: Turn, error: Error) -> (State, Next) {
    turn.answer(shared, Answer::Failed(error.clone()));
    done(Err(error))
}

fn too_many() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "as many leads as max_in_flight allows; raise it, or try again later",
    )
}

/// Scope, key and fingerprint as one string of bytes: lengths first, so that no two are alike.
fn frame(asking: &Asking) -> Box<[u8]> {
    let key = &asking.key;
    let mark = asking.fingerprint.as_deref();
    let len = 17 + key.scope().len() + key.key().len() + mark.map_or(0, <[u8]>::len);
    let mut framed = Vec::with_capacity(len);
    for part in [key.scope(), key.key()] {
        framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
        framed.extend_from_slice(part);
    }
    framed.push(u8::from(mark.is_some()));
    framed.extend_from_slice(mark.unwrap_or_default());
    framed.into()
}
