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
//! Lock order: gate → seat. Both are leaves to everything else: never locked under a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use once_cell::sync::OnceCell;

use super::flight::LeadId;
use super::form::Form;
use crate::clock::{self, Moment};
use crate::error::ErrorKind;
use crate::sync::{Condvar, Mutex};

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

/// What the threads that wait for one flight sleep at.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<Calls>,
    bell: Condvar,
}

#[derive(Default)]
struct Calls {
    /// The outcome is in the room.
    open: bool,
    sleepers: usize,
    /// Sleepers that were called and haven't heard it yet.
    called: usize,
    /// All were woken since the last call, for another than the one called had heard it.
    cried: bool,
}

impl Gate {
    /// The outcome is there: wakes everybody.
    pub(super) fn open(&self) {
        let sleepers = {
            let mut calls = self.state.lock();
            calls.open = true;
            calls.sleepers
        };
        if sleepers > 0 {
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

    fn wait(&self, seat: &Seat, deadline: Moment) {
        let mut calls = self.state.lock();
        while !calls.open && seat.told() == Told::Wait && !clock::passed(deadline) {
            calls.sleepers += 1;
            seat.asleep.store(true, Ordering::Relaxed);
            calls = self.bell.wait(calls, deadline);
            seat.asleep.store(false, Ordering::Relaxed);
            calls.sleepers -= 1;
            if seat.called.swap(false, Ordering::Relaxed) {
                calls.called -= 1;
            } else if calls.called > 0 && !calls.open && !calls.cried {
                // This thread may have been woken in another's stead.
                calls.cried = true;
                self.bell.notify_all();
            }
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
    pub(super) fn wait(&self, deadline: Moment) {
        self.gate.wait(self, deadline);
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
