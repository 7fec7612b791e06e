//! Every lock, condition variable and atomic of the crate, named here and nowhere else.
//!
//! | name | what it is | for |
//! |-|-|-|
//! | [`Latch`] | a byte, with `parking_lot`'s mutexes behind it for those who wait | the line of a key, held for some nanoseconds |
//! | [`Mutex`], [`Condvar`] | `std`'s, which are one futex word each | what threads block on |
//! | [`StaticMutex`] | a [`Mutex`] a generation of forks | process-wide state |
//!
//! Why two kinds: a `notify_all` on `parking_lot`'s condvar hands its waiters through their mutex
//! one after the other, across cores, where `std`'s wakes them all at once; and letting go of a mutex
//! costs as much as taking it (figures for both in docs/DESIGN.md).
//!
//! Under `--cfg onceflight_shuttle` all are the model checker's, so that the very code that ships
//! is what gets explored. A timed wait can't be modelled as time: there it ends when the model's
//! virtual clock is moved past its deadline (see `clock`).

#[cfg(not(onceflight_shuttle))]
mod real {
    use std::sync::atomic::Ordering;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;
    use std::time::Duration;

    use crate::fork;

    /// What the holder of a [`Latch`] keeps to release it: nothing, since the latch is at hand. (A
    /// guard with a pointer of its own would be one more thing to move about on every call.)
    pub(crate) type Hold<'a> = std::marker::PhantomData<&'a Latch>;

    /// A lock without a place for data: whoever holds it owns what stands beside it. One byte.
    ///
    /// It is let go by a store. A lock that wakes whoever waits for it must ask whether somebody does, in
    /// one step with letting go, and that costs as much as taking it (docs/DESIGN.md has the figures).
    /// So nobody is woken here, and it is for what is held for some nanoseconds: whoever finds it held looks
    /// again, and if its holder must be off its core, stands in line at a mutex for a while, whose holder goes on
    /// looking. Nothing that the child of a fork inherits is parked on.
    #[derive(Debug, Default)]
    pub(crate) struct Latch(AtomicBool);

    impl Latch {
        #[inline(always)]
        pub(crate) fn hold(&self) -> Hold<'_> {
            if self.0.swap(true, Ordering::Acquire) {
                self.wait();
            }
            std::marker::PhantomData
        }

        /// # Safety
        /// The caller has this hold of this latch, and releases it once.
        #[inline(always)]
        #[allow(unsafe_code)] // see `Hold`
        pub(crate) unsafe fn release(&self, _hold: &mut Hold<'_>) {
            self.0.store(false, Ordering::Release);
        }

        #[cold]
        fn wait(&self) {
            for _ in 0..100 {
                std::hint::spin_loop();
                if self.try_hold() {
                    return;
                }
            }
            let mut turn = None;
            for tries in 0.. {
                if self.try_hold() {
                    return;
                }
                if turn.is_none() {
                    // Nobody stands in line for long: who is next may hold what the one that looks is
                    // waiting for.
                    turn = self.line().and_then(|line| line.try_lock_for(Duration::from_millis(1)));
                    if turn.is_some() {
                        continue;
                    }
                }
                if tries < 16 {
                    yield_now();
                } else {
                    // A yield lets nobody of lower priority in.
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        }

        fn try_hold(&self) -> bool {
            !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Acquire)
        }

        /// Where those stand who wait for this latch and some others. `parking_lot` keeps all parked threads of the
        /// process in one table, whose entries the child of a fork inherits with the stacks they lie in, which its
        /// own threads get next: the first lock that parks there may crash or hang. So a child has none.
        fn line(&self) -> Option<&'static parking_lot::Mutex<()>> {
            static LINES: [parking_lot::Mutex<()>; 16] =
                [const { parking_lot::Mutex::new(()) }; 16];
            let line = std::ptr::from_ref(self).addr() / 64 % LINES.len();
            (fork::generation() == 0).then(|| &LINES[line])
        }
    }

    pub(crate) use super::blocking::{Condvar, Mutex, MutexGuard};

    /// A lock for a static, one a generation of forks: a child must not meet one that another
    /// thread of its parent held. Eight outlast any chain of forks that nobody exec'd.
    pub(crate) struct StaticMutex<T>(pub(crate) [Mutex<T>; 8]);

    impl<T> StaticMutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0[usize::try_from(fork::generation() % 8).unwrap_or(0)].lock()
        }
    }

    /// A [`StaticMutex`] over a constant.
    macro_rules! static_mutex {
        ($value:expr) => {
            $crate::sync::StaticMutex([const { $crate::sync::Mutex::new($value) }; 8])
        };
    }
    pub(crate) use static_mutex;
}

#[cfg(not(any(onceflight_shuttle, onceflight_tsan)))]
mod blocking {
    use std::sync::{PoisonError, TryLockError};

    pub(crate) use std::sync::MutexGuard;

    use crate::clock::{self, Moment, NEVER};

    /// `std`'s, which keeps nothing outside itself and so works in the child of a fork.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        /// No user code runs under a lock, so what a panicking thread leaves behind is whole.
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Waits until notified or until `deadline`. May wake spuriously.
        pub(crate) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            deadline: Moment,
        ) -> MutexGuard<'a, T> {
            if deadline == NEVER {
                return self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            let left = std::time::Duration::from_nanos(deadline.saturating_sub(clock::now()));
            self.0.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// `parking_lot`'s in their place for ThreadSanitizer, which sees only what is compiled with it, and
/// `std` isn't: what its locks order would look like races.
#[cfg(all(onceflight_tsan, not(onceflight_shuttle)))]
mod blocking {
    pub(crate) use parking_lot::MutexGuard;

    use crate::clock::{self, Moment, NEVER};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            deadline: Moment,
        ) -> MutexGuard<'a, T> {
            if deadline == NEVER {
                self.0.wait(&mut guard);
            } else {
                let left = std::time::Duration::from_nanos(deadline.saturating_sub(clock::now()));
                self.0.wait_for(&mut guard, left);
            }
            guard
        }
    }
}

#[cfg(onceflight_shuttle)]
mod model {
    use std::sync::{Arc, PoisonError};

    pub(crate) use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use shuttle::thread::yield_now;
    pub(crate) use shuttle::thread_local;

    use crate::clock::model::Sleeper;
    use crate::clock::{Moment, NEVER, now};

    pub(crate) type Hold<'a> = Option<MutexGuard<'a, ()>>;

    #[derive(Debug, Default)]
    pub(crate) struct Latch(shuttle::sync::Mutex<()>);

    impl Latch {
        pub(crate) fn hold(&self) -> Hold<'_> {
            // A model whose thread panics inside a lock has failed anyway.
            Some(self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        /// # Safety
        /// None here; see the real one.
        #[allow(unsafe_code)]
        pub(crate) unsafe fn release(&self, hold: &mut Hold<'_>) {
            drop(hold.take());
        }
    }

    /// For statics, which outlive an execution and so can't be the model's: nothing inside such a
    /// lock may yield to it.
    #[derive(Debug)]
    pub(crate) struct StaticMutex<T>(pub(crate) std::sync::Mutex<T>);

    impl<T> StaticMutex<T> {
        pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    macro_rules! static_mutex {
        ($value:expr) => {
            $crate::sync::StaticMutex(std::sync::Mutex::new($value))
        };
    }
    pub(crate) use static_mutex;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(Arc<shuttle::sync::Condvar>);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            deadline: Moment,
        ) -> MutexGuard<'a, T> {
            if now() >= deadline {
                return guard;
            }
            let _sleeper = (deadline != NEVER).then(|| Sleeper::new(deadline, Arc::clone(&self.0)));
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(onceflight_shuttle)]
pub(crate) use model::*;
#[cfg(not(onceflight_shuttle))]
pub(crate) use real::*;

/// An order between threads that is made by a fence, as both `Arc`s make it, told to `ThreadSanitizer`, which
/// doesn't know fences. Nothing for anybody else.
#[derive(Default)]
pub(crate) struct Order(#[cfg(onceflight_tsan)] std::sync::atomic::AtomicUsize);

#[cfg_attr(not(onceflight_tsan), allow(clippy::unused_self))]
impl Order {
    /// What this thread has done comes before what those do who see it.
    #[inline(always)]
    pub(crate) fn tell(&self) {
        #[cfg(onceflight_tsan)]
        self.0.fetch_add(1, std::sync::atomic::Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn see(&self) {
        #[cfg(onceflight_tsan)]
        self.0.load(std::sync::atomic::Ordering::Acquire);
    }
}

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{scope, yield_now};

    use super::Latch;

    /// Adds to it in two steps, between which others must not come.
    fn add(latch: &Latch, sum: &AtomicUsize) {
        let mut hold = latch.hold();
        let before = sum.load(Ordering::Relaxed);
        std::hint::black_box(before);
        sum.store(before + 1, Ordering::Relaxed);
        release(latch, &mut hold);
    }

    #[allow(unsafe_code)]
    fn release(latch: &Latch, hold: &mut super::Hold<'_>) {
        // SAFETY: the hold is this thread's, and isn't used again.
        unsafe { latch.release(hold) };
    }

    #[test]
    fn a_latch_lets_one_in_at_a_time() {
        const THREADS: usize = 16;
        const TIMES: usize = 20_000;
        let (latch, sum) = (Latch::default(), AtomicUsize::new(0));
        scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| (0..TIMES).for_each(|_| add(&latch, &sum))))
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), THREADS * TIMES);
    }

    #[test]
    fn a_latch_that_is_held_long_is_waited_for() {
        const THREADS: usize = 8;
        let (latch, sum, coming) = (Latch::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        scope(|scope| {
            let mut hold = latch.hold();
            let come = || {
                coming.fetch_add(1, Ordering::Relaxed);
                add(&latch, &sum);
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(come)).collect();
            while coming.load(Ordering::Relaxed) < THREADS {
                yield_now();
            }
            // Some of them have gone to sleep by the end of this.
            (0..10_000).for_each(|_| yield_now());
            assert_eq!(sum.load(Ordering::Relaxed), 0, "nobody came in");
            release(&latch, &mut hold);
            for thread in threads {
                thread.join().unwrap();
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), THREADS);
    }

    /// A holds one latch and waits for the other; what it waits for is free some time, though another waits
    /// for A's, in the same line.
    #[test]
    fn who_looks_for_anothers_latch_keeps_nobody_from_its_own() {
        const LINES: usize = 16;
        #[repr(align(64))]
        struct Apart(Latch);
        let latches: Vec<Apart> = (0..=LINES).map(|_| Apart(Latch::default())).collect();
        let (low, high) = (&latches[0].0, &latches[LINES].0);
        let coming = AtomicUsize::new(0);
        let come = |latch: &Latch| {
            coming.fetch_add(1, Ordering::Relaxed);
            let mut hold = latch.hold();
            release(latch, &mut hold);
        };
        let all_have_slept = |threads: usize| {
            while coming.load(Ordering::Relaxed) < threads {
                yield_now();
            }
            (0..10_000).for_each(|_| yield_now());
        };
        scope(|scope| {
            let mut of_high = high.hold();
            let (had_low, low_is_had) = std::sync::mpsc::channel();
            let a = scope.spawn(move || {
                let mut of_low = low.hold();
                had_low.send(()).unwrap();
                // It has looked for the low one for long when this comes to wait.
                all_have_slept(1);
                come(high);
                release(low, &mut of_low);
            });
            low_is_had.recv().unwrap();
            let b = scope.spawn(|| come(low));
            all_have_slept(2);
            release(high, &mut of_high);
            a.join().unwrap();
            b.join().unwrap();
        });
    }
}
