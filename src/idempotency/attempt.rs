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
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::builder::remembered;
use super::leads::{Chore, Leading};
use super::shared::{Answer, Flights, Flying, Shared, up};
use super::watch::Watcher;
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::store::{Claim, Claimed, Grant, Held, RecordKey, RecordState, Response, Token};
use crate::table::OnLeaseExpired;
use crate::table::internal::{
    Arrived, Ask, Asked, Follow, Granted, LeadRef, Step, Terms, Waiter, Waker,
};

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

/// An outcome.
pub(crate) enum Begun {
    /// A lead, by its name.
    Lead(u64),
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

/// The right to speak for a flight here. Dropped, it goes to the next follower.
pub(super) struct Turn {
    flights: Arc<Flights>,
    /// The lead of the local flight; 0 once it was used.
    lead: u64,
    token: Token,
    /// Whose flight it waits for: its epoch.
    following: Option<u64>,
    watcher: Option<Watcher>,
}

impl Turn {
    pub fn token(&self) -> Token {
        self.token
    }

    /// The flight to answer, whose followers then need no other turn.
    pub fn use_up(mut self) -> u64 {
        std::mem::take(&mut self.lead)
    }
}

impl Turn {
    /// From here on this flight waits for that epoch's outcome, whoever speaks for it.
    fn follow(&mut self, epoch: u64) {
        if self.following.is_none() {
            self.following = Some(epoch);
            let _ = self.flights.set_checkpoint(LeadRef::named(self.lead), &epoch.to_le_bytes());
        }
    }

    fn left_by_predecessor(&self) -> Option<u64> {
        let details = self.flights.details(LeadRef::named(self.lead)).ok()?;
        details.checkpoint?.as_ref().try_into().ok().map(u64::from_le_bytes)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.lead != 0 {
            let _ = self.flights.cancel(LeadRef::named(self.lead));
        }
    }
}

impl Attempt {
    pub fn new(shared: &Arc<Shared>, asking: Asking, waker: Option<Arc<dyn Waker>>) -> Self {
        let flight = frame(&asking, shared.freshness(&asking.key).load(Ordering::Acquire));
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
            Next::Done(outcome) => {
                self.count(&outcome);
                Some(outcome)
            }
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
            Ok(Step::Follow(room, seat)) => {
                let flights = Arc::clone(&self.shared.flights);
                let waiter =
                    Waiter::new(flights, self.hash, &ask, self.waker.clone(), (room, seat));
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

    /// Somebody here is asking the store or leads already, and this caller won't wait: but it may
    /// have what is there.
    fn peek(&self) -> Result<Begun, Error> {
        let record = self.shared.store.read(&self.asking.key, self.store_deadline())?;
        match record {
            Some(record) if record.state == RecordState::Released => {}
            Some(record) if record.fingerprint != self.asking.fingerprint => {
                return Err(ErrorKind::Mismatch.into());
            }
            Some(record) => {
                if let Some(response) = record.response {
                    return Ok(Begun::Replayed(response));
                }
            }
            None => {}
        }
        Err(ErrorKind::Timeout.into())
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
        let (flights, lead) = (Arc::clone(&self.shared.flights), granted.id);
        // Before anything that can fail: from here on the flight isn't lost.
        let mut turn =
            Turn { flights, lead, token: Token([0; 16]), following: None, watcher: None };
        if granted.attempt > 1 {
            turn.following = turn.left_by_predecessor();
        }
        match Token::draw().and_then(|token| self.shared.keep_up().map(|()| token)) {
            Ok(token) => {
                turn.token = token;
                (State::Claiming(turn), Next::Go)
            }
            Err(error) => done(Err(error)),
        }
    }

    fn claim(&mut self, mut turn: Turn) -> (State, Next) {
        let (shared, asking) = (&self.shared, &self.asking);
        let waits = !asking.timeout.is_zero();
        let policy = shared.config.on_lease_expired;
        let take_over = asking.recover || policy == OnLeaseExpired::TakeOver;
        let claim = Claim {
            token: turn.token,
            fingerprint: asking.fingerprint.as_deref(),
            lease: asking.lease,
            keep: (policy == OnLeaseExpired::TakeOver).then(|| remembered(asking.ttl)),
            take_over,
            watch: waits,
            following: turn.following,
        };
        let sent = clock::now();
        let claimed = shared.store.claim(&asking.key, &claim, self.store_deadline());
        match claimed {
            Ok(Claimed::Lead(grant)) => done(self.lead(turn, grant, sent)),
            Ok(Claimed::Completed(response)) => {
                let (answer, begun) = if turn.following.is_some() {
                    (Answer::Shared(response.clone()), Begun::Shared(response))
                } else {
                    (Answer::Replayed(response.clone()), Begun::Replayed(response))
                };
                shared.answer(turn.use_up(), answer);
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
                shared.leads.chore(Chore::Withdraw(Arc::clone(&asking.key), turn.token));
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

    fn lead(&self, turn: Turn, grant: Grant, sent: Moment) -> Result<Begun, Error> {
        let Grant { epoch, attempt, checkpoint, taken_over } = grant;
        let (shared, asking) = (&self.shared, &self.asking);
        let held = Held { token: turn.token, epoch };
        let mut lead = Leading::new(Arc::clone(&asking.key), held, attempt, asking.lease);
        lead.checkpoint = checkpoint.map(Arc::from);
        lead.ttl = asking.ttl;
        lead.taken_over = taken_over;
        let name = turn.lead;
        lead.flight = Some(name);
        let max_lead = shared.config.heartbeat.then_some(shared.config.max_lead);
        if !shared.leads.add(name, lead, sent, max_lead) {
            // Closed meanwhile: nobody could settle it.
            let _ = shared.store.withdraw(&asking.key, turn.token, self.store_deadline());
            return Err(ErrorKind::Closed.into());
        }
        shared.count_lead(attempt, taken_over);
        Ok(Begun::Lead(turn.use_up()))
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

    fn count(&self, outcome: &Result<Begun, Error>) {
        let tally = &self.shared.tally;
        match outcome {
            Ok(Begun::Shared(_)) => up(&tally.shared),
            Ok(Begun::Replayed(_)) => up(&tally.replayed),
            Ok(Begun::Bypass) => up(&tally.bypassed),
            Err(error) if error.kind() == ErrorKind::Timeout => up(&tally.timeouts),
            // Leads were counted when they were granted.
            Ok(Begun::Lead(_)) | Err(_) => {}
        }
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

/// An outcome that is everybody's who has this key and this fingerprint.
fn fail(shared: &Shared, turn: Turn, error: Error) -> (State, Next) {
    shared.answer(turn.use_up(), Answer::Failed(error.clone()));
    done(Err(error))
}

/// Scope, key and fingerprint as one string of bytes: lengths first, so that no two are alike. Which
/// flights may be joined is told apart by `freshness`.
fn frame(asking: &Asking, freshness: u64) -> Box<[u8]> {
    let key = &asking.key;
    let mark = asking.fingerprint.as_deref();
    let len = 25 + key.scope().len() + key.key().len() + mark.map_or(0, <[u8]>::len);
    let mut framed = Vec::with_capacity(len);
    framed.extend_from_slice(&freshness.to_le_bytes());
    for part in [key.scope(), key.key()] {
        framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
        framed.extend_from_slice(part);
    }
    framed.push(u8::from(mark.is_some()));
    framed.extend_from_slice(mark.unwrap_or_default());
    framed.into()
}
