//! Structs that grow: each leads with its size, as the caller's header knew it.

use std::time::Duration;

use super::code::{Failure, ONCEFLIGHT_E_TOO_LARGE, ONCEFLIGHT_E_UNSUPPORTED};
use super::key::bytes;
use super::options::{Lengths, ONCEFLIGHT_DEFAULT, ONCEFLIGHT_FOREVER, duration};
use crate::clock::FOREVER;

/// The lead will be settled on the thread that begins, so that a wait that would never end is found.
pub const ONCEFLIGHT_SAME_THREAD: u32 = 1;
/// May lead where an earlier attempt's outcome is unknown.
pub const ONCEFLIGHT_RECOVER: u32 = 2;
/// For callers that take a lock of their own as they return, like the threads of an interpreter with one
/// big lock: a crowd that waited for one flight in memory returns one by one, the next when a caller
/// says onceflight_turn_done. All at once they would line up at that lock. A turn of more than 2 ms isn't
/// waited for. A lead, a replay and a small crowd return at once.
pub const ONCEFLIGHT_IN_TURN: u32 = 4;

/// One request to begin; start from ONCEFLIGHT_REQUEST_INIT. Read during the call only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_request {
    /// sizeof(onceflight_request).
    pub struct_size: usize,
    /// What says "the same request". NULL is empty if key_len is 0.
    pub key: *const u8,
    /// In bytes.
    pub key_len: usize,
    /// What says "the same payload"; NULL: none.
    pub fingerprint: *const u8,
    /// In bytes.
    pub fingerprint_len: usize,
    /// How long to wait; 0: don't; ONCEFLIGHT_FOREVER.
    pub timeout_ms: u64,
    /// The lease, should this request lead; ONCEFLIGHT_DEFAULT: the table's.
    pub lease_ms: u64,
    /// How long the response is kept, should this request lead; ONCEFLIGHT_DEFAULT: the table's.
    pub ttl_ms: u64,
    /// ONCEFLIGHT_SAME_THREAD | ONCEFLIGHT_RECOVER | ONCEFLIGHT_IN_TURN.
    pub flags: u32,
}

/// Larger than any header will ever say: a struct that wasn't initialised.
const ABSURD: usize = 4096;

/// A struct whose first field is the size its user knew.
///
/// # Safety
/// `#[repr(C)]`, begins with a `usize`, and any bytes are a valid value.
pub(super) unsafe trait Versioned: Copy {
    /// Its size in the first release, which is this one: none can be smaller. Once a field is added,
    /// and none may go into the padding at the end, this is the offset of that field.
    const FIRST: usize;
}

// SAFETY: repr(C), struct_size first, integers and raw pointers only.
unsafe impl Versioned for onceflight_request {
    const FIRST: usize = size_of::<Self>();
}

fn check_size<T: Versioned>(size: usize) -> Result<(), Failure> {
    if size < T::FIRST || size > ABSURD {
        return Err(Failure::invalid(format!(
            "struct_size is {size}; set it with the struct's INIT macro, or to sizeof"
        )));
    }
    Ok(())
}

/// Reads what the caller's header knew; fields it didn't know are `init`'s.
///
/// # Safety
/// `from` is NULL or points to as many bytes as its `struct_size` says.
pub(super) unsafe fn read<T: Versioned>(
    from: *const T,
    init: T,
    what: &'static str,
) -> Result<T, Failure> {
    if from.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not NULL; every such struct begins with its size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    check_size::<T>(size)?;
    let mut value = init;
    // SAFETY: the smaller of both sizes is within both; any bytes are valid.
    unsafe {
        std::ptr::copy_nonoverlapping(
            from.cast::<u8>(),
            (&raw mut value).cast::<u8>(),
            size.min(size_of::<T>()),
        );
    }
    // Fields of a newer header must say nothing: ignoring a request's wish would be silent.
    // SAFETY: the caller says that `size` bytes are there.
    let newer = (size_of::<T>()..size).any(|at| unsafe { from.cast::<u8>().add(at).read() } != 0);
    if newer {
        return Err(Failure::new(
            ONCEFLIGHT_E_UNSUPPORTED,
            format!("{what} sets fields of a newer version of onceflight"),
        ));
    }
    Ok(value)
}

/// Writes what the caller's header knows, its `struct_size` left as it is.
///
/// # Safety
/// `to` was accepted by [`check_out`].
pub(super) unsafe fn write<T: Versioned>(to: *mut T, value: &T) {
    // SAFETY: not NULL, as checked; begins with its size.
    let size = unsafe { to.cast::<usize>().read_unaligned() };
    let head = size_of::<usize>();
    // SAFETY: the smaller of both sizes is within both; the size itself is left out.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::from_ref(value).cast::<u8>().add(head),
            to.cast::<u8>().add(head),
            size.min(size_of::<T>()) - head,
        );
    }
}

/// Whether an out-struct can be written.
///
/// # Safety
/// `to` is NULL or points to as many bytes as its `struct_size` says.
pub(super) unsafe fn check_out<T: Versioned>(
    to: *mut T,
    what: &'static str,
) -> Result<(), Failure> {
    if to.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not NULL; every such struct begins with its size.
    check_size::<T>(unsafe { to.cast::<usize>().read_unaligned() })
}

/// A request, checked. What it leaves to the table is `None`.
pub(super) struct Parsed<'a> {
    pub key: &'a [u8],
    pub fingerprint: Option<&'a [u8]>,
    pub timeout: Duration,
    pub lease: Option<Duration>,
    pub ttl: Option<Duration>,
    pub same_thread: bool,
    pub recover: bool,
    pub in_turn: bool,
}

/// The caller's bytes, if they are no more than a key may have. Their number is looked at first: one
/// made up by mistake must not be read.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn key_bytes<'a>(
    lengths: &Lengths,
    data: *const u8,
    len: usize,
    what: &'static str,
) -> Result<&'a [u8], Failure> {
    if len > lengths.key {
        return Err(Failure::new(
            ONCEFLIGHT_E_TOO_LARGE,
            format!("the {what} has {len} bytes; max_key_len is {}", lengths.key),
        ));
    }
    // SAFETY: the caller's promise.
    unsafe { bytes(data, len, what) }
}

/// What `onceflight_begin` asks for.
pub(super) fn plain(key: *const u8, key_len: usize, timeout_ms: u64) -> onceflight_request {
    onceflight_request {
        struct_size: size_of::<onceflight_request>(),
        key,
        key_len,
        fingerprint: std::ptr::null(),
        fingerprint_len: 0,
        timeout_ms,
        lease_ms: ONCEFLIGHT_DEFAULT,
        ttl_ms: ONCEFLIGHT_DEFAULT,
        flags: 0,
    }
}

/// # Safety
/// As for [`read`], and its key and fingerprint are readable while the result lives.
pub(super) unsafe fn parse<'a>(
    request: *const onceflight_request,
    lengths: &Lengths,
) -> Result<Parsed<'a>, Failure> {
    const KNOWN: u32 = ONCEFLIGHT_SAME_THREAD | ONCEFLIGHT_RECOVER | ONCEFLIGHT_IN_TURN;
    let init = plain(std::ptr::null(), 0, ONCEFLIGHT_FOREVER);
    // SAFETY: the caller's promise.
    let request = unsafe { read(request, init, "request") }?;
    if request.flags & !KNOWN != 0 {
        return Err(Failure::invalid(format!("flags {:#x} are unknown", request.flags)));
    }
    if request.lease_ms == 0 {
        return Err(Failure::invalid("a lease of 0 ms would be over at once"));
    }
    // SAFETY: the caller's promise.
    let (key, fingerprint) = unsafe {
        (
            key_bytes(lengths, request.key, request.key_len, "key")?,
            key_bytes(lengths, request.fingerprint, request.fingerprint_len, "fingerprint")?,
        )
    };
    Ok(Parsed {
        key,
        // A pointer says that there is one, even if it is empty.
        fingerprint: (!request.fingerprint.is_null()).then_some(fingerprint),
        timeout: match request.timeout_ms {
            ONCEFLIGHT_DEFAULT => FOREVER,
            ms => duration(ms),
        },
        lease: own(request.lease_ms),
        ttl: own(request.ttl_ms),
        same_thread: request.flags & ONCEFLIGHT_SAME_THREAD != 0,
        recover: request.flags & ONCEFLIGHT_RECOVER != 0,
        in_turn: request.flags & ONCEFLIGHT_IN_TURN != 0,
    })
}

/// A time of the request's own.
fn own(ms: u64) -> Option<Duration> {
    (ms != ONCEFLIGHT_DEFAULT).then(|| duration(ms))
}
