//! Outcomes for event loops: no callback, no blocked thread, one file descriptor.
//!
//! | a wait is | in `waits` | ends by |
//! |-|-|-|
//! | waiting | with its follower | its seat being told: ready |
//! | ready | with its follower, and in `ready` | `queue_next` looking |
//! | looked at | without (the looker has it) | an event; or waiting again, if an offer had lapsed |
//!
//! A pipe holds one byte while `ready` isn't empty, so that its end polls readable. The queue's
//! mutex has only seats under it: followers are looked at and dropped without it, since that holds
//! lines.

use std::collections::{HashMap, VecDeque};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use super::backend::Follower;
use super::code::{
    Failure, ONCEFLIGHT_E_CLOSED, ONCEFLIGHT_E_TIMEOUT, ONCEFLIGHT_OK, ONCEFLIGHT_PENDING, entry,
};
use super::options::duration;
use super::request::{Versioned, check_out, onceflight_request, parse, write};
use super::response::onceflight_response;
use super::table::{Outs, given, onceflight_lead, onceflight_table, outcome};
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::table::internal::{Arrived, Response, Waker};

/// Where the outcomes of onceflight_begin_async arrive, from any number of tables. All functions on
/// it may be called from any thread, but for onceflight_queue_free, which must come after every
/// call that isn't blocked already.
pub struct onceflight_queue(Arc<Queue>);

struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    /// A wait that somebody wants to leave is no longer looked at. Not `arrived`: a wake-up meant
    /// for a reader of events would be lost on a leaver.
    looked: Condvar,
    reader: PipeReader,
    writer: PipeWriter,
    generation: u64,
}

#[derive(Default)]
struct State {
    waits: HashMap<u64, Wait>,
    ready: VecDeque<u64>,
    next: u64,
    /// Whether the byte is in the pipe.
    signalled: bool,
    freed: bool,
}

struct Wait {
    tag: u64,
    /// `None` while somebody looks at it.
    follower: Option<Follower>,
    /// Whether it stands in `ready`.
    ready: bool,
    /// Somebody who wants to leave waits for the looker.
    awaited: bool,
}

/// Told by a seat; tells its queue.
struct Bell {
    queue: Weak<Queue>,
    wait: u64,
}

impl Waker for Bell {
    fn wake(&self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.ready(self.wait);
        }
    }
}

impl Queue {
    fn check_fork(&self) -> Result<(), Failure> {
        if fork::generation() == self.generation { Ok(()) } else { Err(forked()) }
    }

    /// That wait has something to look at. One that isn't here (yet, or any more) is looked at
    /// when it comes.
    fn ready(&self, wait: u64) {
        let mut state = self.state.lock();
        let Some(here) = state.waits.get_mut(&wait) else { return };
        if here.follower.is_none() || here.ready {
            return;
        }
        here.ready = true;
        state.ready.push_back(wait);
        self.signal(&mut state);
        drop(state);
        self.arrived.notify_one();
    }

    /// Puts the byte into the pipe, or takes it out, as `ready` says. Never blocks: at most one
    /// byte is ever in it.
    fn signal(&self, state: &mut MutexGuard<'_, State>) {
        let wanted = !state.ready.is_empty();
        if wanted && !state.signalled {
            state.signalled = (&self.writer).write_all(&[1]).is_ok();
        } else if !wanted && state.signalled {
            state.signalled = (&self.reader).read_exact(&mut [0]).is_err();
        }
    }

    /// Has a follower wait here; it may have been told something already.
    fn park(&self, id: u64, tag: u64, follower: Follower) {
        let told = {
            let mut state = self.state.lock();
            if state.freed {
                drop(state);
                drop(follower);
                return;
            }
            let told = follower.is_told();
            let wait = Wait { tag, follower: Some(follower), ready: false, awaited: false };
            let awaited = state.waits.insert(id, wait).is_some_and(|before| before.awaited);
            if awaited {
                self.looked.notify_all();
            }
            told
        };
        if told {
            self.ready(id);
        }
    }

    /// The first event that is still one.
    fn next(&self, deadline: Moment) -> Result<Event, Failure> {
        let mut state = self.state.lock();
        loop {
            if state.freed {
                return Err(freed());
            }
            if let Some(id) = state.ready.pop_front() {
                self.signal(&mut state);
                let Some(wait) = state.waits.get_mut(&id) else { continue };
                wait.ready = false;
                let tag = wait.tag;
                let Some(mut follower) = wait.follower.take() else { continue };
                drop(state);
                let polled = follower.poll();
                match polled {
                    // An offer that lapsed, or a flight that was begun again.
                    None => self.park(id, tag, follower),
                    Some(result) => {
                        drop(follower);
                        let looked_at = self.state.lock().waits.remove(&id);
                        if looked_at.is_some_and(|wait| wait.awaited) {
                            self.looked.notify_all();
                        }
                        return Ok(Event { tag, result });
                    }
                }
                state = self.state.lock();
                continue;
            }
            if clock::passed(deadline) {
                return Err(Failure::new(ONCEFLIGHT_E_TIMEOUT, "no event arrived in that time"));
            }
            state = self.arrived.wait(state, deadline);
        }
    }
}

struct Event {
    tag: u64,
    result: Result<Arrived<Response>, Error>,
}

fn freed() -> Failure {
    Failure::new(ONCEFLIGHT_E_CLOSED, "the queue is freed")
}

fn forked() -> Failure {
    Failure::from(Error::from(ErrorKind::Forked))
}

/// An outcome of a queue, as `onceflight_queue_next` tells it; start from ONCEFLIGHT_EVENT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_event {
    /// sizeof(onceflight_event).
    pub struct_size: usize,
    /// The tag of its onceflight_begin_async.
    pub tag: u64,
    /// What onceflight_begin would have returned.
    pub outcome: i32,
    /// Not 0 only for ONCEFLIGHT_LEAD.
    pub lead: onceflight_lead,
    /// Not NULL only for SHARED and REPLAYED; to be freed.
    pub response: *mut onceflight_response,
}

// SAFETY: repr(C), struct_size first, integers and a raw pointer.
unsafe impl Versioned for onceflight_event {
    const FIRST: usize = size_of::<Self>();
}

/// # Safety
/// `queue` is NULL or a queue that isn't freed before this returns.
unsafe fn share(queue: *const onceflight_queue) -> Result<Arc<Queue>, Failure> {
    // SAFETY: the caller's promise.
    let queue = unsafe { queue.as_ref() }.ok_or_else(|| Failure::null("queue"))?;
    queue.0.check_fork()?;
    Ok(Arc::clone(&queue.0))
}

/// A new queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_queue_new(queue: *mut *mut onceflight_queue) -> i32 {
    entry(|| {
        if queue.is_null() {
            return Err(Failure::null("queue"));
        }
        // SAFETY: not NULL, and the caller's to write.
        unsafe { queue.write(std::ptr::null_mut()) };
        let generation = fork::enrol();
        let (reader, writer) = std::io::pipe().map_err(|error| {
            let detail = format!("no pipe for the queue ({error}); too many open files?");
            Failure::from(Error::new(ErrorKind::Overloaded, detail))
        })?;
        let made = Queue {
            state: Mutex::new(State::default()),
            arrived: Condvar::default(),
            looked: Condvar::default(),
            reader,
            writer,
            generation,
        };
        // SAFETY: as above.
        unsafe { queue.write(Box::into_raw(Box::new(onceflight_queue(Arc::new(made))))) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// A file descriptor that polls readable while an event waits. Only poll it: reading, writing and
/// closing it are the queue's. Valid until the queue is freed. -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_queue_fd(queue: *const onceflight_queue) -> std::ffi::c_int {
    // SAFETY: NULL, or a queue that the caller hasn't freed.
    unsafe { queue.as_ref() }.map_or(-1, |queue| queue.0.reader.as_raw_fd())
}

/// Takes the next event, waiting for at most timeout_ms (0: don't; ONCEFLIGHT_FOREVER). OK: *event
/// is filled, and the detail of an outcome that is an error is this thread's last error.
/// ONCEFLIGHT_E_TIMEOUT: none came.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_queue_next(
    queue: *const onceflight_queue,
    timeout_ms: u64,
    event: *mut onceflight_event,
) -> i32 {
    entry(|| {
        let mut told = onceflight_event {
            struct_size: 0,
            tag: 0,
            outcome: 0,
            lead: 0,
            response: std::ptr::null_mut(),
        };
        // SAFETY: the caller's pointers; the queue isn't freed before this call blocks, and from
        // then on it is held by its `Arc`.
        let queue = unsafe {
            check_out(event, "event")?;
            write(event, &told);
            share(queue)?
        };
        let arrived = queue.next(clock::after(clock::span(duration(timeout_ms))))?;
        told.tag = arrived.tag;
        match arrived.result {
            Ok(arrived) => (told.outcome, told.lead, told.response) = outcome(arrived),
            Err(error) => told.outcome = Failure::from(error).tell(),
        }
        // SAFETY: accepted above.
        unsafe { write(event, &told) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// Stops waiting: no event with that tag will come. ONCEFLIGHT_E_INVALID if none was to come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_queue_leave(queue: *const onceflight_queue, tag: u64) -> i32 {
    entry(|| {
        // SAFETY: the caller's queue, for this call.
        let queue = unsafe { share(queue) }?;
        let mut found = false;
        let mut state = queue.state.lock();
        // One that another thread looks at right now either becomes its event or comes back.
        while let Some((&id, wait)) = state.waits.iter_mut().find(|(_, wait)| wait.tag == tag) {
            let Some(follower) = wait.follower.take() else {
                wait.awaited = true;
                state = queue.looked.wait(state, NEVER);
                continue;
            };
            state.waits.remove(&id);
            state.ready.retain(|ready| *ready != id);
            queue.signal(&mut state);
            found = true;
            drop(state);
            drop(follower);
            state = queue.state.lock();
        }
        if found {
            Ok(ONCEFLIGHT_OK)
        } else if state.freed {
            Err(freed())
        } else {
            Err(Failure::invalid(format!("no wait has tag {tag}: its event was taken already?")))
        }
    })
}

/// Ends the queue's waits, frees unread responses, passes unread leads on, and frees the queue.
/// Threads blocked in onceflight_queue_next get ONCEFLIGHT_E_CLOSED. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_queue_free(queue: *mut onceflight_queue) {
    entry(|| {
        if queue.is_null() {
            return Ok(ONCEFLIGHT_OK);
        }
        // SAFETY: it came from `onceflight_queue_new`, and the caller gives it up.
        let queue = unsafe { Box::from_raw(queue) }.0;
        if queue.check_fork().is_err() {
            // Its locks and followers are the parent's.
            std::mem::forget(queue);
            return Ok(ONCEFLIGHT_OK);
        }
        let waits = {
            let mut state = queue.state.lock();
            state.freed = true;
            state.ready.clear();
            std::mem::take(&mut state.waits)
        };
        queue.arrived.notify_all();
        queue.looked.notify_all();
        drop(waits);
        Ok(ONCEFLIGHT_OK)
    });
}

/// onceflight_begin_request without blocking. PENDING: the outcome arrives on the queue, as an
/// event with that tag; one with ONCEFLIGHT_E_TIMEOUT if timeout_ms passes first. A LEAD that
/// arrives is an offer: unread for the table's offer_ms, or its queue freed, it passes on. Over a store
/// nothing is asked on this thread, so the answer is PENDING whenever the request is accepted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_begin_async(
    table: *const onceflight_table,
    request: *const onceflight_request,
    queue: *const onceflight_queue,
    tag: u64,
    lead: *mut onceflight_lead,
    response: *mut *mut onceflight_response,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (outs, table, queue) =
            unsafe { (Outs::new(lead, response)?, given(table)?, share(queue)?) };
        table.check_fork()?;
        // SAFETY: as above.
        let parsed = unsafe { parse(request, table.lengths()) }?;
        let id = {
            let mut state = queue.state.lock();
            state.next += 1;
            state.next
        };
        let bell: Arc<dyn Waker> = Arc::new(Bell { queue: Arc::downgrade(&queue), wait: id });
        match table.begin_later(&parsed, bell)? {
            Err(arrived) => Ok(outs.put(arrived)),
            Ok(follower) => {
                queue.park(id, tag, follower);
                Ok(ONCEFLIGHT_PENDING)
            }
        }
    })
}
