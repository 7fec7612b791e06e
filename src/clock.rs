//! What time it is, and when a wait ends.
//!
//! One monotonic clock for leases, windows and deadlines: a step of the wall clock moves none of
//! them. Under the model checker the clock stands still until the model moves it.

use std::time::{Duration, Instant};

#[cfg(not(onceflight_shuttle))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The moment `duration` from now; `None` where that is past what the clock can say, which is for
/// ever. The clock isn't read for a duration of [`FOREVER`].
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    if duration == FOREVER { None } else { now().checked_add(duration) }
}

/// A duration that never ends.
pub(crate) const FOREVER: Duration = Duration::MAX;

/// Whether `deadline` has come. `None` never comes, and costs no look at the clock.
pub(crate) fn passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| now() >= deadline)
}

#[cfg(onceflight_shuttle)]
pub(crate) use model::now;

/// The virtual clock of a model, its timed waiters, and its alarms.
///
/// Plain `std` statics, not the model's: they are no part of what is explored. The models of one
/// process run one after the other.
#[cfg(onceflight_shuttle)]
pub(crate) mod model {
    use std::sync::{Arc, LazyLock, Mutex};
    use std::time::{Duration, Instant};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    static STATE: Mutex<State> = Mutex::new(State { elapsed: Duration::ZERO, sleepers: Vec::new(), next: 0 });

    struct State {
        elapsed: Duration,
        sleepers: Vec<(u64, Instant, Arc<shuttle::sync::Condvar>)>,
        next: u64,
    }

    fn state() -> std::sync::MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn now() -> Instant {
        *START + state().elapsed
    }

    /// A thread inside a timed wait.
    pub(crate) struct Sleeper(u64);

    impl Sleeper {
        pub(crate) fn new(deadline: Instant, condvar: Arc<shuttle::sync::Condvar>) -> Self {
            let mut state = state();
            state.next += 1;
            let id = state.next;
            state.sleepers.push((id, deadline, condvar));
            Self(id)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            state().sleepers.retain(|sleeper| sleeper.0 != self.0);
        }
    }

    /// Begins a new execution: the clock is back at its start.
    pub fn reset() {
        let mut state = state();
        state.elapsed = Duration::ZERO;
        state.sleepers.clear();
    }

    /// Moves the clock, and wakes every timed wait whose deadline that passes. A waiter that has
    /// told its deadline but isn't asleep yet would miss one notification, so it is repeated until
    /// all of them have left.
    pub fn advance(by: Duration) {
        state().elapsed += by;
        loop {
            let due: Vec<_> = {
                let state = state();
                let now = *START + state.elapsed;
                state.sleepers.iter().filter(|s| s.1 <= now).map(|s| s.2.clone()).collect()
            };
            if due.is_empty() {
                return;
            }
            for condvar in due {
                condvar.notify_all();
            }
            shuttle::thread::yield_now();
        }
    }
}
