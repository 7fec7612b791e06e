//! What time it is, and when a wait ends.
//!
//! One monotonic clock for leases, windows and deadlines: a step of the wall clock moves none of
//! them. Under the model checker the clock stands still until the model moves it.

use std::time::Duration;

/// A time on the monotonic clock, in nanoseconds. [`NEVER`] doesn't come.
pub(crate) type Moment = u64;

/// Later than every other moment.
pub(crate) const NEVER: Moment = Moment::MAX;

/// A duration that never ends.
pub(crate) const FOREVER: Duration = Duration::MAX;

/// A duration in nanoseconds. [`ENDLESS`] doesn't end.
pub(crate) type Span = u64;

/// Longer than every other span.
pub(crate) const ENDLESS: Span = Span::MAX;

pub(crate) fn span(duration: Duration) -> Span {
    u64::try_from(duration.as_nanos()).unwrap_or(ENDLESS)
}

/// The moment `span` from now. The clock isn't read for an endless one.
#[inline]
pub(crate) fn after(span: Span) -> Moment {
    if span == ENDLESS { NEVER } else { now().saturating_add(span) }
}

/// As [`after`], for what speaks of `Instant`s; a time too far away is a century from now.
#[cfg(feature = "store")]
pub(crate) fn instant_after(time: Duration) -> std::time::Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    std::time::Instant::now() + time.min(CENTURY)
}

/// Whether `deadline` has come. [`NEVER`] costs no look at the clock.
pub(crate) fn passed(deadline: Moment) -> bool {
    deadline != NEVER && now() >= deadline
}

/// `!passed(deadline)`, for a deadline that is far away as a rule.
///
/// The exact clock costs as much as all the rest of a replay. So the clock of the kernel's ticks is
/// asked first, which is never ahead and a few milliseconds behind; a machine that is short of
/// processors may owe it some ticks. Only with a second to go is its word taken.
#[inline(always)]
pub(crate) fn before(deadline: Moment) -> bool {
    const CLOSE: u64 = 1_000_000_000;
    ticks().saturating_add(CLOSE) < deadline || !passed(deadline)
}

#[cfg(onceflight_shuttle)]
pub(crate) use model::now;
#[cfg(not(onceflight_shuttle))]
pub(crate) use real::now;

#[cfg(onceflight_shuttle)]
use model::now as ticks;
#[cfg(not(onceflight_shuttle))]
use real::ticks;

#[cfg(all(not(onceflight_shuttle), target_os = "linux"))]
#[allow(unsafe_code)] // the standard library doesn't offer the clock of the ticks
mod real {
    use super::Moment;

    pub(crate) fn now() -> Moment {
        read(libc::CLOCK_MONOTONIC)
    }

    #[inline]
    pub(super) fn ticks() -> Moment {
        read(libc::CLOCK_MONOTONIC_COARSE)
    }

    #[inline]
    fn read(clock: libc::clockid_t) -> Moment {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is ours to write for the call. Both clocks exist in every Linux that Rust
        // supports, so it can't fail; if it did, the time would stand still at 0.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        // Neither is negative, and the sum lasts 584 years.
        #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
        let nanos = (time.tv_sec as u64).wrapping_mul(1_000_000_000) + time.tv_nsec as u64;
        nanos
    }
}

#[cfg(all(not(onceflight_shuttle), not(target_os = "linux")))]
mod real {
    use super::{Moment, span};
    use std::sync::LazyLock;
    use std::time::Instant;

    pub(crate) fn now() -> Moment {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        // Not 0, so that no moment is before every other.
        span(START.elapsed()) + 1
    }

    pub(super) fn ticks() -> Moment {
        now()
    }
}

/// Nanoseconds since the machine booted: one clock for all its processes, which nobody sets. On Linux
/// it goes on while the machine sleeps; on other Unixes it may not, and elsewhere it is the wall clock.
#[cfg(feature = "sqlite")]
pub(crate) fn uptime() -> u64 {
    boot::uptime()
}

/// Which boot [`uptime`] counts from. Zeros where the system doesn't tell: not on Linux.
#[cfg(feature = "sqlite")]
pub(crate) fn boot_id() -> std::io::Result<[u8; 16]> {
    boot::id()
}

#[cfg(all(feature = "sqlite", unix))]
#[allow(unsafe_code)] // the standard library doesn't offer the clock of a boot
mod boot {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

    pub(super) fn uptime() -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is ours to write for the call. The clock exists wherever Rust runs on such a
        // system; were it not so, the time would stand still at 0.
        unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
        // Neither is negative, and the sum lasts 584 years.
        #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
        let nanos = (time.tv_sec as u64).wrapping_mul(1_000_000_000) + time.tv_nsec as u64;
        nanos
    }

    #[cfg(target_os = "linux")]
    pub(super) fn id() -> std::io::Result<[u8; 16]> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: String = text.trim().split('-').collect();
        let id = if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None };
        id.map(u128::to_be_bytes).ok_or_else(|| std::io::Error::other("no UUID"))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn id() -> std::io::Result<[u8; 16]> {
        Ok([0; 16])
    }
}

#[cfg(all(feature = "sqlite", not(unix)))]
mod boot {
    use std::time::{SystemTime, UNIX_EPOCH};

    pub(super) fn uptime() -> u64 {
        super::span(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    pub(super) fn id() -> std::io::Result<[u8; 16]> {
        Ok([0; 16])
    }
}

/// The virtual clock of a model, and its timed waiters.
///
/// Plain `std` state, not the model's: it is no part of what is explored. One clock an OS thread,
/// since all threads of a model run on the one that checks it: so models don't share a clock and
/// can be checked side by side.
#[cfg(onceflight_shuttle)]
pub(crate) mod model {
    use super::{Moment, span};
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::time::Duration;

    std::thread_local! {
        static CLOCK: RefCell<Clock> = RefCell::default();
    }

    #[derive(Default)]
    struct Clock {
        elapsed: Duration,
        sleepers: Vec<(u64, Moment, Arc<shuttle::sync::Condvar>)>,
        next: u64,
    }

    fn with<T>(act: impl FnOnce(&mut Clock) -> T) -> T {
        CLOCK.with_borrow_mut(act)
    }

    pub(crate) fn now() -> Moment {
        with(|clock| span(clock.elapsed)) + 1
    }

    /// A thread inside a timed wait.
    pub(crate) struct Sleeper(u64);

    impl Sleeper {
        pub(crate) fn new(deadline: Moment, condvar: Arc<shuttle::sync::Condvar>) -> Self {
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
