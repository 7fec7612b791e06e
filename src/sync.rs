//! Every lock, condition variable and atomic of the crate, named here and nowhere else.
//!
//! In a normal build they are `parking_lot`'s and `std`'s. Under `--cfg onceflight_shuttle` they
//! are the model checker's, so that the very code that ships is what gets explored. A timed wait
//! can't be modelled as time: there it ends when the model's virtual clock is moved past its
//! deadline (see `clock`).

#[cfg(not(onceflight_shuttle))]
mod real {
    use std::time::Instant;

    pub(crate) use parking_lot::{Mutex, Mutex as StaticMutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    /// A condition variable; `parking_lot`'s, narrowed to what the crate uses.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        #[cfg_attr(not(feature = "capi"), allow(dead_code))]
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Waits until notified or until `deadline` (`None`: for ever). May wake spuriously.
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) {
            match deadline {
                Some(deadline) => {
                    self.0.wait_until(guard, deadline);
                }
                None => self.0.wait(guard),
            }
        }
    }
}

#[cfg(onceflight_shuttle)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;
    use std::time::Instant;

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use shuttle::thread::yield_now;
    pub(crate) use shuttle::thread_local;

    /// For statics, which outlive an execution and so can't be the model's: nothing inside such a
    /// lock may yield to it.
    #[derive(Debug)]
    pub(crate) struct StaticMutex<T>(std::sync::Mutex<T>);

    impl<T> StaticMutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

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
