//! Alarms: what must happen at a time though nobody calls.
//!
//! A lease that passes while followers wait, the deadline of a follower that doesn't block, an
//! offered lead that nobody picks up, responses past their window. Blocked threads need no alarm:
//! each wakes itself at its own deadline.
//!
//! Two threads serve every table of the process, started with the first table that needs them and
//! ended with the last: [`Kind::Transition`] runs code of ours alone, so that one table's slow
//! destructors never delay another's leases; [`Kind::Reaping`] drops expired values, which is user
//! code. Neither holds a lock of a table while it sleeps or anything of its own while it calls one.
//!
//! Lock order: the alarm book is a leaf.

use crate::clock::Moment;
use crate::sync::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What rings. Times and names only: a table looks up what they mean when it is told, and an alarm
/// for something that has changed since finds nothing to do.
#[derive(Debug, Clone)]
pub(crate) enum Alarm {
    /// The lease of lead `id` may have passed.
    Lease { hash: u32, id: u64 },
    /// Lead `id` was offered to a follower that may not have taken it up.
    Offer { hash: u32, id: u64 },
    /// A follower that doesn't block is out of time. The ticket is read under the line's latch,
    /// since a follower that let an offer lapse gets a new one.
    Deadline { hash: u32, ticket: Arc<std::sync::atomic::AtomicU64> },
    /// Completed responses have expired.
    Sweep,
}

/// What an alarm is for. Called with no lock held.
pub(crate) trait Alarmed: Send + Sync {
    fn ring(&self, alarm: Alarm);
}

/// Names a set alarm, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AlarmKey(Moment, u64);

impl AlarmKey {
    pub(crate) fn at(self) -> Moment {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Transition,
    Reaping,
}

/// A book of alarms, and the thread that rings them.
pub(crate) struct Timer(Arc<Book>);

struct Book {
    /// Of forks: another generation's has no thread here.
    #[cfg_attr(onceflight_shuttle, allow(dead_code))]
    generation: u64,
    #[cfg_attr(onceflight_shuttle, allow(dead_code))] // only threads have names
    kind: Kind,
    page: Mutex<Page>,
    changed: Condvar,
}

#[derive(Default)]
struct Page {
    alarms: BTreeMap<AlarmKey, (Weak<dyn Alarmed>, Alarm)>,
    next: u64,
    /// The thread is started by the first alarm: most tables never set one.
    running: bool,
    stopped: bool,
}

impl Timer {
    fn new(kind: Kind) -> Self {
        Self(Arc::new(Book {
            generation: crate::fork::generation(),
            kind,
            page: Mutex::default(),
            changed: Condvar::default(),
        }))
    }

    /// Rings `alarm` at `whom` as soon as it can after `at`.
    pub(crate) fn set(&self, at: Moment, whom: Weak<dyn Alarmed>, alarm: Alarm) -> AlarmKey {
        let mut page = self.0.page.lock();
        page.next += 1;
        let key = AlarmKey(at, page.next);
        let first = page.alarms.first_key_value().is_none_or(|(earliest, _)| key < *earliest);
        page.alarms.insert(key, (whom, alarm));
        if !page.running {
            page.running = start(Arc::clone(&self.0));
        }
        drop(page);
        if first {
            self.0.changed.notify_one();
        }
        key
    }

    /// The alarm won't ring; unless it is ringing now.
    pub(crate) fn cancel(&self, key: AlarmKey) {
        let cancelled = self.0.page.lock().alarms.remove(&key);
        drop(cancelled);
    }

    /// Rings what is due, in order of time. Answers when the next one is.
    #[cfg_attr(not(onceflight_shuttle), allow(dead_code))]
    pub(crate) fn ring_due(&self) -> Option<Moment> {
        self.0.ring_due()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // Not joined: the reaper may be inside a user's destructor that waits for this thread.
        self.0.page.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

impl Book {
    fn ring_due(&self) -> Option<Moment> {
        loop {
            let mut page = self.page.lock();
            let entry = page.alarms.first_entry()?;
            let at = entry.key().0;
            if crate::clock::now() < at {
                return Some(at);
            }
            let (whom, alarm) = entry.remove();
            drop(page);
            if let Some(whom) = whom.upgrade() {
                whom.ring(alarm);
            }
        }
    }
}

#[cfg(not(onceflight_shuttle))]
mod service {
    use super::{Arc, Book, Kind, Timer, Weak};
    use crate::clock::NEVER;
    use crate::signals;
    use crate::sync::{StaticMutex, static_mutex};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    static TRANSITION: StaticMutex<Weak<Timer>> = static_mutex!(Weak::new());
    static REAPING: StaticMutex<Weak<Timer>> = static_mutex!(Weak::new());

    impl Timer {
        /// The process's timer of that kind.
        pub(crate) fn shared(kind: Kind) -> Arc<Self> {
            let mut shared = match kind {
                Kind::Transition => TRANSITION.lock(),
                Kind::Reaping => REAPING.lock(),
            };
            // The locks of generations take turns, so it may be an old one's.
            let ours = |timer: &Arc<Self>| timer.0.generation == crate::fork::generation();
            shared.upgrade().filter(ours).unwrap_or_else(|| {
                let timer = Arc::new(Self::new(kind));
                *shared = Arc::downgrade(&timer);
                timer
            })
        }
    }

    /// Out of threads is no reason to fail the caller: the next alarm tries again, and meanwhile
    /// leases are looked at by every begin, and expiry by every look-up.
    pub(super) fn start(book: Arc<Book>) -> bool {
        let name = match book.kind {
            Kind::Transition => "onceflight-timer",
            Kind::Reaping => "onceflight-reap",
        };
        let thread = std::thread::Builder::new().name(name.into());
        signals::blocked(|| thread.spawn(move || serve(&book))).is_ok()
    }

    fn serve(book: &Book) {
        loop {
            // A panic in a user's destructor must not end everyone's timer.
            let Ok(next) = catch_unwind(AssertUnwindSafe(|| book.ring_due())) else { continue };
            let page = book.page.lock();
            if page.stopped {
                return;
            }
            let earliest = page.alarms.first_key_value().map(|(key, _)| key.0);
            if earliest == next {
                drop(book.changed.wait(page, earliest.unwrap_or(NEVER)));
            }
        }
    }
}

#[cfg(onceflight_shuttle)]
mod service {
    use super::{Arc, Book, Kind, Timer};

    impl Timer {
        /// A timer of the table's own, so that one execution leaves nothing to the next. The model
        /// rings it by hand.
        pub(crate) fn shared(kind: Kind) -> Arc<Self> {
            Arc::new(Self::new(kind))
        }
    }

    pub(super) fn start(_book: Arc<Book>) -> bool {
        true
    }
}

use service::start;
