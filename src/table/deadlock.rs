//! Waits that would never end.
//!
//! A thread that leads one key may wait for another; if that one's leader waits, perhaps through
//! others, for the first, none of them will ever move. Only leads whose holder promises to settle
//! them on the thread that began them (`run`, `SAME_THREAD`) can be told apart this way.
//!
//! A ring needs every thread in it to lead something, so a thread that leads nothing publishes
//! nothing: the common follower pays one thread-local read. Those that do lead publish whom they
//! wait for and look for a ring in one critical section, so of the threads that close a ring the
//! last one always sees it. Only waits without a deadline are edges: the others end.
//!
//! Lock order: the edges are a leaf.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sync::{StaticMutex, static_mutex};

static EDGES: StaticMutex<Edges> = static_mutex!(BTreeMap::new());

/// Thread → the leader of the flight that it waits for (a cell: leaders change).
type Edges = BTreeMap<u32, Arc<AtomicU32>>;

static THREADS: AtomicU32 = AtomicU32::new(1);

crate::sync::thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static LEADING: Cell<usize> = const { Cell::new(0) };
}

/// This thread's number; never 0, and not given again when it ends: a lead may outlive its thread.
pub(crate) fn this_thread() -> u32 {
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(THREADS.fetch_add(1, Ordering::Relaxed).max(1));
        }
        number.get()
    })
}

/// This thread holds one more lead that it will settle itself.
#[inline]
pub(super) fn lead_taken(thread: u32) {
    if thread != 0 && thread == this_thread() {
        LEADING.with(|leading| leading.set(leading.get() + 1));
    }
}

/// One less. A lead settled elsewhere against its promise only leaves the count too high, which
/// costs a look at the edges and finds nothing.
#[inline]
pub(super) fn lead_settled(thread: u32) {
    if thread != 0 && thread == this_thread() {
        LEADING.with(|leading| leading.set(leading.get().saturating_sub(1)));
    }
}

/// An edge, taken back when the wait is over.
pub(super) struct Edge(Option<u32>);

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(thread) = self.0 {
            EDGES.lock().remove(&thread);
        }
    }
}

/// About to wait for the flight that `leader` leads. `None`: that would never end.
pub(super) fn enter(leader: &Arc<AtomicU32>, endless: bool) -> Option<Edge> {
    if leader.load(Ordering::Relaxed) == 0 && LEADING.with(Cell::get) == 0 {
        return Some(Edge(None));
    }
    let me = this_thread();
    if leader.load(Ordering::Relaxed) == me {
        return None;
    }
    if !endless || LEADING.with(Cell::get) == 0 {
        return Some(Edge(None));
    }
    let mut edges = EDGES.lock();
    edges.insert(me, Arc::clone(leader));
    let mut at = leader.load(Ordering::Relaxed);
    // As many steps as there are edges: a ring that I'm not part of ends there.
    for _ in 0..edges.len() {
        if at == me {
            edges.remove(&me);
            return None;
        }
        match edges.get(&at) {
            Some(next) => at = next.load(Ordering::Relaxed),
            None => break,
        }
    }
    Some(Edge(Some(me)))
}
