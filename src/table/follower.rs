//! Waiting for a flight, in a thread of its own or not.

use std::fmt;
use std::hash::RandomState;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use once_cell::sync::OnceCell;

use super::begin::Left;
use super::deadlock;
use super::engine::{Ask, Follow, Granted, Inner, Step};
use super::flight::Terms;
use super::lead::Lead;
use super::seat::{Room, Seat, Told, Verdict, Waker};
use super::shard::StoredKey;
use super::{Begin, DedupTable, Key, Value};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::timer::{Alarm, AlarmKey, Alarmed};

/// A follower's hold on its flight. It keeps the table's insides alive, so that a table handle may
/// be freed while threads are blocked here.
pub(crate) struct Waiter<K: Key, V: Value> {
    inner: Arc<Inner<K, V>>,
    hash: u64,
    terms: Terms,
    follow: Follow,
    deadline: Option<Instant>,
    waker: Option<Arc<dyn Waker>>,
    room: Arc<Room<K, V>>,
    seat: Arc<Seat>,
    alarm: Option<AlarmKey>,
    done: bool,
}

/// What a wait ends with.
pub(crate) enum Arrived<V> {
    Lead(Granted),
    Shared(Arc<V>),
    Replayed(Arc<V>),
    Bypass,
}

impl<K: Key, V: Value> Waiter<K, V> {
    pub fn new(
        inner: Arc<Inner<K, V>>,
        hash: u64,
        ask: &Ask<'_>,
        waker: Option<Arc<dyn Waker>>,
        (room, seat): (Arc<Room<K, V>>, Arc<Seat>),
    ) -> Self {
        let Ask { terms, follow, deadline, .. } = *ask;
        let (alarm, done) = (None, false);
        let mut waiter =
            Self { inner, hash, terms, follow, deadline, waker, room, seat, alarm, done };
        waiter.watch_deadline();
        waiter
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether there may be something to look at.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub fn is_told(&self) -> bool {
        self.seat.told() != Told::Wait
    }

    /// Takes the follower out of line at its deadline, though nobody blocks on it.
    fn watch_deadline(&mut self) {
        if let Some(deadline) = self.deadline {
            let me = Weak::clone(&self.inner.me) as Weak<dyn Alarmed>;
            let alarm = Alarm::Deadline { hash: self.hash, ticket: Arc::clone(&self.seat.ticket) };
            self.alarm = Some(self.inner.alarms.set(deadline, me, alarm));
        }
    }

    /// The outcome, if it is there.
    pub fn poll(&mut self) -> Option<Result<Arrived<V>, Error>> {
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
    pub fn wait(&mut self, deadline: Option<Instant>, leave: bool) -> Result<Arrived<V>, Error> {
        loop {
            if let Some(arrived) = self.poll() {
                return arrived;
            }
            let late = clock::passed(deadline);
            if late && !leave {
                return Err(ErrorKind::Timeout.into());
            }
            if !late && let Some(_edge) = deadlock::enter(&self.room.leader, deadline.is_none()) {
                self.seat.wait(deadline);
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

    /// What the room says: an outcome, or that the follower began again (`Ok(None)`: and is in a
    /// new line now).
    fn outcome(&mut self) -> Option<Result<Option<Arrived<V>>, Error>> {
        let shard = self.inner.shard(self.hash);
        let arrived = match self.room.outcome.get()? {
            Verdict::Shared(value) => {
                shard.shared.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(Some(Arrived::Shared(Arc::clone(value))))
            }
            Verdict::Bypass => {
                shard.bypassed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(Some(Arrived::Bypass))
            }
            Verdict::Failed(kind) => Err(Error::from(*kind)),
            Verdict::Restart(key, fingerprint) => {
                let (key, fingerprint) = (Arc::clone(key), fingerprint.clone());
                self.begin_again(&key, fingerprint.as_deref())
            }
        };
        if !matches!(arrived, Ok(None)) {
            self.done();
        }
        Some(arrived)
    }

    /// The detached flight failed: the follower is a caller like any other again.
    fn begin_again(
        &mut self,
        key: &Arc<K>,
        fingerprint: Option<&[u8]>,
    ) -> Result<Option<Arrived<V>>, Error> {
        let Self { terms, follow, deadline, .. } = *self;
        let ask = Ask { terms, fingerprint, follow, deadline };
        let own = || StoredKey::Shared(Arc::clone(key));
        match self.inner.begin(self.hash, &**key, own, &ask, self.waker.as_ref())? {
            Step::Lead(granted) => Ok(Some(Arrived::Lead(granted))),
            Step::Replay(value) => Ok(Some(Arrived::Replayed(value))),
            Step::Follow(room, seat) => {
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
        let granted = self.inner.accept(self.hash, id, &self.seat);
        match granted {
            Some(_) => self.done(),
            None => self.seat.lapse(id),
        }
        granted
    }

    fn leave(&mut self, timed_out: bool) -> Left {
        let left = self.inner.leave(self.hash, &self.seat, timed_out);
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

impl<K: Key, V: Value> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        if self.inner.forked() {
            // The parent's locks may be held for ever here. Nothing may look at its insides again.
            std::mem::forget(Arc::clone(&self.inner));
            return;
        }
        if !self.done {
            self.done();
            self.inner.give_up(self.hash, &self.seat);
        }
    }
}

/// A caller that waits for a flight without blocking, until it wants to.
///
/// Dropping it leaves the line and disturbs nobody. A lead that is offered to it and not taken up
/// within the table's [`offer`](crate::Builder::offer) time passes to the next in line.
#[must_use = "a dropped follower leaves the line"]
pub struct Follower<'t, K: Key, V: Value, S = RandomState> {
    table: &'t DedupTable<K, V, S>,
    waiter: Waiter<K, V>,
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
    pub(super) fn new(table: &'t DedupTable<K, V, S>, waiter: Waiter<K, V>) -> Self {
        Self { table, waiter, channel: OnceCell::new() }
    }

    /// Blocks until the flight has an outcome for this follower.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) once [`wait_timeout`](Self::wait_timeout) has given the outcome.
    pub fn wait(mut self) -> Result<Begin<'t, K, V>, Error> {
        self.unused()?;
        let arrived = self.waiter.wait(None, true)?;
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
        let arrived = self.waiter.wait(clock::after(timeout), false)?;
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

    fn arrive(&self, arrived: Arrived<V>) -> Begin<'t, K, V> {
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
        waiter: &Waiter<K, V>,
        arrived: Arrived<V>,
    ) -> Begin<'t, K, V> {
        match arrived {
            Arrived::Lead(granted) => {
                let thread = waiter.terms().thread;
                Begin::Lead(Lead::new(self.inner(), waiter.hash(), granted, thread))
            }
            Arrived::Shared(value) => Begin::Shared(V::clone(&value)),
            Arrived::Replayed(value) => Begin::Replayed(V::clone(&value)),
            Arrived::Bypass => Begin::Bypass,
        }
    }
}
