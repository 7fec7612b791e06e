//! Connections that threads take turns with: opened when first needed, at most so many, handed out in
//! the order of asking.
//!
//! | a place is | by |
//! |-|-|
//! | free | the start; the return of one while nobody waits |
//! | taken, with a connection that lay idle or a new one | `get` |
//! | handed on to whoever has waited longest | the return of one while somebody waits |
//!
//! Invariants: there are `max` places, free or taken, and a connection lies idle only if its place is
//! free or was handed on a moment ago. While somebody waits no place is free, so nobody overtakes.
//! Whoever isn't in line any more has been handed a place. Nothing is opened or closed under the lock.
//!
//! In the child of a fork nothing here is used, closed or freed: the connections are the parent's, and
//! another thread may have held the lock.

use std::collections::VecDeque;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{Condvar, Mutex};

/// How many connections a store has at most, if nothing else is said.
pub(crate) const MAX_CONNECTIONS: usize = 16;

/// Opens a connection until a deadline.
type Open<C> = dyn Fn(Instant) -> Result<C, Error> + Send + Sync;

/// Lends connections `C`, one thread each.
pub(crate) struct Pool<C> {
    /// Counted, so that a child can leave it undropped: it keeps a count for ever.
    state: Arc<Mutex<State<C>>>,
    open: Box<Open<C>>,
    generation: u64,
}

struct State<C> {
    free: usize,
    /// The one used last is used next: what a burst needed may grow old unused.
    idle: Vec<C>,
    /// Those who wait, the first in front.
    line: VecDeque<Arc<Condvar>>,
}

/// Why a call over a connection has no result.
pub(crate) enum Failure {
    /// The connection is of no use any more: lost, or cut off in the middle of an answer.
    Broken(Error),
    /// The server said no, and its connection is as good as before.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    // to Redis that is an answer like others
    Refused(Error),
}

impl Failure {
    /// Either's error.
    pub(crate) fn into_error(self) -> Error {
        let (Self::Broken(error) | Self::Refused(error)) = self;
        error
    }
}

impl<C> Pool<C> {
    /// An empty one of at most `max` connections (at least one).
    pub(crate) fn new(
        max: usize,
        open: impl Fn(Instant) -> Result<C, Error> + Send + Sync + 'static,
    ) -> Self {
        let state = State { free: max.max(1), idle: Vec::new(), line: VecDeque::new() };
        Self { state: Arc::new(Mutex::new(state)), open: Box::new(open), generation: fork::enrol() }
    }

    /// Changes how many there may be. Nobody has one now, or there would be another borrow.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))] // the other stores know it at once, or make new pools
    pub(crate) fn set_max(&mut self, max: usize) {
        self.state.lock().free = max.max(1);
    }

    /// A connection for this thread alone, as soon as there is one.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store): all were in use until `deadline`, or a new one can't be opened.
    /// [`Forked`](ErrorKind::Forked).
    pub(crate) fn get(&self, deadline: Instant) -> Result<Pooled<'_, C>, Error> {
        self.check_fork()?;
        // From here on the place is given back whatever happens.
        let mut pooled = Pooled { pool: self, connection: self.take_place(deadline)? };
        if pooled.connection.is_none() {
            pooled.connection = Some((self.open)(deadline)?);
        }
        Ok(pooled)
    }

    /// Has `act` talk to the server. A connection that breaks is replaced, and `act` called once more
    /// if there is time: connections die while they lie idle (the server was restarted), and that
    /// shows only in use. So what `act` does must bear being done twice.
    pub(crate) fn with<T>(
        &self,
        deadline: Instant,
        mut act: impl FnMut(&mut C) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut connection = self.get(deadline)?;
        match act(&mut connection) {
            Ok(done) => return Ok(done),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Broken(error)) if Instant::now() >= deadline => {
                connection.broken();
                return Err(error);
            }
            Err(Failure::Broken(_)) => connection.replace(deadline)?,
        }
        act(&mut connection).map_err(|failure| {
            if matches!(failure, Failure::Broken(_)) {
                connection.broken();
            }
            failure.into_error()
        })
    }

    /// Waits for a place, and takes an idle connection with it if there is one.
    fn take_place(&self, deadline: Instant) -> Result<Option<C>, Error> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(state.idle.pop());
        }
        let until = clock::after(clock::span(deadline.saturating_duration_since(Instant::now())));
        let bell = Arc::new(Condvar::default());
        state.line.push_back(Arc::clone(&bell));
        loop {
            state = bell.wait(state, until);
            match state.line.iter().position(|other| Arc::ptr_eq(other, &bell)) {
                None => return Ok(state.idle.pop()),
                Some(place) if clock::passed(until) => {
                    state.line.remove(place);
                    return Err(Error::store(
                        "all connections to the store were in use until the deadline; allow more of them, or more time",
                    ));
                }
                Some(_) => {}
            }
        }
    }

    fn give_back(&self, connection: Option<C>) {
        let mut state = self.state.lock();
        state.idle.extend(connection);
        match state.line.pop_front() {
            Some(next) => next.notify_one(),
            None => state.free += 1,
        }
    }

    /// For what its owner does without a connection.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked): a parent process made this.
    pub(crate) fn check_fork(&self) -> Result<(), Error> {
        if self.is_forked() { Err(ErrorKind::Forked.into()) } else { Ok(()) }
    }

    fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }
}

impl<C> Drop for Pool<C> {
    fn drop(&mut self) {
        if self.is_forked() {
            mem::forget(Arc::clone(&self.state));
        }
    }
}

/// A connection on loan; dropping it gives it back.
pub(crate) struct Pooled<'a, C> {
    pool: &'a Pool<C>,
    /// `None` only while it is being opened or given back.
    connection: Option<C>,
}

impl<C> Pooled<'_, C> {
    /// Gives back the place alone: the connection is closed.
    pub(crate) fn broken(mut self) {
        drop(self.connection.take());
    }

    /// Closes the connection and opens another in its place.
    fn replace(&mut self, deadline: Instant) -> Result<(), Error> {
        drop(self.connection.take());
        self.connection = Some((self.pool.open)(deadline)?);
        Ok(())
    }
}

impl<C> Deref for Pooled<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.connection.as_ref().expect("a loan has its connection until it ends")
    }
}

impl<C> DerefMut for Pooled<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        self.connection.as_mut().expect("a loan has its connection until it ends")
    }
}

impl<C> Drop for Pooled<'_, C> {
    fn drop(&mut self) {
        if self.pool.is_forked() {
            mem::forget(self.connection.take());
            return;
        }
        if std::thread::panicking() {
            // Nobody knows in the middle of what.
            drop(self.connection.take());
        }
        self.pool.give_back(self.connection.take());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Connections numbered in the order of their opening.
    fn numbered(max: usize) -> Pool<usize> {
        let opened = AtomicUsize::new(0);
        Pool::new(max, move |_| Ok(opened.fetch_add(1, Ordering::Relaxed)))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn wait_for_line<C>(pool: &Pool<C>, len: usize) {
        while pool.state.lock().line.len() != len {
            thread::yield_now();
        }
    }

    #[test]
    fn opens_only_what_is_needed_at_once() {
        let pool = numbered(2);
        for _ in 0..3 {
            assert_eq!(*pool.get(soon()).unwrap(), 0);
        }
        let first = pool.get(soon()).unwrap();
        assert_eq!(*pool.get(soon()).unwrap(), 1);
        drop(first);
    }

    #[test]
    fn serves_in_the_order_of_asking() {
        let pool = numbered(1);
        let held = pool.get(soon()).unwrap();
        let (served, order) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..5 {
                let (pool, served) = (&pool, served.clone());
                scope.spawn(move || {
                    let _connection = pool.get(soon()).unwrap();
                    served.send(number).unwrap();
                });
                wait_for_line(pool, number + 1);
            }
            drop(held);
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn who_gives_up_waiting_loses_no_place() {
        let pool = numbered(1);
        let held = pool.get(soon()).unwrap();
        let error = pool.get(Instant::now()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(pool.state.lock().line.is_empty());
        drop(held);
        assert_eq!(*pool.get(Instant::now()).unwrap(), 0);
    }

    #[test]
    fn a_broken_one_is_replaced_and_asked_once_more() {
        let pool = numbered(1);
        let mut asked = Vec::new();
        let mut ask = |fails: usize| {
            pool.with(soon(), |connection| {
                asked.push(*connection);
                if *connection < fails {
                    Err(Failure::Broken(Error::store("lost")))
                } else {
                    Ok(*connection)
                }
            })
        };
        assert_eq!(ask(1), Ok(1));
        assert_eq!(ask(9), Err(Error::store("lost")));
        assert_eq!(ask(0), Ok(3));
        assert_eq!(asked, [0, 1, 1, 2, 3]);
    }

    #[test]
    fn a_refusal_keeps_the_connection() {
        let pool = numbered(1);
        let refused: Result<(), _> =
            pool.with(soon(), |_| Err(Failure::Refused(Error::store("no"))));
        assert_eq!(refused, Err(Error::store("no")));
        assert_eq!(*pool.get(soon()).unwrap(), 0);
    }

    #[test]
    fn failures_to_open_and_panics_give_their_place_back() {
        let failing = AtomicUsize::new(0);
        let pool = Pool::new(1, move |_| match failing.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Error::store("refused")),
            1 => panic!("while opening"),
            number => Ok(number),
        });
        assert!(pool.get(soon()).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| pool.get(soon()).map(drop))).is_err());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = pool.get(soon()).unwrap();
            panic!("in the middle");
        }));
        assert!(panicked.is_err());
        assert_eq!(*pool.get(Instant::now()).unwrap(), 3, "the one in use was thrown away");
    }

    #[test]
    fn a_child_of_a_fork_neither_uses_nor_closes() {
        let connection = Arc::new(());
        let watched = Arc::downgrade(&connection);
        let mut pool = Pool::new(2, move |_| Ok(Arc::clone(&connection)));
        drop(pool.get(soon()).unwrap());
        pool.generation += 1; // as it looks from a child
        assert_eq!(pool.get(soon()).err().unwrap().kind(), ErrorKind::Forked);
        let held = Pooled { pool: &pool, connection: watched.upgrade() };
        drop(held);
        drop(pool);
        assert_eq!(watched.strong_count(), 2, "one lay idle, one was on loan");
    }
}
