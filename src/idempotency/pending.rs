//! Begins that nobody blocks on: their store's work is done by a few threads of the table.
//!
//! | a job is | its attempt | leaves it by |
//! |-|-|-|
//! | queued | in the job | a worker taking it |
//! | worked on | the worker has it | an outcome; or nothing more to do until it is rung: parked |
//! | parked | in the job | a ring, or its time: queued |
//! | told | gone, or a worker has what is left of it | the event being read; or, a lead that nobody reads, its offer lapsing: queued, at the back of the line |
//! | left | gone; a lead is passed on by a worker | |
//!
//! Workers may hang in the store; one thread, which never calls it, keeps the times: so a deadline
//! that passes and a table that closes are told at once, whatever the store does. What a worker comes
//! back with after that is dropped, or passed on.
//!
//! Lock order: a job → the workers' book. A queue is rung with neither held.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::attempt::{Asking, Attempt, Begun};
use super::shared::Shared;
use super::upkeep::survive;
use crate::clock::{self, FOREVER, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::signals;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::table::internal::Waker;

/// As many calls to the store at once: waiting takes no thread, only asking does.
const MOST: usize = 8;

/// The threads that do a table's store work for callers that don't block.
#[derive(Default)]
pub(super) struct Workers(Arc<Book>);

#[derive(Default)]
struct Book {
    page: Mutex<Page>,
    /// For workers.
    queued: Condvar,
    /// For the keeper of the times.
    timed: Condvar,
}

#[derive(Default)]
struct Page {
    queue: VecDeque<Task>,
    /// Each job at most once.
    times: BTreeMap<(Moment, u64), Weak<Job>>,
    jobs: HashMap<u64, Weak<Job>>,
    next: u64,
    workers: usize,
    idle: usize,
    keeper: bool,
    closed: bool,
}

/// What a worker does.
enum Task {
    /// A turn at a job.
    Work(Arc<Job>),
    /// Nobody read that lead.
    PassOn(Arc<Shared>, u64),
}

/// A begin whose outcome arrives on a queue. Dropping it leaves; a lead that wasn't read passes on.
pub(crate) struct Pending(Arc<Job>);

struct Job {
    shared: Arc<Shared>,
    asking: Asking,
    /// The caller's own deadline.
    until: Moment,
    number: u64,
    state: Mutex<Work>,
    /// The queue's.
    bell: Arc<dyn Waker>,
}

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // each is told apart in the table above
struct Work {
    attempt: Option<Attempt>,
    outcome: Option<Result<Begun, Error>>,
    /// When it wants to be looked at though nobody rings.
    time: Option<Moment>,
    queued: bool,
    /// A worker has the attempt.
    busy: bool,
    /// It was rung meanwhile.
    again: bool,
    /// Its outcome is final, or nobody wants one any more: whatever a worker still comes back with is
    /// nobody's.
    over: bool,
}

/// Rung by what the attempt waits for.
struct Rouse(Weak<Job>);

impl Waker for Rouse {
    fn wake(&self) {
        if let Some(job) = self.0.upgrade() {
            job.queue(&mut job.state.lock());
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
        let until = if asking.timeout.is_zero() {
            NEVER // It doesn't wait, and so isn't cut short: one look.
        } else {
            clock::after(clock::span(asking.timeout))
        };
        let (shared, state) = (Arc::clone(shared), Mutex::default());
        let number = shared.workers.0.number()?;
        let job = Arc::new(Job { shared, asking, until, number, state, bell });
        let config = &job.shared.config;
        let most = config.max_in_flight.saturating_add(config.max_waiters);
        job.shared.workers.0.enter(&job, most)?;
        let mut work = job.state.lock();
        work.attempt = Some(job.attempt(job.asking.timeout));
        job.set_time(&mut work, until);
        job.queue(&mut work);
        drop(work);
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
        let mut work = self.0.state.lock();
        let outcome = work.outcome.take()?;
        if let Ok(Begun::Lead(led)) = &outcome
            && !self.0.shared.is_live(led.name)
        {
            // It was lost while it stood unread: overtaken, evicted. As if it had never been offered.
            self.0.begin_again(&mut work);
            return None;
        }
        work.over = true;
        drop(work);
        self.0.shared.count(&outcome);
        Some(outcome)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.0.shared.forked() {
            std::mem::forget(Arc::clone(&self.0));
            return;
        }
        let mut work = self.0.state.lock();
        work.over = true;
        let (attempt, outcome) = (work.attempt.take(), work.outcome.take());
        self.0.set_time(&mut work, NEVER);
        drop(work);
        self.0.discard(outcome);
        drop(attempt);
        self.0.shared.workers.0.leave(self.0.number);
    }
}

impl Job {
    fn attempt(self: &Arc<Self>, timeout: Duration) -> Attempt {
        let asking = Asking { timeout, ..self.asking.clone() };
        Attempt::new(&self.shared, asking, Some(Arc::new(Rouse(Arc::downgrade(self)))))
    }

    fn queue(self: &Arc<Self>, work: &mut Work) {
        if work.busy {
            work.again = true;
        } else if !work.queued {
            work.queued = true;
            self.shared.workers.0.push(Task::Work(Arc::clone(self)));
        }
    }

    /// Has it looked at when that time comes, and at no other.
    fn set_time(self: &Arc<Self>, work: &mut Work, at: Moment) {
        let before = std::mem::replace(&mut work.time, (at != NEVER).then_some(at));
        if before != work.time {
            self.shared.workers.0.retime(before, work.time, self);
        }
    }

    /// A worker's turn at it.
    fn work(self: &Arc<Self>) {
        let mut work = self.state.lock();
        work.queued = false;
        let Some(mut attempt) = work.attempt.take() else { return };
        (work.busy, work.again) = (true, false);
        drop(work);
        let stepped = survive(|| attempt.step());
        let outcome = stepped.unwrap_or_else(|| Some(Err(Error::store("the store panicked"))));
        let mut work = self.state.lock();
        work.busy = false;
        let Some(outcome) = outcome else {
            if work.over {
                drop(work);
                return drop(attempt);
            }
            self.set_time(&mut work, attempt.look_at().min(self.until));
            work.attempt = Some(attempt);
            if work.again {
                self.queue(&mut work);
            }
            return;
        };
        if work.over {
            drop(work);
            return self.discard(Some(outcome));
        }
        let is_lead = matches!(outcome, Ok(Begun::Lead(_)));
        let offer = if is_lead { self.shared.config.offer } else { FOREVER };
        self.set_time(&mut work, clock::after(clock::span(offer)));
        work.outcome = Some(outcome);
        drop(work);
        self.bell.wake();
    }

    /// What nobody reads. A worker passes a lead on: that is a call to the store.
    fn discard(&self, outcome: Option<Result<Begun, Error>>) {
        if let Some(Ok(Begun::Lead(led))) = outcome {
            self.shared.workers.0.push(Task::PassOn(Arc::clone(&self.shared), led.name));
        }
    }

    /// The time has come that was set: its deadline, a look at the store, or a lead that nobody reads.
    /// On the keeper's thread, which doesn't call the store.
    fn ring(self: &Arc<Self>, at: Moment) {
        let mut work = self.state.lock();
        if work.time != Some(at) {
            return; // Set anew meanwhile.
        }
        work.time = None;
        match &work.outcome {
            None if clock::passed(self.until) => self.tell(work, ErrorKind::Timeout),
            None => {
                // Whatever the worker does.
                self.set_time(&mut work, self.until);
                self.queue(&mut work);
            }
            // It goes to the back of the line; whoever waits, here or elsewhere, comes first.
            Some(Ok(Begun::Lead(_))) => {
                self.discard(work.outcome.take());
                if clock::passed(self.until) || self.asking.timeout.is_zero() {
                    self.tell(work, ErrorKind::Timeout);
                } else {
                    self.begin_again(&mut work);
                }
            }
            Some(_) => {}
        }
    }

    fn begin_again(self: &Arc<Self>, work: &mut Work) {
        let left = Duration::from_nanos(self.until.saturating_sub(clock::now()));
        let left = if self.until == NEVER { self.asking.timeout } else { left };
        work.attempt = Some(self.attempt(left));
        self.set_time(work, self.until);
        self.queue(work);
    }

    /// An outcome that the store has no say in.
    fn tell(self: &Arc<Self>, mut work: MutexGuard<'_, Work>, kind: ErrorKind) {
        let unread_lead = matches!(work.outcome, Some(Ok(Begun::Lead(_))));
        if work.over || (work.outcome.is_some() && !unread_lead) {
            return;
        }
        let (attempt, lead) = (work.attempt.take(), work.outcome.replace(Err(kind.into())));
        work.over = true;
        drop(work);
        self.discard(lead);
        drop(attempt);
        self.bell.wake();
    }
}

impl Workers {
    /// Tells every job, whatever the store does; threads go once there is nothing left to do.
    pub fn close(&self) {
        let jobs: Vec<Weak<Job>> = {
            let mut page = self.0.page.lock();
            page.closed = true;
            page.jobs.values().cloned().collect()
        };
        for job in jobs.iter().filter_map(Weak::upgrade) {
            job.tell(job.state.lock(), ErrorKind::Closed);
        }
        self.0.queued.notify_all();
        self.0.timed.notify_all();
    }
}

impl Book {
    fn number(&self) -> Result<u64, Error> {
        let mut page = self.page.lock();
        if page.closed {
            return Err(ErrorKind::Closed.into());
        }
        page.next += 1;
        Ok(page.next)
    }

    /// A new job, if there are fewer than that, and the thread that it needs at least.
    fn enter(self: &Arc<Self>, job: &Arc<Job>, most: usize) -> Result<(), Error> {
        let mut page = self.page.lock();
        if !page.keeper {
            let book = Arc::clone(self);
            start("onceflight-times", move || book.keep_times())?;
            page.keeper = true;
        }
        if page.jobs.len() >= most {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "as many begins wait as max_in_flight and max_waiters allow together; try again later",
            ));
        }
        page.jobs.insert(job.number, Arc::downgrade(job));
        Ok(())
    }

    fn leave(&self, number: u64) {
        let mut page = self.page.lock();
        page.jobs.remove(&number);
        let over = page.closed && page.jobs.is_empty();
        drop(page);
        if over {
            self.timed.notify_one();
        }
    }

    fn push(self: &Arc<Self>, task: Task) {
        let mut page = self.page.lock();
        page.queue.push_back(task);
        // One more would be better where all are busy, and isn't necessary; but for the first, which a
        // closed table may have let go.
        if page.queue.len() > page.idle && page.workers < MOST {
            let book = Arc::clone(self);
            page.workers += usize::from(start("onceflight-store", move || book.serve()).is_ok());
        }
        drop(page);
        self.queued.notify_one();
    }

    fn retime(&self, before: Option<Moment>, now: Option<Moment>, job: &Arc<Job>) {
        let mut page = self.page.lock();
        if let Some(before) = before {
            page.times.remove(&(before, job.number));
        }
        if let Some(now) = now {
            page.times.insert((now, job.number), Arc::downgrade(job));
            let sooner = page.times.first_key_value().is_some_and(|(first, _)| first.0 == now);
            drop(page);
            if sooner {
                self.timed.notify_one();
            }
        }
    }

    fn serve(&self) {
        let mut page = self.page.lock();
        loop {
            if let Some(task) = page.queue.pop_front() {
                drop(page);
                match task {
                    Task::Work(job) => job.work(),
                    Task::PassOn(shared, name) => drop(survive(|| shared.pass(name))),
                }
                page = self.page.lock();
            } else if page.closed {
                page.workers -= 1;
                return;
            } else {
                page.idle += 1;
                page = self.queued.wait(page, NEVER);
                page.idle -= 1;
            }
        }
    }

    fn keep_times(&self) {
        let mut page = self.page.lock();
        loop {
            let first = page.times.first_key_value().map(|(key, _)| *key);
            if let Some(key) = first.filter(|(at, _)| clock::passed(*at)) {
                let job = page.times.remove(&key).and_then(|job| job.upgrade());
                drop(page);
                if let Some(job) = job {
                    job.ring(key.0);
                }
                page = self.page.lock();
            } else if page.closed && page.jobs.is_empty() {
                page.keeper = false;
                return;
            } else {
                page = self.timed.wait(page, first.map_or(NEVER, |(at, _)| at));
            }
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    signals::spawn(name, work).map_err(|error| {
        Error::new(ErrorKind::Overloaded, format!("no thread for the store's work: {error}"))
    })
}
