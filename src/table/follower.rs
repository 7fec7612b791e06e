//! Waiting for a flight, in a thread of its own or not.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use once_cell::sync::OnceCell;

use super::begin::Left;
use super::deadlock;
use super::engine::{Ask, Follow, Granted, Inner, Joined, Step};
use super::flight::Terms;
use super::form::{Form, Probe};
use super::index::Spot;
use super::lead::Lead;
use super::seat::{Room, Seat, Told, Turn, Verdict, Waker};
use super::typed::{Held, Typed};
use super::{Begin, DedupTable, Key, Value};
use crate::clock::{self, Moment, NEVER, Span};
use crate::error::{Error, ErrorKind};
use crate::hash::SipState;
use crate::sync::yield_now;
use crate::timer::{Alarm, AlarmKey, Alarmed};

/// How often a thread that is about to sleep lets others go first. On idle cores a turn is a third of a microsecond, and
/// all of them are less than being woken; more of them gained nothing (docs/DESIGN.md has the figures).
const YIELDS: usize = if cfg!(onceflight_shuttle) { 1 } else { 8 };

/// With less than that to go, in nanoseconds, it sleeps at once. A turn of others is some milliseconds for each thread that
/// computes on this core.
const HURRY: Span = 1_000_000_000;

/// A follower's hold on its flight. It keeps the table's insides alive, so that a table handle may
/// be freed while threads are blocked here.
pub(crate) struct Waiter<F: Form> {
    inner: Arc<Inner<F>>,
    hash: u64,
    terms: Terms,
    follow: Follow,
    deadline: Moment,
    waker: Option<Arc<dyn Waker>>,
    room: Arc<Room<F>>,
    seat: Arc<Seat>,
    alarm: Option<AlarmKey>,
    done: bool,
    in_turn: bool,
}

/// What a wait ends with.
pub(crate) enum Arrived<R> {
    Lead(Granted),
    Shared(R),
    Replayed(R),
    Bypass,
}

impl<F: Form> Waiter<F> {
    pub fn new(joined: Joined<F>, hash: u64, ask: &Ask<'_>, waker: Option<Arc<dyn Waker>>) -> Self {
        let Joined { inner, room, seat } = joined;
        let Ask { terms, follow, deadline, .. } = *ask;
        let mut waiter = Self {
            inner,
            hash,
            terms,
            follow,
            deadline,
            waker,
            room,
            seat,
            alarm: None,
            done: false,
            in_turn: false,
        };
        waiter.watch_deadline();
        waiter
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Asks to be woken one by one with others who ask: see `seat`.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub fn in_turn(mut self, in_turn: bool) -> Self {
        self.in_turn = in_turn;
        self
    }

    /// Whether others who asked for it sleep until this one, whose wait is over, is back.
    pub fn turn(&self) -> Option<Turn> {
        self.in_turn.then(|| self.seat.turn())?
    }

    fn line(&self) -> u32 {
        Spot::of(self.hash).hash()
    }

    /// Whether there may be something to look at.
    pub fn is_told(&self) -> bool {
        self.seat.told() != Told::Wait
    }

    /// Takes the follower out of line at its deadline, though nobody blocks on it.
    fn watch_deadline(&mut self) {
        if self.deadline != NEVER {
            let me = Weak::clone(&self.inner.me) as Weak<dyn Alarmed>;
            let (hash, ticket) = (self.line(), Arc::clone(&self.seat.ticket));
            let alarm = Alarm::Deadline { hash, ticket };
            self.alarm = Some(self.inner.alarms.set(self.deadline, me, alarm));
        }
    }

    /// The outcome, if it is there.
    pub fn poll(&mut self) -> Option<Result<Arrived<F::Response>, Error>> {
        loop {
            if let Err(error) = self.inner.check_fork() {
                return Some(Err(error));
            }
            match self.seat.told() {
                // It isn't in the flight any more, whatever became of that.
                Told::TimedOut => return Some(Err(self.finish(ErrorKind::Timeout))),
                Told::Offer(id) => {
                    if let Some(granted) = self.accept(id) {
                        return Some(Ok(Arrived::Lead(granted)));
                    }
                }
                Told::Wait | Told::Look => {}
            }
            match self.outcome()? {
                Ok(Some(arrived)) => return Some(Ok(arrived)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Blocks until the outcome is there or `deadline` has come. After a timeout the follower is
    /// out of line if `leave`, and keeps its place if not.
    pub fn wait(&mut self, deadline: Moment, leave: bool) -> Result<Arrived<F::Response>, Error> {
        loop {
            if let Some(arrived) = self.poll() {
                return arrived;
            }
            let late = clock::passed(deadline);
            if late && !leave {
                return Err(ErrorKind::Timeout.into());
            }
            if !late && let Some(_edge) = deadlock::enter(&self.room.leader, deadline == NEVER) {
                if !self.soon(deadline) {
                    self.seat.wait(deadline, self.in_turn);
                }
                continue;
            }
            match self.leave(late) {
                Left::Gone if late => return Err(self.finish(ErrorKind::Timeout)),
                Left::Gone => return Err(self.finish(ErrorKind::WouldDeadlock)),
                Left::Leads(granted) => return Ok(Arrived::Lead(granted)),
                Left::Settled => {}
            }
        }
    }

    /// Lets others go first a few times: where cores are short, one of them is the leader, or its response is
    /// there by the time that this thread's turn comes, and nobody has to be woken. Whether there is
    /// something to look at.
    fn soon(&self, deadline: Moment) -> bool {
        if deadline != NEVER && clock::passed(deadline.saturating_sub(HURRY)) {
            return false;
        }
        (0..YIELDS).any(|_| {
            yield_now();
            self.room.outcome.get().is_some() || self.is_told()
        })
    }

    /// What the room says: an outcome, or that the follower began again (`Ok(None)`: and is in a
    /// new line now).
    fn outcome(&mut self) -> Option<Result<Option<Arrived<F::Response>>, Error>> {
        let arrived = match self.room.outcome.get()? {
            Verdict::Shared(response) => {
                self.inner.here().tally.shared.up();
                Ok(Some(Arrived::Shared(response.clone())))
            }
            Verdict::Bypass => {
                self.inner.here().tally.bypassed.up();
                Ok(Some(Arrived::Bypass))
            }
            Verdict::Failed(kind) => Err(Error::from(*kind)),
            Verdict::Restart(..) => self.begin_again(),
        };
        if !matches!(arrived, Ok(None)) {
            self.done();
        }
        Some(arrived)
    }

    /// The detached flight failed: the follower is a caller like any other again.
    fn begin_again(&mut self) -> Result<Option<Arrived<F::Response>>, Error> {
        let room = Arc::clone(&self.room);
        let Some(Verdict::Restart(key, fingerprint)) = room.outcome.get() else {
            unreachable!("what the caller found there")
        };
        let Self { terms, follow, deadline, hash, .. } = *self;
        let ask = Ask { terms, fingerprint: fingerprint.as_deref(), follow, deadline };
        let again = Again { key, hash };
        match self.inner.begin(&again, &ask, self.waker.as_ref())? {
            Step::Lead(granted) => Ok(Some(Arrived::Lead(granted))),
            Step::Replay(response) => Ok(Some(Arrived::Replayed(response))),
            Step::Follow(Joined { room, seat, .. }) => {
                // It isn't back for long: who comes after it doesn't wait for that.
                drop(self.turn());
                self.room = room;
                self.seat = seat;
                if let Some(alarm) = self.alarm.take() {
                    self.inner.alarms.cancel(alarm);
                }
                self.watch_deadline();
                Ok(None)
            }
        }
    }

    fn accept(&mut self, id: u64) -> Option<Granted> {
        let granted = self.inner.accept(self.line(), id, &self.seat);
        match granted {
            Some(_) => self.done(),
            None => self.seat.lapse(id),
        }
        granted
    }

    fn leave(&mut self, timed_out: bool) -> Left {
        let left = self.inner.leave(self.line(), &self.seat, timed_out);
        if !matches!(left, Left::Settled) {
            self.done();
        }
        left
    }

    fn finish(&mut self, kind: ErrorKind) -> Error {
        self.done();
        kind.into()
    }

    fn done(&mut self) {
        self.done = true;
        if let Some(alarm) = self.alarm.take() {
            self.inner.alarms.cancel(alarm);
        }
    }

    fn watch(&mut self, waker: Arc<dyn Waker>) {
        self.seat.watch(&waker);
        self.waker = Some(waker);
    }
}

impl<F: Form> Drop for Waiter<F> {
    fn drop(&mut self) {
        if self.inner.forked() {
            // The parent's locks may be held for ever here. Nothing may look at its insides again.
            std::mem::forget(Arc::clone(&self.inner));
            return;
        }
        if !self.done {
            self.done();
            self.inner.give_up(self.line(), &self.seat);
        }
    }
}

/// The key of a flight that its followers begin again.
struct Again<'a, F: Form> {
    key: &'a F::Key,
    hash: u64,
}

impl<F: Form> Probe<F> for Again<'_, F> {
    const OURS: bool = true;
    type Light = ();

    fn spot(&self) -> Spot {
        Spot::of(self.hash)
    }

    fn is_key(&self, key: &F::Key) -> bool {
        F::same(self.key, key)
    }

    fn is_response(&self, response: &F::Response) -> bool {
        F::is_of(self.key, response)
    }

    fn own(&self) -> F::Key {
        F::again(self.key)
    }

    fn light(&self) -> Option<()> {
        None
    }

    fn write(&self, (): (), place: &mut Option<F::Key>) {
        *place = Some(self.own());
    }
}

/// A caller that waits for a flight without blocking, until it wants to.
///
/// Dropping it leaves the line and disturbs nobody. A lead that is offered to it and not taken up
/// within the table's [`offer`](crate::Builder::offer) time passes to the next in line.
#[must_use = "a dropped follower leaves the line"]
pub struct Follower<'t, K: Key, V: Value, S = SipState> {
    table: &'t DedupTable<K, V, S>,
    waiter: Waiter<Typed<K, V>>,
    channel: OnceCell<Receiver<()>>,
}

/// Rings by sending; a full channel has rung already.
struct Bell(Sender<()>);

impl Waker for Bell {
    fn wake(&self) {
        let _ = self.0.try_send(());
    }
}

impl<'t, K, V, S> Follower<'t, K, V, S>
where
    K: Key,
    V: Clone + Value,
{
    pub(super) fn new(table: &'t DedupTable<K, V, S>, waiter: Waiter<Typed<K, V>>) -> Self {
        Self { table, waiter, channel: OnceCell::new() }
    }

    /// Blocks until the flight has an outcome for this follower.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) once [`wait_timeout`](Self::wait_timeout) has given the outcome.
    pub fn wait(mut self) -> Result<Begin<'t, K, V>, Error> {
        self.unused()?;
        let arrived = self.waiter.wait(NEVER, true)?;
        Ok(self.arrive(arrived))
    }

    /// [`wait`](Self::wait) for at most `timeout`. After a [`Timeout`](ErrorKind::Timeout) the
    /// follower still has its place in line, and may wait again.
    ///
    /// # Errors
    /// Once it has returned anything else, the follower is used up: [`Invalid`](ErrorKind::Invalid).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Begin<'t, K, V>, Error> {
        self.unused()?;
        if let Some(rang) = self.channel.get() {
            let _ = rang.try_recv();
        }
        let arrived = self.waiter.wait(clock::after(clock::span(timeout)), false)?;
        Ok(self.arrive(arrived))
    }

    /// Receives once there is something to wait for no longer: then [`wait_timeout`](Self::wait_timeout)
    /// of zero has the outcome; or, if an offered lead was passed on meanwhile, a `Timeout`, and
    /// another message will come. Made for `select!`.
    pub fn receiver(&mut self) -> &Receiver<()> {
        let waiter = &mut self.waiter;
        self.channel.get_or_init(|| {
            let (sender, receiver) = bounded(1);
            waiter.watch(Arc::new(Bell(sender)));
            receiver
        })
    }

    fn unused(&self) -> Result<(), Error> {
        if self.waiter.done {
            return Err(Error::new(ErrorKind::Invalid, "this follower has had its outcome"));
        }
        Ok(())
    }

    fn arrive(&self, arrived: Arrived<Held<K, V>>) -> Begin<'t, K, V> {
        let table = self.table;
        table.begun(&self.waiter, arrived)
    }
}

impl<K: Key, V: Value, S> fmt::Debug for Follower<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("done", &self.waiter.done).finish_non_exhaustive()
    }
}

impl<K, V, S> DedupTable<K, V, S>
where
    K: Key,
    V: Clone + Value,
{
    /// An outcome as users see it. Values are cloned here, with no lock held.
    pub(super) fn begun<'t>(
        &'t self,
        waiter: &Waiter<Typed<K, V>>,
        arrived: Arrived<Held<K, V>>,
    ) -> Begin<'t, K, V> {
        match arrived {
            Arrived::Lead(granted) => {
                Begin::Lead(Lead::new(self.inner(), waiter.hash(), granted, waiter.terms()))
            }
            Arrived::Shared(response) => Begin::Shared(V::clone(&response.value)),
            Arrived::Replayed(response) => Begin::Replayed(V::clone(&response.value)),
            Arrived::Bypass => Begin::Bypass,
        }
    }
}
