//! On which side of a `fork` are we?
//!
//! A child inherits the memory of every table but none of the threads: a lock that another thread
//! held stays held for ever, a leader never settles. So each table and queue remembers the
//! generation it was made in, and says `Forked` in any other. The generation is counted by a
//! `pthread_atfork` handler: asking for it costs a load of one static, where `getpid` would be a
//! system call.

use std::sync::atomic::{AtomicU64, Ordering};

/// A `std` atomic even under the model checker: it isn't part of any model.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// How many forks lie between this process and the one that loaded the library.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The generation of an object that is being made now.
pub(crate) fn enrol() -> u64 {
    #[cfg(unix)]
    watch::install();
    generation()
}

#[cfg(unix)]
#[allow(unsafe_code)] // the one call that the standard library doesn't offer
mod watch {
    use super::{GENERATION, Ordering};
    use std::sync::atomic::AtomicBool;

    static INSTALLED: AtomicBool = AtomicBool::new(false);

    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn install() {
        // Not a once-cell: a child forked while another thread is inside one waits for ever. Two
        // threads may install it twice, and forks then count twice, which is as good.
        if !INSTALLED.load(Ordering::Acquire) {
            // SAFETY: the handler is a plain function that lives as long as the library and does
            // one atomic addition, which is async-signal-safe: nothing else may run in the child
            // of a threaded process. A failure (out of memory) leaves forks unnoticed; glibc and
            // musl allocate a few bytes here once.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
            INSTALLED.store(true, Ordering::Release);
        }
    }
}
