//! Where followers wait: one [`Room`] a flight, one [`Seat`] a follower.
//!
//! The room holds the outcome that all share, set once and read without a lock. The seat is where
//! one follower is told to look. A seat a follower and not one condvar for all: `notify_all` on a
//! shared `parking_lot` condvar hands its waiters through the one mutex, one after the other, and
//! a lead must be passed to exactly the first in line (figures in docs/DESIGN.md).
//!
//! Lock order: a seat is a leaf, and is never locked under a shard.

use std::sync::Arc;

use once_cell::sync::OnceCell;

use super::flight::LeadId;
use crate::error::ErrorKind;
use crate::sync::{Condvar, Mutex};

/// How a flight ended, for its followers.
pub(crate) enum Verdict<K, V> {
    Shared(Arc<V>),
    Bypass,
    Failed(ErrorKind),
    /// A detached flight failed: begin again, with this key and fingerprint.
    Restart(Arc<K>, Option<Arc<[u8]>>),
}

/// What the followers of one flight share.
pub(crate) struct Room<K, V> {
    /// Set under the shard's lock, by the transition that ends the flight for its followers.
    pub(super) outcome: OnceCell<Verdict<K, V>>,
    /// The thread that leads, where it said that it settles on that thread; else 0. Behind an
    /// `Arc` so that the search for wait cycles needs to know nothing of `K` and `V`. A `std`
    /// atomic even in models: it only changes under the shard's lock.
    pub(super) leader: Arc<std::sync::atomic::AtomicU64>,
}

impl<K, V> Room<K, V> {
    pub(super) fn new(leader: u64) -> Self {
        Self {
            outcome: OnceCell::new(),
            leader: Arc::new(std::sync::atomic::AtomicU64::new(leader)),
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
/// | `Wait` | nothing yet |
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
    bell: Condvar,
    /// The follower's place in line. Changed only under the shard's lock.
    pub(super) ticket: Arc<std::sync::atomic::AtomicU64>,
    /// Whether a thread of its own waits here: then an offer can't go unread.
    pub(super) blocking: bool,
}

struct State {
    told: Told,
    waker: Option<Arc<dyn Waker>>,
}

impl Seat {
    pub(super) fn new(ticket: u64, blocking: bool, waker: Option<Arc<dyn Waker>>) -> Self {
        Self {
            state: Mutex::new(State { told: Told::Wait, waker }),
            bell: Condvar::default(),
            ticket: Arc::new(std::sync::atomic::AtomicU64::new(ticket)),
            blocking,
        }
    }

    /// Tells the follower, once its shard is unlocked.
    pub(super) fn tell(&self, told: Told) {
        let waker = {
            let mut state = self.state.lock();
            // Shards are unlocked by now, so tellers may overtake each other: what ends the wait is
            // final, and of two offers the one with the higher id is the later one.
            match (state.told, told) {
                (Told::Look | Told::TimedOut, _) => {}
                (Told::Offer(newer), Told::Offer(id)) if newer > id => {}
                _ => state.told = told,
            }
            state.waker.clone()
        };
        self.bell.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn told(&self) -> Told {
        self.state.lock().told
    }

    /// Waits until told something, or until `deadline`.
    pub(super) fn wait(&self, deadline: Option<std::time::Instant>) {
        let mut state = self.state.lock();
        while state.told == Told::Wait && !crate::clock::passed(deadline) {
            self.bell.wait(&mut state, deadline);
        }
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
