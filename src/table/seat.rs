//! Where followers wait: one [`Room`] a flight, one [`Seat`] a follower.
//!
//! The room holds the outcome that all share, set once and read without a lock. Threads that wait
//! sleep at its [`Gate`], which opens for all of them at once: one futex word, one wake. A seat is
//! what one follower was told: an offered lead is for exactly one of them.
//!
//! Waking one of many who sleep at one condvar: `notify_one` wakes the one that slept first, as a
//! rule, which is the first in line, as a rule. Whoever is woken and wasn't called wakes all others
//! once, so the one that was is never missed.
//!
//! Threads that take a lock as they return, an interpreter's, are better woken one by one: together
//! they would line up at that lock, and each hand it over across cores. Who asks for it is woken *in
//! turn*: by the one before, whose [`Turn`] ends when it has that lock. The first stays until the last
//! is awake, and if a turn takes long it wakes all the rest: nobody depends on another's return.
//!
//! Lock order: gate → seat. Both are leaves to everything else: never locked under a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use once_cell::sync::OnceCell;

use super::flight::LeadId;
use super::form::Form;
use crate::clock::{self, Moment, Span};
use crate::error::ErrorKind;
use crate::fork;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How a flight ended, for its followers.
pub(crate) enum Verdict<F: Form> {
    Shared(F::Response),
    Bypass,
    Failed(ErrorKind),
    /// A detached flight failed: begin again, with this key (a twin) and fingerprint.
    Restart(F::Key, Option<Box<[u8]>>),
}

/// What the followers of one flight share.
pub(crate) struct Room<F: Form> {
    /// Set under the line's latch, by the transition that ends the flight for its followers.
    pub(super) outcome: OnceCell<Verdict<F>>,
    /// The thread that leads, where it said that it settles on that thread; else 0. Behind an
    /// `Arc` so that the search for wait cycles needs to know nothing of `F`. A `std` atomic even
    /// in models: it only changes under the line's latch.
    pub(super) leader: Arc<AtomicU32>,
    pub(super) gate: Arc<Gate>,
}

impl<F: Form> Room<F> {
    pub(super) fn new(leader: u32) -> Self {
        Self {
            outcome: OnceCell::new(),
            leader: Arc::new(AtomicU32::new(leader)),
            gate: Arc::default(),
        }
    }
}

/// Fewer are woken together, however they ask: a chain is slower than a few at once.
const CROWD: usize = if cfg!(onceflight_shuttle) { 3 } else { 16 };

/// The longest turn, in nanoseconds, that others sleep through. A usual one takes a fiftieth of it.
const PATIENCE: Span = 2_000_000;

/// What the threads that wait for one flight sleep at.
pub(crate) struct Gate {
    state: Mutex<Calls>,
    bell: Condvar,
    /// Rung for the usher, when the last is awake.
    emptied: Condvar,
    patience: Span,
}

#[derive(Default)]
struct Calls {
    door: Door,
    sleepers: usize,
    /// How many of the sleepers asked to be woken in turn.
    in_turn: usize,
    /// Sleepers that were called and haven't heard it yet.
    called: usize,
    /// All were woken since the last call, for another than the one called had heard it.
    cried: bool,
}

/// | door | |
/// |-|-|
/// | `Shut` | there is no outcome yet |
/// | `Open` | the outcome is in the room; all were woken |
/// | `Ajar` | the same; one was woken, to be the usher |
/// | `Ushered` | the same; each is woken at the end of another's turn, or by the usher |
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Shut,
    Open,
    Ajar,
    Ushered,
}

impl Default for Gate {
    fn default() -> Self {
        let (state, bell, emptied) = Default::default();
        Self { state, bell, emptied, patience: PATIENCE }
    }
}

impl Gate {
    /// The outcome is there: wakes everybody, or sees to it.
    pub(super) fn open(&self) {
        let (door, sleepers) = {
            let mut calls = self.state.lock();
            let in_turn = calls.sleepers >= CROWD && calls.in_turn == calls.sleepers;
            calls.door = if in_turn { Door::Ajar } else { Door::Open };
            (calls.door, calls.sleepers)
        };
        if door == Door::Ajar {
            self.bell.notify_one();
        } else if sleepers > 0 {
            self.bell.notify_all();
        }
    }

    /// Wakes the thread in that seat, if it sleeps.
    fn call(&self, seat: &Seat) {
        {
            let mut calls = self.state.lock();
            if !seat.asleep.load(Ordering::Relaxed) {
                return;
            }
            calls.called += usize::from(!seat.called.swap(true, Ordering::Relaxed));
            calls.cried = false;
        }
        self.bell.notify_one();
    }

    fn wait(&self, seat: &Seat, deadline: Moment, in_turn: bool) {
        let mut calls = self.state.lock();
        while calls.door == Door::Shut && seat.told() == Told::Wait && !clock::passed(deadline) {
            calls.sleepers += 1;
            calls.in_turn += usize::from(in_turn);
            seat.asleep.store(true, Ordering::Relaxed);
            calls = self.bell.wait(calls, deadline);
            seat.asleep.store(false, Ordering::Relaxed);
            calls.sleepers -= 1;
            calls.in_turn -= usize::from(in_turn);
            if seat.called.swap(false, Ordering::Relaxed) {
                calls.called -= 1;
            } else if calls.called > 0 && calls.door == Door::Shut && !calls.cried {
                // This thread may have been woken in another's stead.
                calls.cried = true;
                self.bell.notify_all();
            }
        }
        match calls.door {
            // Who asked for no turn and comes late waits for none: the one that was woken will.
            Door::Ajar if in_turn && calls.sleepers > 0 => self.usher(calls, deadline),
            Door::Ushered if calls.sleepers == 0 => self.emptied.notify_one(),
            _ => {}
        }
    }

    /// Stays until all others are awake; wakes the rest at once, if nobody was for a while, or its time is up.
    fn usher(&self, mut calls: MutexGuard<'_, Calls>, deadline: Moment) {
        calls.door = Door::Ushered;
        self.bell.notify_one();
        let mut before = usize::MAX;
        while calls.sleepers > 0 {
            if calls.sleepers == before || clock::passed(deadline) {
                calls.door = Door::Open;
                self.bell.notify_all();
                return;
            }
            before = calls.sleepers;
            calls = self.emptied.wait(calls, clock::after(self.patience).min(deadline));
        }
    }

    /// Whether others sleep until the caller's turn is over.
    fn turn(self: &Arc<Self>) -> Option<Turn> {
        let calls = self.state.lock();
        (calls.door == Door::Ushered && calls.sleepers > 0)
            .then(|| Turn { gate: Arc::clone(self), born: fork::generation() })
    }
}

/// Of those who are woken one by one, the one that is awake. Dropped, it wakes the next.
pub(crate) struct Turn {
    gate: Arc<Gate>,
    /// The child of a fork has none of the sleepers, and its copy of the lock may be held for ever.
    born: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.born == fork::generation() && self.gate.state.lock().sleepers > 0 {
            self.gate.bell.notify_one();
        }
    }
}

/// Told when a follower that doesn't block should look at its seat. Called with no lock held.
pub(crate) trait Waker: Send + Sync {
    fn wake(&self);
}

/// What a follower was told.
///
/// | told | means |
/// |-|-|
/// | `Wait` | nothing yet; a thread that blocks looks at its gate too |
/// | `Look` | the outcome is in the room |
/// | `Offer(id)` | the lead is yours, if you accept it before it lapses |
/// | `TimedOut` | an alarm took you out of line |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Wait,
    Look,
    Offer(LeadId),
    TimedOut,
}

pub(crate) struct Seat {
    state: Mutex<State>,
    gate: Arc<Gate>,
    /// A thread sleeps here. Changed and read under the gate's lock only, as the next.
    asleep: AtomicBool,
    /// It was called, and hasn't heard it yet.
    called: AtomicBool,
    /// The follower's place in line. Changed only under the line's latch.
    pub(super) ticket: Arc<AtomicU64>,
    /// Whether a thread of its own waits here: then an offer can't go unread.
    pub(super) blocking: bool,
}

struct State {
    told: Told,
    waker: Option<Arc<dyn Waker>>,
}

impl Seat {
    pub(super) fn new(
        ticket: u64,
        blocking: bool,
        waker: Option<Arc<dyn Waker>>,
        gate: Arc<Gate>,
    ) -> Self {
        Self {
            state: Mutex::new(State { told: Told::Wait, waker }),
            gate,
            asleep: AtomicBool::new(false),
            called: AtomicBool::new(false),
            ticket: Arc::new(AtomicU64::new(ticket)),
            blocking,
        }
    }

    /// Tells the follower, once its line is let go.
    pub(super) fn tell(&self, told: Told) {
        let waker = {
            let mut state = self.state.lock();
            // The line is let go by now, so tellers may overtake each other: what ends the wait is
            // final, and of two offers the one with the higher id is the later one.
            match (state.told, told) {
                (Told::Look | Told::TimedOut, _) => {}
                (Told::Offer(newer), Told::Offer(id)) if newer > id => {}
                _ => state.told = told,
            }
            state.waker.clone()
        };
        self.gate.call(self);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn told(&self) -> Told {
        self.state.lock().told
    }

    /// Waits until told something, or the outcome is there, or until `deadline`.
    pub(super) fn wait(&self, deadline: Moment, in_turn: bool) {
        self.gate.wait(self, deadline, in_turn);
    }

    /// What a follower that asked for it has once its wait is over, if others come after it.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.gate.turn()
    }

    /// An offer was revoked before it was accepted: back to waiting, unless told something since.
    pub(super) fn lapse(&self, id: LeadId) {
        let mut state = self.state.lock();
        if state.told == Told::Offer(id) {
            state.told = Told::Wait;
        }
    }

    /// From now on `waker` is told too; at once, if there is something to see.
    pub(super) fn watch(&self, waker: &Arc<dyn Waker>) {
        let told = {
            let mut state = self.state.lock();
            state.waker = Some(Arc::clone(waker));
            state.told
        };
        if told != Told::Wait {
            waker.wake();
        }
    }
}

#[cfg(all(test, not(onceflight_shuttle)))]
pub(crate) mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::yield_now;
    use std::time::Duration;

    use super::*;
    use crate::clock::{ENDLESS, NEVER};

    const LONG: Duration = Duration::from_secs(60);

    /// Some threads that sleep at a gate, of which so many ask for turns. Whoever comes out sends its own.
    fn asleep(patience: Span, threads: usize, ask: usize) -> (Arc<Gate>, Receiver<Option<Turn>>) {
        let gate = Arc::new(Gate { patience, ..Gate::default() });
        let (sender, out) = channel();
        for ticket in 0..threads {
            let seat = Seat::new(ticket as u64, true, None, Arc::clone(&gate));
            let sender = sender.clone();
            std::thread::spawn(move || {
                seat.wait(NEVER, ticket < ask);
                sender.send(seat.turn()).unwrap();
            });
        }
        while gate.state.lock().sleepers < threads {
            yield_now();
        }
        (gate, out)
    }

    /// A crowd on its way out, each for ever in its turn.
    #[cfg(feature = "capi")]
    pub(crate) fn crowd() -> Receiver<Option<Turn>> {
        let (gate, out) = asleep(ENDLESS, CROWD, CROWD);
        gate.open();
        out
    }

    #[test]
    fn a_crowd_comes_out_in_turn() {
        const OTHERS: usize = CROWD - 1; // than the usher
        let (gate, out) = asleep(ENDLESS, CROWD, CROWD);
        gate.open();
        for still_asleep in (0..OTHERS).rev() {
            let turn = out.recv_timeout(LONG).unwrap();
            assert_eq!(gate.state.lock().sleepers, still_asleep, "one at a time");
            assert_eq!(turn.is_some(), still_asleep > 0);
        }
        assert!(out.recv_timeout(LONG).unwrap().is_none(), "the usher is the last");
    }

    #[test]
    fn a_turn_that_never_ends_keeps_nobody() {
        let (gate, out) = asleep(1, CROWD, CROWD);
        gate.open();
        let turns: Vec<_> = (0..CROWD).map(|_| out.recv_timeout(LONG).unwrap()).collect();
        assert!(out.try_recv().is_err());
        drop(turns);
    }

    #[test]
    fn who_asks_for_no_turn_waits_for_none() {
        for (threads, ask) in [(CROWD, CROWD - 1), (CROWD - 1, CROWD - 1)] {
            let (gate, out) = asleep(ENDLESS, threads, ask);
            gate.open();
            for _ in 0..threads {
                assert!(out.recv_timeout(LONG).unwrap().is_none());
            }
        }
    }

    #[test]
    fn who_comes_late_and_asks_for_no_turn_is_no_usher() {
        let (gate, out) = asleep(ENDLESS, CROWD, CROWD);
        gate.state.lock().door = Door::Ajar; // as open() leaves it, before the one that it wakes has the lock
        let seat = Seat::new(99, true, None, Arc::clone(&gate));
        let (sender, late) = channel();
        std::thread::spawn(move || {
            seat.wait(NEVER, false);
            sender.send(()).unwrap();
        });
        late.recv_timeout(LONG).unwrap();
        gate.bell.notify_one();
        (0..CROWD).for_each(|_| drop(out.recv_timeout(LONG).unwrap()));
    }

    #[test]
    fn an_usher_keeps_its_deadline() {
        let (gate, out) = asleep(ENDLESS, CROWD, CROWD);
        gate.state.lock().door = Door::Ajar;
        let seat = Seat::new(99, true, None, Arc::clone(&gate));
        seat.wait(clock::after(1_000_000), true);
        let turns: Vec<_> = (0..CROWD).map(|_| out.recv_timeout(LONG).unwrap()).collect();
        drop(turns); // that nobody's turn ended before
    }
}
