//! The connections that are open, so that stopping can close the idle ones and wait for the others.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// All connections of a server.
pub struct Connections {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    next: u64,
    open: HashMap<u64, Open>,
}

struct Open {
    stream: Arc<TcpStream>,
    busy: bool,
}

impl Connections {
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits until there is room. None: the server is stopping.
    pub fn enter(this: &Arc<Self>, stream: &Arc<TcpStream>) -> Option<Place> {
        let full = |state: &mut State| !state.stopping && state.open.len() >= this.most;
        let mut state = this.state.lock();
        this.changed.wait_while(&mut state, full);
        if state.stopping {
            return None;
        }
        state.next += 1;
        let id = state.next;
        state.open.insert(id, Open { stream: Arc::clone(stream), busy: false });
        Some(Place { id, connections: Arc::clone(this) })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.state.lock().open.len()
    }

    pub fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// No more are let in, and idle ones read the end of their input.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        for idle in state.open.values().filter(|open| !open.busy) {
            let _ = idle.stream.shutdown(Shutdown::Read);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Returns when all are closed, or after `most`: how many are left then.
    pub fn drain(&self, most: Duration) -> usize {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.open.is_empty(), most);
        state.open.len()
    }
}

/// One open connection; dropping it, by a panic too, gives its room back.
pub struct Place {
    id: u64,
    connections: Arc<Connections>,
}

impl Place {
    /// Whether a request is being served.
    pub fn set_busy(&self, busy: bool) {
        let mut state = self.connections.state.lock();
        let stopping = state.stopping;
        if let Some(open) = state.open.get_mut(&self.id) {
            open.busy = busy;
            if stopping && !busy {
                let _ = open.stream.shutdown(Shutdown::Read);
            }
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.connections.is_stopping()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.state.lock().open.remove(&self.id);
        self.connections.changed.notify_all();
    }
}
