//! Threads of ours take no signals: a program that counts on its own threads' masks must not find
//! its handlers run on threads it doesn't know.

/// Calls `start` with every signal blocked; a thread that it starts inherits that.
#[cfg(unix)]
#[allow(unsafe_code)] // the standard library has no signal masks
pub(crate) fn blocked<T>(start: impl FnOnce() -> T) -> T {
    use std::mem::MaybeUninit;

    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset fills the set it is given, so it is a valid one; pthread_sigmask writes the
    // mask of this thread, and nothing else, to `before`.
    let masked = unsafe {
        libc::sigfillset(all.as_mut_ptr()) == 0
            && libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let started = start();
    if masked {
        // SAFETY: the call above succeeded, so `before` holds the mask that this puts back.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        }
    }
    started
}

#[cfg(not(unix))]
pub(crate) fn blocked<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// Starts a thread of ours, and leaves it to itself.
#[cfg(feature = "store")]
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    blocked(|| std::thread::Builder::new().name(name.into()).spawn(work)).map(drop)
}
