//! The writers of this process: one connection, and one commit for all who wait for it.
//!
//! A commit is a sync of the disk, and as long as one goes on nobody else can write. So whoever has the
//! turn and SQLite's write lock makes its own change, then those of all in line, and commits once. Each
//! is told after the commit, as if it had been its own.
//!
//! If any of them fails, or the commit does, all of it is rolled back, and each is made in a transaction
//! of its own: so nobody gets another's error, and none is undone by another's. What a change does must
//! therefore bear being done again.
//!
//! A change can be given up until its deadline as long as it stands in line. Once it is part of a
//! transaction that has the lock, what is waited for is the disk alone.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::connection::{Db, Fault, moment};
use super::line::{Along, Line, Turn, Waited};
use super::verbs::Verbs;
use crate::error::Error;
use crate::store::pool::Pool;
use crate::sync::Mutex;

/// So many changes are made in one transaction at most: all of them wait for the last one.
const TOGETHER: usize = 32;

pub(super) struct Writer {
    /// One, and never waited for: whoever takes it has the turn.
    db: Pool<Db>,
    /// Counted, so that the child of a fork can leave it undropped: it keeps a count for ever.
    line: Arc<Line<Arc<dyn Change>>>,
}

/// What another thread's transaction can make.
trait Change: Send + Sync {
    fn make(&self, verbs: &Verbs<'_>) -> Result<(), Fault>;
}

struct Pending<T, A> {
    act: A,
    done: Mutex<Option<T>>,
}

impl<T: Send, A: Fn(&Verbs<'_>) -> Result<T, Fault> + Send + Sync> Change for Pending<T, A> {
    fn make(&self, verbs: &Verbs<'_>) -> Result<(), Fault> {
        let done = (self.act)(verbs)?;
        *self.done.lock() = Some(done);
        Ok(())
    }
}

impl Writer {
    pub fn new(open: impl Fn(Instant) -> Result<Db, Error> + Send + Sync + 'static) -> Self {
        Self { db: Pool::new(1, open), line: Arc::new(Line::new()) }
    }

    /// Changes records, in a transaction that has the write lock from its start. One that changes
    /// nothing costs no sync.
    ///
    /// # Errors
    /// Of what `act` does. [`Store`](crate::ErrorKind::Store): its turn hadn't come until `deadline`.
    /// [`Forked`](crate::ErrorKind::Forked).
    pub fn write<T: Send + 'static>(
        &self,
        deadline: Instant,
        act: impl Fn(&Verbs<'_>) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        self.db.check_fork()?;
        if let Some(turn) = self.line.turn_if_free() {
            return self.lead(&turn, deadline, act);
        }
        let pending = Arc::new(Pending { act, done: Mutex::new(None) });
        let change = Arc::clone(&pending) as Arc<dyn Change>;
        match self.line.wait(change, moment(deadline)) {
            Waited::Turn(turn) => self.lead(&turn, deadline, |verbs| (pending.act)(verbs)),
            Waited::Done => Ok(pending.done.lock().take().expect("what was done left a result")),
            Waited::TimedOut => Err(Error::store(
                "the file's other writers in this process took until the deadline; allow more time",
            )),
        }
    }

    /// Makes a change and those in line, and commits them.
    fn lead<T>(
        &self,
        turn: &Turn<'_, Arc<dyn Change>>,
        deadline: Instant,
        act: impl Fn(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let mut along = Along::nobody();
        let together = self.db.with(deadline, |db| {
            db.write(deadline, |verbs| {
                let done = act(verbs)?;
                turn.take_along(&mut along, TOGETHER);
                along.jobs().try_for_each(|change| change.make(&verbs.now()))?;
                Ok(done)
            })
        });
        match together {
            Err(_) if !along.is_empty() => {
                drop(along);
                self.db.with(deadline, |db| db.write(deadline, &act))
            }
            done => {
                along.done();
                done
            }
        }
    }

    /// Looks at records and may change what it saw, as long as nobody else writes. Then it is the quickest
    /// way, and takes the write lock only for a change. `None`: somebody does.
    pub fn look_and_write<T>(
        &self,
        deadline: Instant,
        act: impl Fn(&Verbs<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Error> {
        self.db.check_fork()?;
        let Some(_turn) = self.line.turn_if_free() else { return Ok(None) };
        self.db.with(deadline, |db| db.look_and_write(deadline, &act))
    }

    /// Has all others wait in line until that is dropped; tells how many do.
    #[cfg(test)]
    pub fn hold(&self) -> (impl Drop + '_, impl Fn() -> usize + '_) {
        (self.line.turn_if_free().expect("nobody writes"), || self.line.len())
    }

    #[cfg(test)]
    pub fn connection(&self, deadline: Instant) -> crate::store::pool::Pooled<'_, Db> {
        self.db.get(deadline).expect("a connection")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.db.check_fork().is_err() {
            mem::forget(Arc::clone(&self.line));
        }
    }
}
