//! Result codes, their names and texts, and the detail of a thread's last error.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, ErrorKind};

/// Done.
pub const ONCEFLIGHT_OK: i32 = 0;
/// Do the work, then settle with *lead.
pub const ONCEFLIGHT_LEAD: i32 = 1;
/// Joined a flight: *response.
pub const ONCEFLIGHT_SHARED: i32 = 2;
/// From the window or the store: *response.
pub const ONCEFLIGHT_REPLAYED: i32 = 3;
/// begin_async: the outcome arrives on the queue.
pub const ONCEFLIGHT_PENDING: i32 = 4;
/// The leader declined to share: do your own work, settle nothing.
pub const ONCEFLIGHT_BYPASS: i32 = 5;
/// A pointer that must not be NULL is.
pub const ONCEFLIGHT_E_NULL: i32 = -1;
/// An argument can't be used as it is.
pub const ONCEFLIGHT_E_INVALID: i32 = -2;
/// A bug in onceflight; the call did nothing, or not all.
pub const ONCEFLIGHT_E_PANIC: i32 = -3;
/// Still in flight after timeout_ms (0 = don't wait).
pub const ONCEFLIGHT_E_TIMEOUT: i32 = -4;
/// This lead was settled or overtaken.
pub const ONCEFLIGHT_E_STALE: i32 = -5;
/// The leader cancelled, and the table fails its followers.
pub const ONCEFLIGHT_E_CANCELLED: i32 = -6;
/// Same key, other fingerprint.
pub const ONCEFLIGHT_E_MISMATCH: i32 = -7;
/// Waiting would never end.
pub const ONCEFLIGHT_E_WOULD_DEADLOCK: i32 = -8;
/// A limit on keys in flight or on waiters is reached.
pub const ONCEFLIGHT_E_OVERLOADED: i32 = -9;
/// The key or the response is longer than the table's limit.
pub const ONCEFLIGHT_E_TOO_LARGE: i32 = -10;
/// The table or the queue is closed.
pub const ONCEFLIGHT_E_CLOSED: i32 = -11;
/// Made before a fork, by the parent.
pub const ONCEFLIGHT_E_FORKED: i32 = -12;
/// The store failed or can't be reached; nothing was executed on its word.
pub const ONCEFLIGHT_E_STORE: i32 = -13;
/// An earlier attempt's outcome is unknown and the policy forbids taking over.
pub const ONCEFLIGHT_E_UNKNOWN: i32 = -14;
/// The buffer is too small; *size says what is needed.
pub const ONCEFLIGHT_E_BUFFER: i32 = -15;
/// Built without that store or feature.
pub const ONCEFLIGHT_E_UNSUPPORTED: i32 = -16;
/// Session expired or never registered.
pub const ONCEFLIGHT_E_EXPIRED: i32 = -20;
/// A later incarnation of this client has registered.
pub const ONCEFLIGHT_E_FENCED: i32 = -21;
/// The sequence number is below the window.
pub const ONCEFLIGHT_E_SEQ_STALE: i32 = -22;
/// The sequence number is beyond the window.
pub const ONCEFLIGHT_E_WINDOW_FULL: i32 = -23;
/// Same sequence number, other payload.
pub const ONCEFLIGHT_E_CONFLICT: i32 = -24;
/// The request contradicts itself.
pub const ONCEFLIGHT_E_MALFORMED: i32 = -25;
/// Snapshot of an unknown version, or corrupt.
pub const ONCEFLIGHT_E_FORMAT: i32 = -26;

/// What `err_name` and `strerror` say of each code. (cbindgen sees no constants inside a macro, so
/// those stand above.)
macro_rules! describe {
    ($($name:ident: $text:literal,)*) => {
        fn describe(code: i32) -> (&'static CStr, &'static CStr) {
            match code {
                $($name => (c_str(concat!(stringify!($name), "\0")), c_str(concat!($text, "\0"))),)*
                _ => (c"ONCEFLIGHT_UNKNOWN_CODE", c"unknown code: from a newer version of onceflight?"),
            }
        }
    };
}

describe! {
    ONCEFLIGHT_OK: "done",
    ONCEFLIGHT_LEAD: "do the work, then settle with the lead",
    ONCEFLIGHT_SHARED: "joined a flight, and got its response",
    ONCEFLIGHT_REPLAYED: "a response completed earlier",
    ONCEFLIGHT_PENDING: "the outcome arrives on the queue",
    ONCEFLIGHT_BYPASS: "the leader declined to share: do your own work, settle nothing",
    ONCEFLIGHT_E_NULL: "a pointer that must not be NULL is NULL",
    ONCEFLIGHT_E_INVALID: "an argument can't be used as it is",
    ONCEFLIGHT_E_PANIC: "a bug in onceflight: please report it",
    ONCEFLIGHT_E_TIMEOUT: "still in flight after the timeout",
    ONCEFLIGHT_E_STALE: "this lead was settled or overtaken",
    ONCEFLIGHT_E_CANCELLED: "the leader cancelled; begin again",
    ONCEFLIGHT_E_MISMATCH: "the key is in use with another fingerprint",
    ONCEFLIGHT_E_WOULD_DEADLOCK: "waiting would never end: this thread leads what it would wait for",
    ONCEFLIGHT_E_OVERLOADED: "a limit of the table is reached; raise it, or try again later",
    ONCEFLIGHT_E_TOO_LARGE: "larger than the table's limit",
    ONCEFLIGHT_E_CLOSED: "closed",
    ONCEFLIGHT_E_FORKED: "made before a fork, by the parent process; open a new one in the child",
    ONCEFLIGHT_E_STORE: "the store failed or can't be reached; nothing was executed on its word",
    ONCEFLIGHT_E_UNKNOWN: "an earlier attempt may have happened, and the policy forbids taking over",
    ONCEFLIGHT_E_BUFFER: "the buffer is too small; the size needed is in *size",
    ONCEFLIGHT_E_UNSUPPORTED: "not in this build",
    ONCEFLIGHT_E_EXPIRED: "the session has expired or was never registered",
    ONCEFLIGHT_E_FENCED: "a later incarnation of this client has registered",
    ONCEFLIGHT_E_SEQ_STALE: "the sequence number was acknowledged already",
    ONCEFLIGHT_E_WINDOW_FULL: "the sequence number is beyond the window; acknowledge first",
    ONCEFLIGHT_E_CONFLICT: "the sequence number is in use with another payload",
    ONCEFLIGHT_E_MALFORMED: "the request contradicts itself",
    ONCEFLIGHT_E_FORMAT: "a snapshot of an unknown version, or corrupt",
}

const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the macro ends each text with its only NUL"),
    }
}

/// Why a call failed, as C will see it.
pub(super) struct Failure {
    code: i32,
    detail: Cow<'static, str>,
}

impl Failure {
    pub(super) fn new(code: i32, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }

    pub(super) fn null(what: &'static str) -> Self {
        Self::new(ONCEFLIGHT_E_NULL, format!("{what} is NULL"))
    }

    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ONCEFLIGHT_E_INVALID, detail)
    }

    /// The code, with its detail kept for `onceflight_last_error`.
    pub(super) fn tell(self) -> i32 {
        // A thread that is ending may be past its thread-locals: then the code has to do.
        let _ = DETAIL.try_with(|detail| {
            if let Ok(mut detail) = detail.try_borrow_mut() {
                *detail = self.detail;
            }
        });
        self.code
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Error::from(kind).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: code_of(error.kind()), detail: error.into_detail() }
    }
}

fn code_of(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::Invalid => ONCEFLIGHT_E_INVALID,
        ErrorKind::Timeout => ONCEFLIGHT_E_TIMEOUT,
        ErrorKind::Stale => ONCEFLIGHT_E_STALE,
        ErrorKind::Cancelled => ONCEFLIGHT_E_CANCELLED,
        ErrorKind::Mismatch => ONCEFLIGHT_E_MISMATCH,
        ErrorKind::WouldDeadlock => ONCEFLIGHT_E_WOULD_DEADLOCK,
        ErrorKind::Overloaded => ONCEFLIGHT_E_OVERLOADED,
        ErrorKind::TooLarge => ONCEFLIGHT_E_TOO_LARGE,
        ErrorKind::Closed => ONCEFLIGHT_E_CLOSED,
        ErrorKind::Forked => ONCEFLIGHT_E_FORKED,
        ErrorKind::Store => ONCEFLIGHT_E_STORE,
        ErrorKind::Unknown => ONCEFLIGHT_E_UNKNOWN,
        ErrorKind::Unsupported => ONCEFLIGHT_E_UNSUPPORTED,
        ErrorKind::Expired => ONCEFLIGHT_E_EXPIRED,
        ErrorKind::Fenced => ONCEFLIGHT_E_FENCED,
        ErrorKind::SeqStale => ONCEFLIGHT_E_SEQ_STALE,
        ErrorKind::WindowFull => ONCEFLIGHT_E_WINDOW_FULL,
        ErrorKind::Conflict => ONCEFLIGHT_E_CONFLICT,
        ErrorKind::Malformed => ONCEFLIGHT_E_MALFORMED,
        ErrorKind::Format => ONCEFLIGHT_E_FORMAT,
    }
}

thread_local! {
    static DETAIL: RefCell<Cow<'static, str>> = const { RefCell::new(Cow::Borrowed("")) };
}

/// The shell of every entry: no panic leaves it, and a failure leaves its detail.
pub(super) fn entry(call: impl FnOnce() -> Result<i32, Failure>) -> i32 {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => failure.tell(),
        Err(panic) => {
            let text = match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => match panic.downcast::<&str>() {
                    Ok(text) => (*text).to_owned(),
                    Err(other) => {
                        // Its own destructor may panic too.
                        std::mem::forget(other);
                        String::new()
                    }
                },
            };
            Failure::new(ONCEFLIGHT_E_PANIC, format!("a bug in onceflight: {text}")).tell()
        }
    }
}

/// The text of a code. Static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn onceflight_strerror(code: i32) -> *const c_char {
    describe(code).1.as_ptr()
}

/// The name of a code, such as "ONCEFLIGHT_E_STALE". Static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn onceflight_err_name(code: i32) -> *const c_char {
    describe(code).0.as_ptr()
}

/// Writes the detail of this thread's last error, NUL-terminated, into buffer. size: its capacity
/// in, what is needed out. Too small: ONCEFLIGHT_E_BUFFER, and nothing is written (buffer may be
/// NULL to ask for the size, with *size = 0). Calls that succeed leave the detail as it was; so
/// does this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_last_error(buffer: *mut c_char, size: *mut usize) -> i32 {
    if size.is_null() {
        return ONCEFLIGHT_E_NULL;
    }
    let write = |detail: &str| {
        // SAFETY: not NULL, and the caller's to write.
        let capacity = unsafe { size.read() };
        let needed = detail.len() + 1;
        // SAFETY: as above.
        unsafe { size.write(needed) };
        if capacity < needed {
            return ONCEFLIGHT_E_BUFFER;
        }
        if buffer.is_null() {
            return ONCEFLIGHT_E_NULL;
        }
        // SAFETY: the caller says that the buffer has `capacity` bytes, which is enough; ours
        // doesn't overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(detail.as_ptr(), buffer.cast(), detail.len());
            buffer.add(detail.len()).write(0);
        }
        ONCEFLIGHT_OK
    };
    let told = DETAIL.try_with(|detail| detail.try_borrow().map(|detail| write(&detail)));
    match told {
        Ok(Ok(code)) => code,
        _ => write(""),
    }
}

/// The header's version, part by part.
pub const ONCEFLIGHT_VERSION_MAJOR: u32 = 0;
/// See ONCEFLIGHT_VERSION_MAJOR.
pub const ONCEFLIGHT_VERSION_MINOR: u32 = 1;
/// See ONCEFLIGHT_VERSION_MAJOR.
pub const ONCEFLIGHT_VERSION_PATCH: u32 = 0;

/// The library's version: MAJOR * 1000000 + MINOR * 1000 + PATCH.
#[unsafe(no_mangle)]
pub extern "C" fn onceflight_version_number() -> u32 {
    ONCEFLIGHT_VERSION_MAJOR * 1_000_000
        + ONCEFLIGHT_VERSION_MINOR * 1_000
        + ONCEFLIGHT_VERSION_PATCH
}

/// The library's version as text. Static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn onceflight_version_string() -> *const c_char {
    c_str(concat!(env!("CARGO_PKG_VERSION"), "\0")).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_and_the_package_have_one_version() {
        let package: Vec<u32> = env!("CARGO_PKG_VERSION")
            .split('.')
            .map(|part| part.parse().expect("a number"))
            .collect();
        assert_eq!(
            package,
            [ONCEFLIGHT_VERSION_MAJOR, ONCEFLIGHT_VERSION_MINOR, ONCEFLIGHT_VERSION_PATCH]
        );
    }

    #[test]
    fn a_panic_becomes_a_code_and_leaves_its_text() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let code = entry(|| panic!("on purpose"));
        std::panic::set_hook(hook);
        assert_eq!(code, ONCEFLIGHT_E_PANIC);
        let mut buffer = [0u8; 64];
        let mut size = buffer.len();
        // SAFETY: both point to live memory of the size told.
        assert_eq!(unsafe { onceflight_last_error(buffer.as_mut_ptr().cast(), &raw mut size) }, 0);
        assert_eq!(&buffer[..size - 1], b"a bug in onceflight: on purpose");
    }
}
