//! Memory for bodies: one account for all connections, so that many large bodies at once can't take it all.
//!
//! | who takes | up to |
//! |-|-|
//! | the response to an execution with a key | all of it |
//! | anybody else | three quarters |
//!
//! The last quarter is for what can't be had again: the execution is over, and what isn't kept of it is lost to
//! those who retry. All others can be told to come again, or have their response passed on as it comes.
//!
//! What is counted is what was allocated for the body, once. Nobody waits for room: two half-read bodies would
//! wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::Extensions;

/// A body of so many bytes isn't counted. A connection needs that much in any case, and most need no more: they
/// are served however little is left.
pub const FREE: usize = 64 << 10;

/// The account.
pub struct Budget {
    most: usize,
    used: AtomicUsize,
}

/// What one body has of it, given back when it is dropped.
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
    most: usize,
}

impl Budget {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicUsize::new(0) })
    }

    /// In bytes, now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether what is left is for those executions only that have begun.
    pub fn is_spent(&self) -> bool {
        self.used() + FREE > self.usual()
    }

    /// For a body, of which nothing is there yet.
    pub fn room(self: &Arc<Self>) -> Room {
        Room { budget: Arc::clone(self), bytes: 0, most: self.usual() }
    }

    /// The same, for the response to an execution with a key.
    pub fn room_for_outcome(self: &Arc<Self>) -> Room {
        Room { budget: Arc::clone(self), bytes: 0, most: self.most }
    }

    fn usual(&self) -> usize {
        self.most - self.most / 4
    }
}

impl Room {
    /// Takes what is missing to so many bytes. False: there isn't so much, and nothing was taken.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes.max(FREE) {
            return true;
        }
        let more = bytes - self.bytes;
        let fitting = |used: usize| used.checked_add(more).filter(|&used| used <= self.most);
        let taken = self.budget.used.fetch_update(Relaxed, Relaxed, fitting).is_ok();
        if taken {
            self.bytes = bytes;
        }
        taken
    }

    /// From now on it is a message's, and given back with the last copy of that.
    pub fn stay_with(self, message: &mut Extensions) {
        if self.bytes > 0 {
            message.insert(Arc::new(self));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const MOST: usize = 16 * FREE;

    #[test]
    fn what_was_taken_comes_back_with_the_last_copy_of_the_message() {
        let budget = Budget::new(MOST);
        let mut room = budget.room();
        assert!(room.grow_to(3 * FREE) && room.grow_to(2 * FREE));
        let mut message = Extensions::new();
        room.stay_with(&mut message);
        let copy = message.clone();
        drop(message);
        assert_eq!(budget.used(), 3 * FREE);
        drop(copy);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn small_bodies_are_free_and_the_last_quarter_is_for_outcomes() {
        let budget = Budget::new(MOST);
        let (mut usual, mut other) = (budget.room(), budget.room());
        assert!(usual.grow_to(11 * FREE) && !budget.is_spent());
        assert!(!other.grow_to(2 * FREE) && !other.grow_to(usize::MAX));
        assert!(usual.grow_to(12 * FREE) && !usual.grow_to(13 * FREE) && budget.is_spent());
        assert!(other.grow_to(FREE));
        assert_eq!(budget.used(), 12 * FREE);
        let mut outcome = budget.room_for_outcome();
        assert!(outcome.grow_to(4 * FREE) && !outcome.grow_to(5 * FREE));
    }

    #[test]
    fn however_many_take_at_once_it_is_never_exceeded() {
        let budget = Budget::new(MOST);
        thread::scope(|scope| {
            for seed in 0..4 {
                let budget = &budget;
                scope.spawn(move || {
                    for turn in 0..10_000 {
                        let mut rooms = [(); 4].map(|()| budget.room_for_outcome());
                        for room in &mut rooms {
                            let _ = room.grow_to((2 + (turn + seed) % 7) * FREE);
                        }
                        assert!(budget.used() <= MOST);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
