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

/// The virtual clock of a model, and its timed waiters.
///
/// Plain `std` state, not the model's: it is no part of what is explored. One clock an OS thread,
/// since all threads of a model run on the one that checks it: so models don't share a clock and
/// can be checked side by side.
#[cfg(onceflight_shuttle)]
pub(crate) mod model {
    use std::cell::RefCell;
    use std::sync::{Arc, LazyLock};
    use std::time::{Duration, Instant};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    std::thread_local! {
        static CLOCK: RefCell<Clock> = RefCell::default();
    }

    #[derive(Default)]
    struct Clock {
        elapsed: Duration,
        sleepers: Vec<(u64, Instant, Arc<shuttle::sync::Condvar>)>,
        next: u64,
    }

    fn with<T>(act: impl FnOnce(&mut Clock) -> T) -> T {
        CLOCK.with_borrow_mut(act)
    }

    pub(crate) fn now() -> Instant {
        *START + with(|clock| clock.elapsed)
    }

    /// A thread inside a timed wait.
    pub(crate) struct Sleeper(u64);

    impl Sleeper {
        pub(crate) fn new(deadline: Instant, condvar: Arc<shuttle::sync::Condvar>) -> Self {
            with(|clock| {
                clock.next += 1;
                clock.sleepers.push((clock.next, deadline, condvar));
                Self(clock.next)
            })
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            with(|clock| clock.sleepers.retain(|sleeper| sleeper.0 != self.0));
        }
    }

    /// Begins a new execution: the clock is back at its start.
    pub fn reset() {
        drop(CLOCK.take());
    }

    /// Moves the clock, and has every timed wait woken whose deadline that passes.
    pub fn advance(by: Duration) {
        with(|clock| clock.elapsed += by);
        if !due().is_empty() {
            // In a thread of its own: what else happens at that time doesn't wait for the sleepers.
            shuttle::thread::spawn(wake);
        }
    }

    /// A waiter that has told its deadline but isn't asleep yet would miss one notification, so it
    /// is repeated until all of them have left.
    fn wake() {
        loop {
            let due = due();
            if due.is_empty() {
                return;
            }
            for condvar in due {
                condvar.notify_all();
            }
            shuttle::thread::yield_now();
        }
    }

    fn due() -> Vec<Arc<shuttle::sync::Condvar>> {
        let now = now();
        with(|clock| {
            let due = clock.sleepers.iter().filter(|sleeper| sleeper.1 <= now);
            due.map(|sleeper| Arc::clone(&sleeper.2)).collect()
        })
    }
}
