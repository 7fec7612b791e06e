//! Waiting for what must come, though not for ever.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{panic, thread};

/// Longer than anything here takes, but for what is counted. Who waits this long has hung.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again: for what no event tells, such as that time has passed.
#[track_caller]
pub fn eventually<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(it) = there() {
            return it;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: it never came");
        thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    eventually(what, || there().then_some(()));
}

/// Waits until a lease or ttl that began before this call has passed.
pub fn pass(duration: Duration) {
    thread::sleep(duration + Duration::from_millis(1));
}

/// Calls `work` on a thread of its own, and fails if it hangs.
pub fn within<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done; // dropped in a panic too
        work()
    });
    assert_ne!(end.recv_timeout(time), Err(RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap_or_else(|failure| panic::resume_unwind(failure))
}
