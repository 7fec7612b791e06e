//! Every lock, condition variable and atomic of the crate, named here and nowhere else.
//!
//! In a normal build they are `parking_lot`'s (`std`'s in the child of a fork). Under `--cfg onceflight_shuttle` they
//! are the model checker's, so that the very code that ships is what gets explored. A timed wait
//! can't be modelled as time: there it ends when the model's virtual clock is moved past its
//! deadline (see `clock`).

#[cfg(not(onceflight_shuttle))]
mod real {
    use std::ops::{Deref, DerefMut};
    use std::sync::PoisonError;
    use std::time::Instant;

    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    use crate::fork;

    /// `parking_lot`'s; but `std`'s for what is made in the child of a fork.
    ///
    /// `parking_lot` keeps its parked threads in one table of the process. A child inherits the
    /// entries of threads that it doesn't have, in stacks that get used again: the first lock that
    /// has to park there may crash or hang (a test forks while threads are parked and shows it).
    /// `std`'s locks keep nothing outside themselves.
    #[derive(Debug)]
    pub(crate) enum Mutex<T> {
        Parking(parking_lot::Mutex<T>),
        Plain(std::sync::Mutex<T>),
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            if fork::generation() == 0 {
                Self::parking(value)
            } else {
                Self::Plain(std::sync::Mutex::new(value))
            }
        }

        const fn parking(value: T) -> Self {
            Self::Parking(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self {
                Self::Parking(mutex) => MutexGuard::Parking(mutex.lock()),
                Self::Plain(mutex) => {
                    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
                    MutexGuard::Plain(Some(guard))
                }
            }
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    pub(crate) enum MutexGuard<'a, T> {
        Parking(parking_lot::MutexGuard<'a, T>),
        /// In an `Option` because `std`'s condvar takes it by value.
        Plain(Option<std::sync::MutexGuard<'a, T>>),
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            match self {
                Self::Parking(guard) => guard,
                Self::Plain(guard) => guard.as_ref().expect("only empty inside Condvar::wait"),
            }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match self {
                Self::Parking(guard) => guard,
                Self::Plain(guard) => guard.as_mut().expect("only empty inside Condvar::wait"),
            }
        }
    }

    /// Of the same kind as the mutex beside it, since both are made in one generation.
    #[derive(Debug)]
    pub(crate) enum Condvar {
        Parking(parking_lot::Condvar),
        Plain(std::sync::Condvar),
    }

    impl Default for Condvar {
        fn default() -> Self {
            if fork::generation() == 0 {
                Self::Parking(parking_lot::Condvar::new())
            } else {
                Self::Plain(std::sync::Condvar::new())
            }
        }
    }

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            match self {
                Self::Parking(condvar) => {
                    condvar.notify_one();
                }
                Self::Plain(condvar) => condvar.notify_one(),
            }
        }

        #[cfg_attr(not(feature = "capi"), allow(dead_code))]
        pub(crate) fn notify_all(&self) {
            match self {
                Self::Parking(condvar) => {
                    condvar.notify_all();
                }
                Self::Plain(condvar) => condvar.notify_all(),
            }
        }

        /// Waits until notified or until `deadline` (`None`: for ever). May wake spuriously.
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) {
            match (self, guard) {
                (Self::Parking(condvar), MutexGuard::Parking(guard)) => match deadline {
                    Some(deadline) => {
                        condvar.wait_until(guard, deadline);
                    }
                    None => condvar.wait(guard),
                },
                (Self::Plain(condvar), MutexGuard::Plain(slot)) => {
                    let guard = slot.take().expect("only empty inside this function");
                    *slot = Some(match deadline {
                        Some(deadline) => {
                            let left = deadline.saturating_duration_since(Instant::now());
                            let woken = condvar.wait_timeout(guard, left);
                            woken.unwrap_or_else(PoisonError::into_inner).0
                        }
                        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
                    });
                }
                _ => unreachable!("a condvar and its mutex are made together"),
            }
        }
    }

    /// A lock for a static, one a generation of forks: a child must not meet one that another
    /// thread of its parent held. Eight outlast any chain of forks that nobody exec'd.
    pub(crate) struct StaticMutex<T> {
        pub(crate) parents: parking_lot::Mutex<T>,
        pub(crate) children: [std::sync::Mutex<T>; 7],
    }

    impl<T> StaticMutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let generation = usize::try_from(fork::generation() % 8).unwrap_or(0);
            match generation.checked_sub(1) {
                None => MutexGuard::Parking(self.parents.lock()),
                Some(child) => {
                    let guard = self.children[child].lock();
                    MutexGuard::Plain(Some(guard.unwrap_or_else(PoisonError::into_inner)))
                }
            }
        }
    }

    /// A [`StaticMutex`] over a constant.
    macro_rules! static_mutex {
        ($value:expr) => {
            $crate::sync::StaticMutex {
                parents: parking_lot::Mutex::new($value),
                children: [const { std::sync::Mutex::new($value) }; 7],
            }
        };
    }
    pub(crate) use static_mutex;
}

#[cfg(onceflight_shuttle)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;
    use std::time::Instant;

    pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use shuttle::thread::yield_now;
    pub(crate) use shuttle::thread_local;

    /// For statics, which outlive an execution and so can't be the model's: nothing inside such a
    /// lock may yield to it.
    #[derive(Debug)]
    pub(crate) struct StaticMutex<T>(pub(crate) std::sync::Mutex<T>);

    impl<T> StaticMutex<T> {
        pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
            // A model whose thread panics inside a lock has failed anyway.
            MutexGuard(Some(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
        }
    }

    /// The guard stands in an `Option` because the model's condvar takes it by value.
    pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("the guard is only empty inside Condvar::wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("the guard is only empty inside Condvar::wait")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(Arc<shuttle::sync::Condvar>);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        #[allow(dead_code)]
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) {
            let _sleeper = match deadline {
                Some(deadline) if crate::clock::now() >= deadline => return,
                Some(deadline) => Some(crate::clock::model::Sleeper::new(deadline, self.0.clone())),
                None => None,
            };
            let inner = guard.0.take().expect("a wait holds its guard");
            let inner = self.0.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
            guard.0 = Some(inner);
        }
    }
}

#[cfg(onceflight_shuttle)]
pub(crate) use model::*;
#[cfg(not(onceflight_shuttle))]
pub(crate) use real::*;
