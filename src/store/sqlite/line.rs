//! Who may act, one at a time and in the order of asking; and whom the one who acts takes along.
//!
//! | who asks is | leaves it by |
//! |-|-|
//! | in line | being called; being taken along; its deadline |
//! | acting: it has the [`Turn`] | dropping that, which calls the next in line |
//! | taken along | being told that its job is done; else it is in line again, in front, and wants to act alone |
//!
//! Invariants: at most one has the turn. Whoever isn't in line any more is told something. Nobody is
//! called or told under the lock.
//!
//! Lock order: both kinds of lock here are leaves.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::clock::{self, Moment, NEVER};
use crate::sync::{Condvar, Mutex};

/// A line of threads that each want a `J` done.
pub(super) struct Line<J>(Mutex<State<J>>);

struct State<J> {
    /// Somebody acts, or was called to.
    acting: bool,
    waiting: VecDeque<Asked<J>>,
}

/// A place in line.
struct Asked<J> {
    who: Arc<Waiter<J>>,
    alone: bool,
}

struct Waiter<J> {
    job: J,
    told: Mutex<Option<Told>>,
    bell: Condvar,
}

#[derive(Clone, Copy)]
enum Told {
    Act,
    Done,
    /// What it was part of came to nothing.
    Again,
}

/// What waiting in line came to.
pub(super) enum Waited<'l, J> {
    Turn(Turn<'l, J>),
    /// Somebody else did it.
    Done,
    TimedOut,
}

/// The right to act.
pub(super) struct Turn<'l, J> {
    line: &'l Line<J>,
    /// Whether nobody is to be taken along.
    alone: bool,
}

/// Those who were taken along. Dropped, they act for themselves.
pub(super) struct Along<J>(Vec<Arc<Waiter<J>>>);

impl<J> Line<J> {
    pub fn new() -> Self {
        Self(Mutex::new(State { acting: false, waiting: VecDeque::new() }))
    }

    /// The turn, if nobody has it.
    pub fn turn_if_free(&self) -> Option<Turn<'_, J>> {
        let somebody = mem::replace(&mut self.0.lock().acting, true);
        if somebody { None } else { Some(Turn { line: self, alone: false }) }
    }

    /// Blocks until the turn has come, or another has done `job`, or `until`. (A job that was begun by
    /// then is waited for.)
    pub fn wait(&self, job: J, until: Moment) -> Waited<'_, J> {
        let who = Arc::new(Waiter { job, told: Mutex::new(None), bell: Condvar::default() });
        let mut alone = false;
        loop {
            if !self.stand(&who, alone) {
                return Waited::Turn(Turn { line: self, alone });
            }
            match self.listen(&who, until) {
                None => return Waited::TimedOut,
                Some(Told::Act) => return Waited::Turn(Turn { line: self, alone }),
                Some(Told::Done) => return Waited::Done,
                Some(Told::Again) => alone = true,
            }
        }
    }

    /// Gets in line: at its end, or in front. False if it is this one's turn.
    fn stand(&self, who: &Arc<Waiter<J>>, alone: bool) -> bool {
        let mut state = self.0.lock();
        if !mem::replace(&mut state.acting, true) {
            return false;
        }
        let asked = Asked { who: Arc::clone(who), alone };
        if alone {
            state.waiting.push_front(asked);
        } else {
            state.waiting.push_back(asked);
        }
        true
    }

    /// `None`: nothing until then, and it isn't in line any more.
    fn listen(&self, who: &Arc<Waiter<J>>, mut until: Moment) -> Option<Told> {
        let mut told = who.told.lock();
        loop {
            if let Some(told) = told.take() {
                return Some(told);
            }
            if until != NEVER && clock::passed(until) {
                drop(told);
                if self.leave(who) {
                    return None;
                }
                // Something is about to be told.
                until = NEVER;
                told = who.told.lock();
            } else {
                told = who.bell.wait(told, until);
            }
        }
    }

    fn leave(&self, who: &Arc<Waiter<J>>) -> bool {
        let mut state = self.0.lock();
        let place = state.waiting.iter().position(|asked| Arc::ptr_eq(&asked.who, who));
        place.is_some_and(|place| state.waiting.remove(place).is_some())
    }
}

impl<J> Waiter<J> {
    fn tell(&self, told: Told) {
        *self.told.lock() = Some(told);
        self.bell.notify_one();
    }
}

impl<J> Turn<'_, J> {
    /// Adds those in line, until they are so many.
    pub fn take_along(&self, along: &mut Along<J>, most: usize) {
        if self.alone {
            return;
        }
        let mut state = self.line.0.lock();
        while along.0.len() < most && state.waiting.front().is_some_and(|asked| !asked.alone) {
            along.0.extend(state.waiting.pop_front().map(|asked| asked.who));
        }
    }
}

impl<J> Drop for Turn<'_, J> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.line.0.lock();
            let next = state.waiting.pop_front();
            state.acting = next.is_some();
            next
        };
        if let Some(next) = next {
            next.who.tell(Told::Act);
        }
    }
}

impl<J> Along<J> {
    pub const fn nobody() -> Self {
        Self(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn jobs(&self) -> impl Iterator<Item = &J> {
        self.0.iter().map(|who| &who.job)
    }

    /// Tells them so.
    pub fn done(mut self) {
        self.0.drain(..).for_each(|who| who.tell(Told::Done));
    }
}

impl<J> Drop for Along<J> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|who| who.tell(Told::Again));
    }
}

#[cfg(test)]
impl<J> Line<J> {
    pub fn len(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn wait_for_line<J>(line: &Line<J>, len: usize) {
        while line.len() != len {
            thread::yield_now();
        }
    }

    /// What becomes of so many in line, their numbers in the order in which they are told.
    fn with_line(len: usize, act: impl FnOnce(&Line<usize>, Turn<'_, usize>)) -> Vec<String> {
        let line = Line::new();
        let turn = line.turn_if_free().expect("nobody has it");
        let (told, all) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..len {
                let (line, told) = (&line, told.clone());
                scope.spawn(move || {
                    let waited = line.wait(number, NEVER);
                    let what = match &waited {
                        Waited::Turn(turn) if turn.alone => "alone",
                        Waited::Turn(_) => "turn",
                        Waited::Done => "done",
                        Waited::TimedOut => "late",
                    };
                    told.send(format!("{number} {what}")).unwrap();
                });
                wait_for_line(line, number + 1);
            }
            act(&line, turn);
        });
        drop(told);
        all.into_iter().collect()
    }

    #[test]
    fn one_acts_at_a_time_in_the_order_of_asking() {
        let told = with_line(3, |line, turn| {
            assert!(line.turn_if_free().is_none());
            assert!(line.turn_if_free().is_none(), "asking in vain changes nothing");
            assert_eq!(line.len(), 3);
            drop(turn);
        });
        assert_eq!(told, ["0 turn", "1 turn", "2 turn"]);
    }

    #[test]
    fn who_is_taken_along_is_told_when_it_is_done() {
        let mut told = with_line(4, |line, turn| {
            let mut along = Along::nobody();
            turn.take_along(&mut along, 3);
            assert_eq!(along.jobs().copied().collect::<Vec<_>>(), [0, 1, 2]);
            assert_eq!(line.len(), 1);
            along.done();
        });
        told.sort();
        assert_eq!(told, ["0 done", "1 done", "2 done", "3 turn"]);
    }

    #[test]
    fn who_was_taken_along_in_vain_goes_alone_and_first() {
        let told = with_line(3, |line, turn| {
            let mut along = Along::nobody();
            turn.take_along(&mut along, 2);
            drop(along);
            wait_for_line(line, 3);
            let mut nobody = Along::nobody();
            turn.take_along(&mut nobody, 9);
            assert!(nobody.is_empty());
        });
        assert_eq!(told.iter().filter(|told| told.ends_with("alone")).count(), 2);
        assert_eq!(told[2], "2 turn");
    }

    #[test]
    fn who_gives_up_leaves_the_line() {
        let line = Line::new();
        let turn = line.turn_if_free().expect("nobody has it");
        assert!(matches!(line.wait("late", clock::now()), Waited::TimedOut));
        assert_eq!(line.len(), 0);
        drop(turn);
        assert!(line.turn_if_free().is_some());
    }

    /// What was begun is waited for.
    #[test]
    fn who_was_taken_along_waits_past_its_deadline() {
        let line = Line::new();
        let _turn = line.turn_if_free().expect("nobody has it");
        let who = Arc::new(Waiter { job: (), told: Mutex::new(None), bell: Condvar::default() });
        // Not in line any more, as if it had been taken along, and told a while later.
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                who.tell(Told::Done);
            });
            assert!(matches!(line.listen(&who, clock::now()), Some(Told::Done)));
        });
    }
}
