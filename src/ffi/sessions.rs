//! Sessions: the table that a replicated state machine applies its log to.
//!
//! A lock keeps the table whole for any number of threads; in what order the log's entries come is the
//! caller's business. A snapshot holds it while the table is frozen, and is written without it.

use super::code::{
    Failure, ONCEFLIGHT_E_TOO_LARGE, ONCEFLIGHT_LEAD, ONCEFLIGHT_OK, ONCEFLIGHT_REPLAYED, entry,
};
use super::key::bytes;
use super::options::ONCEFLIGHT_DEFAULT;
use super::request::{Versioned, check_out, read, write};
use super::response::{into_handle, onceflight_response};
use crate::error::ErrorKind;
use crate::fork;
use crate::response::Response;
use crate::session::{MAX_NAME, SessionBegin, SessionRequest, SessionTable};
use crate::sync::{Mutex, MutexGuard};

/// The sessions of a replicated state machine: what was executed, and what was said to it. A part of
/// the state machine: every replica applies the same log to its own, and so gives the same answers and
/// the same snapshot. Nothing in it reads a clock, draws a number or does I/O; now_ms comes from the
/// log, which has it from its leader, and where it goes back the table's time stands still.
///
/// client and nonce are any bytes, 255 at most. All functions may be called from any thread, but for
/// onceflight_sessions_free, which must come last. After a fork the child's copy says
/// ONCEFLIGHT_E_FORKED.
pub struct onceflight_sessions {
    table: Mutex<SessionTable>,
    generation: u64,
}

/// What bounds a table of sessions; start from ONCEFLIGHT_SESSION_LIMITS_INIT, which has
/// ONCEFLIGHT_DEFAULT for all. Every replica needs the same; a snapshot carries them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_session_limits {
    /// sizeof(onceflight_session_limits).
    pub struct_size: usize,
    /// Sessions; one more, and that whose last use is the longest ago goes. Default: 65536.
    pub max_sessions: u64,
    /// How many requests a client may have in progress, 1 to 64. Default: 16.
    pub window: u64,
    /// How long a session lives without being used, in ms of the log's time. Default: 3600000.
    /// ONCEFLIGHT_FOREVER: sessions don't expire.
    pub timeout_ms: u64,
    /// The longest response that is kept, 2147483648 at most. Default: 1048576.
    pub max_response_len: u64,
    /// Bytes of responses that one session keeps; what doesn't fit is as too long. Default: 16777216.
    pub max_session_bytes: u64,
    /// Bytes of responses of all sessions, no fewer than of one; past that, whole sessions go, those
    /// whose last use is the longest ago first. Default: 268435456.
    pub max_bytes: u64,
}

// SAFETY: repr(C), struct_size first, integers only.
unsafe impl Versioned for onceflight_session_limits {
    const FIRST: usize = size_of::<Self>();
}

const DEFAULTS: onceflight_session_limits = onceflight_session_limits {
    struct_size: size_of::<onceflight_session_limits>(),
    max_sessions: ONCEFLIGHT_DEFAULT,
    window: ONCEFLIGHT_DEFAULT,
    timeout_ms: ONCEFLIGHT_DEFAULT,
    max_response_len: ONCEFLIGHT_DEFAULT,
    max_session_bytes: ONCEFLIGHT_DEFAULT,
    max_bytes: ONCEFLIGHT_DEFAULT,
};

/// A table without sessions. max_sessions: when there are more, that whose last use is the longest ago
/// goes. window: how many requests a client may have in progress, 1 to 64. timeout_ms: how long a
/// session lives without being used, in the log's time; ONCEFLIGHT_FOREVER, ONCEFLIGHT_DEFAULT.
/// Every replica needs the same; ONCEFLIGHT_E_INVALID: out of range, as 0 is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_new(
    max_sessions: u32,
    window: u32,
    timeout_ms: u64,
    sessions: *mut *mut onceflight_sessions,
) -> i32 {
    let (max_sessions, window) = (max_sessions.into(), window.into());
    let limits = onceflight_session_limits { max_sessions, window, timeout_ms, ..DEFAULTS };
    // SAFETY: the same contract; the limits are a local.
    unsafe { onceflight_sessions_with_limits(&raw const limits, sessions) }
}

/// onceflight_sessions_new with more limits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_with_limits(
    limits: *const onceflight_session_limits,
    sessions: *mut *mut onceflight_sessions,
) -> i32 {
    // SAFETY: the same contract, which is what each helper asks for.
    unsafe { make(sessions, || built(&read(limits, DEFAULTS, "limits")?)) }
}

/// # Safety
/// `sessions` is NULL or the caller's to write.
pub(super) unsafe fn make(
    sessions: *mut *mut onceflight_sessions,
    table: impl FnOnce() -> Result<SessionTable, Failure>,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(sessions, std::ptr::null_mut(), "sessions") }?;
        let generation = fork::enrol();
        let made = onceflight_sessions { table: Mutex::new(table()?), generation };
        out.put(Box::into_raw(Box::new(made)));
        Ok(ONCEFLIGHT_OK)
    })
}

fn built(limits: &onceflight_session_limits) -> Result<SessionTable, Failure> {
    let set = |value: u64| (value != ONCEFLIGHT_DEFAULT).then_some(value);
    let mut builder = SessionTable::builder();
    if let Some(most) = set(limits.max_sessions) {
        builder = builder.max_sessions(narrow(most, "max_sessions")?);
    }
    if let Some(window) = set(limits.window) {
        builder = builder.window(narrow(window, "window")?);
    }
    if let Some(timeout) = set(limits.timeout_ms) {
        builder = builder.timeout_ms(timeout);
    }
    if let Some(most) = set(limits.max_response_len) {
        builder = builder.max_response_len(count(most));
    }
    if let Some(most) = set(limits.max_session_bytes) {
        builder = builder.max_session_bytes(count(most));
    }
    if let Some(most) = set(limits.max_bytes) {
        builder = builder.max_bytes(count(most));
    }
    Ok(builder.build()?)
}

fn narrow(value: u64, what: &'static str) -> Result<u32, Failure> {
    u32::try_from(value)
        .map_err(|_| Failure::invalid(format!("{what} of {value}: that is too many")))
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Frees the table. NULL does nothing; nor does a copy that the child of a fork inherited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_free(sessions: *mut onceflight_sessions) {
    entry(|| {
        // SAFETY: NULL, or the caller's table.
        let forked = unsafe { sessions.as_ref() }.is_none_or(onceflight_sessions::forked);
        // What another thread was changing at the fork is half a table: the child leaves it alone.
        if !forked {
            // SAFETY: it came from `make`, and the caller gives it up.
            drop(unsafe { Box::from_raw(sessions) });
        }
        Ok(ONCEFLIGHT_OK)
    });
}

/// A session for client, and its incarnation, which no other has had. The same nonce again is the same
/// registration again, and is answered the same; another nonce is another life of that client, and what
/// the earlier one still has under way is ONCEFLIGHT_E_FENCED from then on: draw it at random. Only the
/// last nonce is known: a late copy of an earlier registration is another life too.
/// ONCEFLIGHT_E_TOO_LARGE: client or nonce is too long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_register(
    sessions: *mut onceflight_sessions,
    client: *const u8,
    client_len: usize,
    nonce: *const u8,
    nonce_len: usize,
    now_ms: u64,
    incarnation: *mut u64,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (out, mut table, client, nonce) = unsafe {
            let out = Out::new(incarnation, 0, "incarnation")?;
            let client = bytes(client, client_len, "client");
            (out, given(sessions)?, client?, bytes(nonce, nonce_len, "nonce")?)
        };
        out.put(table.register(client, nonce, now_ms)?);
        Ok(ONCEFLIGHT_OK)
    })
}

/// Whether a request of the log is to be executed now, or what was said to it. LEAD: execute it, then
/// onceflight_sessions_record; until then the table refuses every other change, and a snapshot.
/// REPLAYED: *response, to be freed. An error: nothing is executed.
///
/// seq: the client's number for it, from 1 on, in any order. ack: the lowest number that the client has
/// no reply of, seq at most; what is below is forgotten; 0 says nothing. digest: 16 bytes that tell this
/// payload from another (onceflight_fingerprint); NULL: none. incarnation 0: a client that doesn't
/// register; its seq 1 does, and without an ack its window follows seq.
///
/// ONCEFLIGHT_E_EXPIRED: no such session, whether earlier requests were executed can't be told.
/// ONCEFLIGHT_E_FENCED: a later incarnation has registered. ONCEFLIGHT_E_SEQ_STALE: acknowledged.
/// ONCEFLIGHT_E_WINDOW_FULL: acknowledge first. ONCEFLIGHT_E_CONFLICT: executed with another digest.
/// ONCEFLIGHT_E_TOO_LARGE: executed, but the response couldn't be kept. ONCEFLIGHT_E_MALFORMED: seq is 0
/// or UINT64_MAX, ack is above it, or the client's name is too long. ONCEFLIGHT_E_INVALID: an entry is
/// open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_begin(
    sessions: *mut onceflight_sessions,
    client: *const u8,
    client_len: usize,
    incarnation: u64,
    seq: u64,
    ack: u64,
    digest: *const u8,
    now_ms: u64,
    response: *mut *mut onceflight_response,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call; a digest has 16 bytes, without alignment.
        let (out, mut table, client, digest) = unsafe {
            let out = Out::new(response, std::ptr::null_mut(), "response")?;
            let digest = digest.cast::<[u8; 16]>().as_ref();
            (out, given(sessions)?, bytes(client, client_len, "client")?, digest)
        };
        let mut request = SessionRequest::new(client, incarnation, seq).ack(ack);
        if let Some(digest) = digest {
            request = request.digest(*digest);
        }
        match table.begin(&request, now_ms)? {
            SessionBegin::Lead => Ok(ONCEFLIGHT_LEAD),
            SessionBegin::Replayed(found) => Ok(out.put_response(found, ONCEFLIGHT_REPLAYED)),
        }
    })
}

/// What the open entry, of this client, incarnation and seq, was executed with: what a retry is told.
/// The bytes are copied. ONCEFLIGHT_E_TOO_LARGE: the response is more than the limits allow, so a retry
/// is told that, and the entry is closed too. Any other error changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_record(
    sessions: *mut onceflight_sessions,
    client: *const u8,
    client_len: usize,
    incarnation: u64,
    seq: u64,
    status: i32,
    data: *const u8,
    len: usize,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (mut table, client, data) = unsafe {
            let client = bytes(client, client_len, "client");
            (given(sessions)?, client?, bytes(data, len, "data")?)
        };
        table.record(&SessionRequest::new(client, incarnation, seq), status, data)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// What was said to a request, if it was executed here: for a leader, which so answers a retry without
/// the log. Changes nothing. REPLAYED: *response, to be freed. ONCEFLIGHT_OK: nothing is known of it
/// here; propose it. Errors as of onceflight_sessions_begin; where entries of the log are still to be
/// applied here, ONCEFLIGHT_E_EXPIRED isn't certain: propose it too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_peek(
    sessions: *const onceflight_sessions,
    client: *const u8,
    client_len: usize,
    incarnation: u64,
    seq: u64,
    response: *mut *mut onceflight_response,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (out, table, client) = unsafe {
            let out = Out::new(response, std::ptr::null_mut(), "response")?;
            (out, given(sessions)?, known(client, client_len)?)
        };
        Ok(match table.peek(client, incarnation, seq)? {
            Some(found) => out.put_response(found, ONCEFLIGHT_REPLAYED),
            None => ONCEFLIGHT_OK,
        })
    })
}

/// Keeps a session from expiring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_keep_alive(
    sessions: *mut onceflight_sessions,
    client: *const u8,
    client_len: usize,
    incarnation: u64,
    now_ms: u64,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (mut table, client) = unsafe { (given(sessions)?, known(client, client_len)?) };
        table.keep_alive(client, incarnation, now_ms)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// Ends a client's session, whichever incarnation it is. ONCEFLIGHT_E_EXPIRED: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_unregister(
    sessions: *mut onceflight_sessions,
    client: *const u8,
    client_len: usize,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (mut table, client) = unsafe { (given(sessions)?, known(client, client_len)?) };
        table.unregister(client)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// Ends the sessions whose timeout has passed by now_ms, and tells how many. Every other change that
/// has a now_ms does so too; this is for times when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_expire(
    sessions: *mut onceflight_sessions,
    now_ms: u64,
    expired: *mut u64,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (out, mut table) = unsafe { (Out::new(expired, 0, "expired")?, given(sessions)?) };
        out.put(table.expire(now_ms)?);
        Ok(ONCEFLIGHT_OK)
    })
}

/// How a table of sessions stands; start from ONCEFLIGHT_SESSION_STATS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_session_stats {
    /// sizeof(onceflight_session_stats).
    pub struct_size: usize,
    /// How many there are.
    pub sessions: u64,
    /// The bytes of all their responses.
    pub response_bytes: u64,
    /// The log's time: the highest that a change came with.
    pub now_ms: u64,
}

// SAFETY: repr(C), struct_size first, integers only.
unsafe impl Versioned for onceflight_session_stats {
    const FIRST: usize = size_of::<Self>();
}

/// How the table stands now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_stats(
    sessions: *const onceflight_sessions,
    stats: *mut onceflight_session_stats,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call; all zeros is a valid value.
        let table = unsafe {
            check_out(stats, "stats")?;
            write(stats, &std::mem::zeroed());
            given(sessions)?
        };
        let told = onceflight_session_stats {
            struct_size: 0,
            sessions: table.len() as u64,
            response_bytes: table.response_bytes(),
            now_ms: table.now_ms(),
        };
        // SAFETY: accepted above.
        unsafe { write(stats, &told) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// All of the table: the data of *bytes, to be freed. It belongs into one snapshot with the state that
/// the requests have changed. Other threads wait only while a pointer is copied for each 32 sessions;
/// what they change later isn't in it. Replicas that applied the same log have the same bytes.
/// ONCEFLIGHT_E_INVALID: an entry is open. ONCEFLIGHT_E_TOO_LARGE: 4 GiB or more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_snapshot(
    sessions: *const onceflight_sessions,
    bytes: *mut *mut onceflight_response,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (out, frozen) = unsafe {
            let out = Out::new(bytes, std::ptr::null_mut(), "bytes")?;
            (out, given(sessions)?.freeze()?)
        };
        let snapshot = frozen.to_bytes();
        if u32::try_from(snapshot.len()).is_err() {
            let detail = format!("the snapshot has {} bytes; 4 GiB are too many", snapshot.len());
            return Err(Failure::new(ONCEFLIGHT_E_TOO_LARGE, detail));
        }
        Ok(out.put_response(Response::new(0, &snapshot), ONCEFLIGHT_OK))
    })
}

/// The table that a snapshot was made of, its limits included. ONCEFLIGHT_E_FORMAT: the bytes are of a
/// version that this library doesn't know, or no snapshot (any more).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_restore(
    data: *const u8,
    len: usize,
    sessions: *mut *mut onceflight_sessions,
) -> i32 {
    // SAFETY: the caller's pointers, for this call.
    unsafe { make(sessions, || Ok(SessionTable::restore(bytes(data, len, "data")?)?)) }
}

impl onceflight_sessions {
    fn forked(&self) -> bool {
        fork::generation() != self.generation
    }
}

/// # Safety
/// `sessions` is NULL or a table that isn't freed while the result is used.
pub(super) unsafe fn given<'a>(
    sessions: *const onceflight_sessions,
) -> Result<MutexGuard<'a, SessionTable>, Failure> {
    // SAFETY: the caller's promise.
    let sessions = unsafe { sessions.as_ref() }.ok_or_else(|| Failure::null("sessions"))?;
    if sessions.forked() {
        return Err(Failure::from(ErrorKind::Forked));
    }
    Ok(sessions.table.lock())
}

/// The name of a client that may have a session. A length that no name has may be made up: what is
/// there isn't read.
///
/// # Safety
/// As for [`bytes`].
unsafe fn known<'a>(client: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if len > MAX_NAME {
        return Err(Failure::from(ErrorKind::Expired));
    }
    // SAFETY: the caller's promise.
    unsafe { bytes(client, len, "client") }
}

/// An out-parameter that was reset.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `out` is NULL or the caller's to write, until the call returns.
    pub unsafe fn new(out: *mut T, nothing: T, what: &'static str) -> Result<Self, Failure> {
        if out.is_null() {
            return Err(Failure::null(what));
        }
        // SAFETY: not NULL, and the caller's promise.
        unsafe { out.write(nothing) };
        Ok(Self(out))
    }

    pub fn put(self, value: T) {
        // SAFETY: `new` found it writable.
        unsafe { self.0.write(value) };
    }
}

impl Out<*mut onceflight_response> {
    fn put_response(self, response: Response, code: i32) -> i32 {
        self.put(into_handle(response.into_block()));
        code
    }
}
