//! Waiting for what other processes do: one listener a table, and an ear for each watcher.
//!
//! | listener | a new ear | leaves it by |
//! |-|-|-|
//! | off | starts it | the first ear |
//! | starting | hears once it listens, or can't | the store's answer |
//! | listening | hears at once: look, and from then on nothing is missed | a failure, the table's end |
//! | deaf | hears at once, and looks by itself now and then | trying again, while there are ears |
//!
//! An ear *hears* whenever its watcher had better look at the record again: what is told may be
//! late or for another, and is never the answer itself. So a watcher subscribes, looks again, and
//! only then waits.
//!
//! Lock order: the book → an ear. A waker is rung with neither held.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::upkeep::survive;

use crate::clock::{self, Moment};
use crate::error::{Error, ErrorKind};
use crate::signals;
use crate::store::{Heard, News, RecordId, Store};
use crate::sync::{Condvar, Mutex};
use crate::table::internal::Waker;

/// How long the listener stays inside the store before it looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(250);
/// How often a watcher looks by itself though it would be told: what tells may have been restarted.
const SELDOM: Duration = Duration::from_secs(1);
/// And when nothing tells: the first time, and at most.
const SOON: Duration = Duration::from_millis(5);
const OFTEN: Duration = Duration::from_millis(200);

pub(super) struct Watch(Arc<Book>);

struct Book {
    state: Mutex<State>,
    /// For the listener: there are ears, or it may go.
    wanted: Condvar,
    store: Arc<dyn Store>,
    store_timeout: Duration,
}

#[derive(Default)]
struct State {
    ears: HashMap<RecordId, Vec<Weak<Ear>>>,
    phase: Phase,
    closed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Off,
    Starting,
    Listening,
    Deaf,
}

struct Ear {
    heard: Mutex<bool>,
    bell: Condvar,
    waker: Option<Arc<dyn Waker>>,
}

impl Ear {
    fn hear(&self) {
        *self.heard.lock() = true;
        self.bell.notify_all();
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

/// A watcher's place. Dropping it stops watching.
pub(super) struct Watcher {
    book: Arc<Book>,
    id: RecordId,
    ear: Arc<Ear>,
    /// How long until it looks by itself, where nothing tells.
    patience: Duration,
}

impl Watch {
    pub fn new(store: Arc<dyn Store>, store_timeout: Duration) -> Self {
        let (state, wanted) = (Mutex::default(), Condvar::default());
        Self(Arc::new(Book { state, wanted, store, store_timeout }))
    }

    /// Begins to watch a record. The watcher hears as soon as nothing can be missed any more.
    pub fn watch(&self, id: RecordId, waker: Option<Arc<dyn Waker>>) -> Result<Watcher, Error> {
        let book = &self.0;
        let mut state = book.state.lock();
        if state.closed {
            return Err(ErrorKind::Closed.into());
        }
        if state.phase == Phase::Off {
            let listener = Arc::clone(book);
            signals::spawn("onceflight-news", move || listener.listen()).map_err(|error| {
                let detail = format!("no thread to listen for news of the store: {error}");
                Error::new(ErrorKind::Overloaded, detail)
            })?;
            state.phase = Phase::Starting;
        }
        let heard = Mutex::new(state.phase != Phase::Starting);
        let ear = Arc::new(Ear { heard, bell: Condvar::default(), waker });
        state.ears.entry(id).or_default().push(Arc::downgrade(&ear));
        drop(state);
        book.wanted.notify_one();
        Ok(Watcher { book: Arc::clone(book), id, ear, patience: SOON })
    }

    /// Ends the listener, and has every watcher look.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.wanted.notify_one();
        self.0.tell_all();
    }
}

impl Watcher {
    /// Whether there may be something to look at. Asking takes it as looked at.
    pub fn take_heard(&self) -> bool {
        std::mem::take(&mut self.ear.heard.lock())
    }

    /// When to look at the record though nothing was told, if its lease has that much left.
    pub fn look_at(&mut self, lease_left: Option<Duration>) -> Moment {
        let patience = if self.book.state.lock().phase == Phase::Deaf {
            let now = self.patience;
            self.patience = (now * 2).min(OFTEN);
            now
        } else {
            SELDOM
        };
        // A hair after the lease: at its very end it hasn't passed.
        let lease_left = lease_left.map(|left| left.saturating_add(Duration::from_millis(1)));
        clock::after(clock::span(lease_left.map_or(patience, |left| left.min(patience))))
    }

    /// Blocks until there may be something to look at, or `until`.
    pub fn wait(&self, until: Moment) {
        let mut heard = self.ear.heard.lock();
        while !*heard && !clock::passed(until) {
            heard = self.ear.bell.wait(heard, until);
        }
        *heard = false;
    }

    /// Whether the table was closed.
    pub fn closed(&self) -> bool {
        self.book.state.lock().closed
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.book.state.lock();
        if let Some(ears) = state.ears.get_mut(&self.id) {
            ears.retain(|ear| !std::ptr::eq(ear.as_ptr(), Arc::as_ptr(&self.ear)));
            if ears.is_empty() {
                state.ears.remove(&self.id);
            }
        }
    }
}

impl Book {
    /// The listener's life.
    fn listen(&self) {
        let mut news: Option<Box<dyn News>> = None;
        let mut pause = SOON;
        while self.wanted() {
            let Some(listening) = &mut news else {
                let listen = || self.store.listen(clock::instant_after(self.store_timeout));
                if let Some(Ok(listening)) = survive(listen) {
                    news = Some(listening);
                    self.enter(Phase::Listening);
                } else {
                    // The watchers' own looks will say what is wrong with the store.
                    self.enter(Phase::Deaf);
                    self.pause(pause);
                    pause = (pause * 2).min(SELDOM);
                }
                continue;
            };
            let hear = || {
                listening.wait(clock::instant_after(SLICE), &mut |heard| match heard {
                    Heard::Record(id) => self.tell(id),
                    Heard::Any => self.tell_all(),
                })
            };
            if matches!(survive(hear), Some(Ok(()))) {
                pause = SOON;
            } else {
                news = None;
                self.enter(Phase::Deaf);
                self.pause(pause);
                pause = (pause * 2).min(SELDOM);
            }
        }
    }

    /// Blocks until there are ears; false at the table's end.
    fn wanted(&self) -> bool {
        let mut state = self.state.lock();
        while state.ears.is_empty() && !state.closed {
            state = self.wanted.wait(state, clock::NEVER);
        }
        !state.closed
    }

    fn pause(&self, pause: Duration) {
        let until = clock::after(clock::span(pause));
        let mut state = self.state.lock();
        while !state.closed && !clock::passed(until) {
            state = self.wanted.wait(state, until);
        }
    }

    /// What was told so far may have missed something, or from now on won't: all look.
    fn enter(&self, phase: Phase) {
        let before = std::mem::replace(&mut self.state.lock().phase, phase);
        if before != phase {
            self.tell_all();
        }
    }

    fn tell(&self, id: RecordId) {
        let ears = self.state.lock().ears.get(&id).cloned();
        ears.into_iter().flatten().filter_map(|ear| ear.upgrade()).for_each(|ear| ear.hear());
    }

    fn tell_all(&self) {
        let ears: Vec<Weak<Ear>> = self.state.lock().ears.values().flatten().cloned().collect();
        ears.iter().filter_map(Weak::upgrade).for_each(|ear| ear.hear());
    }
}
