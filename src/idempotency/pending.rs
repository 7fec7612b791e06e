//! Begins that nobody blocks on: their store's work is done by a few threads of the table.
//!
//! | a job is | its attempt | leaves it by |
//! |-|-|-|
//! | queued | in the job | a worker taking it |
//! | worked on | the worker has it | an outcome; or nothing more to do until it is rung: parked |
//! | parked | in the job | a ring, or its time: queued |
//! | told | gone | the event being read; or, a lead that nobody reads, its offer lapsing: queued, at the back of the line |
//! | left | dropped by a worker, a lead passed on | |
//!
//! Lock order: a job → the workers' book. A queue is rung with neither held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::attempt::{Asking, Attempt, Begun};
use super::shared::Shared;
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::signals;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::table::internal::Waker;

/// As many calls to the store at once: waiting takes no thread, only claiming does.
const MOST: usize = 8;

/// The threads that do a table's store work for callers that don't block.
#[derive(Default)]
pub(super) struct Workers(Arc<Book>);

#[derive(Default)]
struct Book {
    page: Mutex<Page>,
    changed: Condvar,
}

#[derive(Default)]
struct Page {
    queue: VecDeque<Arc<Job>>,
    /// Parked jobs that want a look though nobody rings, and leads on offer.
    timed: BTreeMap<(Moment, u64), Weak<Job>>,
    next: u64,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// A begin whose outcome arrives on a queue. Dropping it leaves; a lead that wasn't read passes on.
pub(crate) struct Pending(Arc<Job>);

struct Job {
    shared: Arc<Shared>,
    asking: Asking,
    until: Moment,
    state: Mutex<Work>,
    /// The queue's.
    bell: Arc<dyn Waker>,
}

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // each is told apart in the table above
struct Work {
    attempt: Option<Attempt>,
    outcome: Option<Result<Begun, Error>>,
    /// Until when an outcome that is a lead waits to be read.
    offered_until: Moment,
    queued: bool,
    /// A worker has the attempt.
    busy: bool,
    /// It was rung meanwhile.
    again: bool,
    left: bool,
}

/// Rung by what the attempt waits for.
struct Rouse(Weak<Job>);

impl Waker for Rouse {
    fn wake(&self) {
        if let Some(job) = self.0.upgrade() {
            job.queue();
        }
    }
}

impl Pending {
    /// Begins, with no I/O on this thread.
    pub fn begin(
        shared: &Arc<Shared>,
        asking: Asking,
        bell: Arc<dyn Waker>,
    ) -> Result<Self, Error> {
        shared.check_fork()?;
        let until = clock::after(clock::span(asking.timeout));
        let shared = Arc::clone(shared);
        let job = Arc::new(Job { shared, asking, until, state: Mutex::default(), bell });
        job.state.lock().attempt = Some(job.attempt(job.asking.timeout));
        job.shared.workers.0.enough_threads(true)?;
        job.queue();
        Ok(Self(job))
    }

    /// Whether there is an outcome to read.
    pub fn is_told(&self) -> bool {
        self.0.state.lock().outcome.is_some()
    }

    /// The outcome, once.
    pub fn poll(&mut self) -> Option<Result<Begun, Error>> {
        if let Err(error) = self.0.shared.check_fork() {
            return Some(Err(error));
        }
        self.0.state.lock().outcome.take()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.0.shared.forked() {
            std::mem::forget(Arc::clone(&self.0));
            return;
        }
        self.0.state.lock().left = true;
        // Not here: passing a lead on is a call to the store.
        self.0.queue();
    }
}

impl Job {
    fn attempt(self: &Arc<Self>, timeout: Duration) -> Attempt {
        let asking = Asking { timeout, ..self.asking.clone() };
        Attempt::new(&self.shared, asking, Some(Arc::new(Rouse(Arc::downgrade(self)))))
    }

    fn queue(self: &Arc<Self>) {
        let mut work = self.state.lock();
        if work.busy {
            work.again = true;
        } else if !work.queued {
            work.queued = true;
            self.shared.workers.0.push(Arc::clone(self));
        }
    }

    /// A worker's turn at it.
    fn work(self: &Arc<Self>) {
        let mut attempt = {
            let mut work = self.state.lock();
            work.queued = false;
            if work.left {
                let (attempt, outcome) = (work.attempt.take(), work.outcome.take());
                drop(work);
                drop(attempt);
                if let Some(Ok(Begun::Lead(name))) = outcome {
                    self.shared.pass(name);
                }
                return;
            }
            let Some(attempt) = work.attempt.take() else { return };
            work.busy = true;
            work.again = false;
            attempt
        };
        let outcome = attempt.step();
        let mut work = self.state.lock();
        work.busy = false;
        let Some(outcome) = outcome else {
            let at = attempt.look_at();
            work.attempt = Some(attempt);
            let again = work.again || work.left;
            drop(work);
            if again {
                self.queue();
            } else {
                self.shared.workers.0.at(at, self);
            }
            return;
        };
        let is_lead = matches!(outcome, Ok(Begun::Lead(_)));
        work.outcome = Some(outcome);
        let until = if is_lead { self.shared.config.offer } else { clock::FOREVER };
        work.offered_until = clock::after(clock::span(until));
        let (until, left) = (work.offered_until, work.left);
        drop(work);
        drop(attempt);
        if left {
            return self.queue();
        }
        self.shared.workers.0.at(until, self);
        self.bell.wake();
    }

    /// Its time has come: a look at the store, or a lead that nobody reads.
    fn ring(self: &Arc<Self>) {
        let mut work = self.state.lock();
        let Some(Ok(Begun::Lead(name))) = work.outcome else {
            drop(work);
            return self.queue();
        };
        if !clock::passed(work.offered_until) {
            return; // The time of something earlier.
        }
        work.outcome = None;
        // It goes to the back of the line; whoever waits, here or elsewhere, comes first.
        drop(work);
        self.shared.pass(name);
        let left = Duration::from_nanos(self.until.saturating_sub(clock::now()));
        let left = if self.until == NEVER { clock::FOREVER } else { left };
        let again = self.attempt(left.max(Duration::from_millis(1)));
        self.state.lock().attempt = Some(again);
        self.queue();
    }
}

impl Workers {
    /// Threads go once there is nothing left to do.
    pub fn close(&self) {
        self.0.page.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Book {
    fn push(self: &Arc<Self>, job: Arc<Job>) {
        self.page.lock().queue.push_back(job);
        self.changed.notify_one();
        // One more would be better, and isn't necessary.
        let _ = self.enough_threads(false);
    }

    /// Has it looked at when that time comes.
    fn at(&self, at: Moment, job: &Arc<Job>) {
        if at != NEVER {
            let mut page = self.page.lock();
            page.next += 1;
            let number = page.next;
            page.timed.insert((at, number), Arc::downgrade(job));
            drop(page);
            self.changed.notify_one();
        }
    }

    fn enough_threads(self: &Arc<Self>, first: bool) -> Result<(), Error> {
        let mut page = self.page.lock();
        let wanted = if first { page.threads == 0 } else { page.queue.len() > page.idle };
        if !wanted || page.threads >= MOST {
            return Ok(());
        }
        let book = Arc::clone(self);
        signals::spawn("onceflight-store", move || book.serve()).map_err(|error| {
            let detail = format!("no thread for the store's work: {error}");
            Error::new(ErrorKind::Overloaded, detail)
        })?;
        page.threads += 1;
        Ok(())
    }

    fn serve(&self) {
        let mut page = self.page.lock();
        loop {
            if let Some(job) = page.queue.pop_front() {
                drop(page);
                job.work();
                drop(job);
                page = self.page.lock();
            } else if let Some(due) = due(&mut page) {
                drop(page);
                if let Some(job) = due.upgrade() {
                    job.ring();
                }
                page = self.page.lock();
            } else if page.closed {
                // What was parked was rung by the close, and rings start threads anew.
                page.threads -= 1;
                return;
            } else {
                let at = page.timed.first_key_value().map_or(NEVER, |((at, _), _)| *at);
                page.idle += 1;
                page = self.changed.wait(page, at);
                page.idle -= 1;
            }
        }
    }
}

fn due(page: &mut MutexGuard<'_, Page>) -> Option<Weak<Job>> {
    let first = page.timed.first_entry()?;
    clock::passed(first.key().0).then(|| first.remove())
}
