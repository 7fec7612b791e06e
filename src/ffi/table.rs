//! Tables: begin, and what a lead can do.

use std::ffi::c_char;
use std::time::Duration;

use super::backend::{Next, Settle, SettleWith, Table, Verbs};
use super::code::{
    Failure, ONCEFLIGHT_BYPASS, ONCEFLIGHT_LEAD, ONCEFLIGHT_OK, ONCEFLIGHT_REPLAYED,
    ONCEFLIGHT_SHARED, entry,
};
use super::key::{bytes, text};
use super::options::{ONCEFLIGHT_DEFAULT, duration, onceflight_options};
use super::request::{self, Versioned, check_out, key_bytes, onceflight_request, parse, write};
use super::response::{into_handle, onceflight_response};
use crate::clock::Span;
use crate::error::Error;
use crate::table::internal::{Arrived, AtOnce, Granted, LeadRef, Reply, Response};

/// A table of keys and responses. All functions on it may be called from any thread, but for
/// onceflight_table_free, which must come after every call that isn't blocked already. After a fork
/// the child's copy says ONCEFLIGHT_E_FORKED.
pub struct onceflight_table(Table);

/// Names a lead. Never 0; a stale one is refused.
pub type onceflight_lead = u64;

/// An outcome as C has it: its code, and its lead or its response.
pub(super) fn outcome(
    arrived: Arrived<Response>,
) -> (i32, onceflight_lead, *mut onceflight_response) {
    let none = std::ptr::null_mut();
    match arrived {
        Arrived::Lead(Granted { id, .. }) => (ONCEFLIGHT_LEAD, id, none),
        Arrived::Shared(response) => (ONCEFLIGHT_SHARED, 0, into_handle(response)),
        Arrived::Replayed(response) => (ONCEFLIGHT_REPLAYED, 0, into_handle(response)),
        Arrived::Bypass => (ONCEFLIGHT_BYPASS, 0, none),
    }
}

/// Where an outcome goes.
#[derive(Clone, Copy)]
pub(super) struct Outs {
    lead: *mut onceflight_lead,
    response: *mut *mut onceflight_response,
}

impl Outs {
    /// Resets them.
    ///
    /// # Safety
    /// Each is NULL or the caller's to write, until the call returns.
    pub unsafe fn new(
        lead: *mut onceflight_lead,
        response: *mut *mut onceflight_response,
    ) -> Result<Self, Failure> {
        // SAFETY: not NULL where it is written, and the caller's promise.
        unsafe {
            if !lead.is_null() {
                lead.write(0);
            }
            if !response.is_null() {
                response.write(std::ptr::null_mut());
            }
        }
        if lead.is_null() {
            return Err(Failure::null("lead"));
        }
        if response.is_null() {
            return Err(Failure::null("response"));
        }
        Ok(Self { lead, response })
    }

    pub fn put(self, arrived: Arrived<Response>) -> i32 {
        let (code, lead, response) = outcome(arrived);
        // SAFETY: `new` found both writable.
        unsafe {
            self.lead.write(lead);
            self.response.write(response);
        }
        code
    }
}

/// # Safety
/// `table` is NULL or a table that isn't freed while the result is used.
pub(super) unsafe fn given<'a>(table: *const onceflight_table) -> Result<&'a Table, Failure> {
    // SAFETY: the caller's promise.
    unsafe { table.as_ref() }.map(|table| &table.0).ok_or_else(|| Failure::null("table"))
}

/// A table in memory. options: NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_new(
    options: *const onceflight_options,
    table: *mut *mut onceflight_table,
) -> i32 {
    // SAFETY: the same contract.
    unsafe { open(options, table, || Ok(None)) }
}

/// A table by URL: "memory:", "sqlite:PATH", "postgres://…", "redis://…", "redis-cluster://H:P,H:P",
/// "memcached://H:P,H:P". ONCEFLIGHT_E_UNSUPPORTED: this build lacks that store.
/// ONCEFLIGHT_E_STORE: it can't be reached or used. options: NULL for the defaults, which differ
/// between a table in memory and one over a store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_open(
    url: *const c_char,
    options: *const onceflight_options,
    table: *mut *mut onceflight_table,
) -> i32 {
    // SAFETY: the same contract; the URL ends with a NUL.
    unsafe {
        open(options, table, || {
            let url = text(url, "url")?.to_str();
            let url = url.map_err(|_| Failure::invalid("the URL is not UTF-8"))?;
            Ok((url != "memory:").then_some(url))
        })
    }
}

/// # Safety
/// The pointers are NULL, or the options' and the place for a table; neither changes meanwhile.
unsafe fn open<'a>(
    options: *const onceflight_options,
    table: *mut *mut onceflight_table,
    url: impl FnOnce() -> Result<Option<&'a str>, Failure>,
) -> i32 {
    entry(|| {
        if table.is_null() {
            return Err(Failure::null("table"));
        }
        // SAFETY: not NULL, and the caller's to write.
        unsafe { table.write(std::ptr::null_mut()) };
        // SAFETY: NULL, or options that the caller hasn't freed and doesn't change meanwhile.
        let options = unsafe { options.as_ref() }.cloned().unwrap_or_default();
        let opened = onceflight_table(Table::open(url()?, &options)?);
        // SAFETY: as above.
        unsafe { table.write(Box::into_raw(Box::new(opened))) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// Refuses new begins and wakes every waiter, pending events included, with ONCEFLIGHT_E_CLOSED.
/// Leads still settle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_close(table: *const onceflight_table) -> i32 {
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let table = unsafe { given(table) }?;
        table.check_fork()?;
        table.close();
        Ok(ONCEFLIGHT_OK)
    })
}

/// Closes the table, abandons what is in flight, and frees it. Threads blocked inside get
/// ONCEFLIGHT_E_CLOSED. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_free(table: *mut onceflight_table) {
    entry(|| {
        if !table.is_null() {
            // SAFETY: it came from `onceflight_table_new`, and the caller gives it up. Blocked
            // threads and pending events hold the table's insides by an `Arc` of their own.
            drop(unsafe { Box::from_raw(table) });
        }
        Ok(ONCEFLIGHT_OK)
    });
}

/// Leads, replays or follows, for at most timeout_ms (0: don't wait; ONCEFLIGHT_FOREVER). LEAD: do
/// the work, then settle with *lead. SHARED, REPLAYED: *response, to be freed. BYPASS: do your own
/// work, settle nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_begin(
    table: *const onceflight_table,
    key: *const u8,
    key_len: usize,
    timeout_ms: u64,
    lead: *mut onceflight_lead,
    response: *mut *mut onceflight_response,
) -> i32 {
    // SAFETY: the caller's table, key and out-parameters, for this call.
    unsafe {
        match begin_at_once(table, key, key_len, lead, response) {
            Some(code) => code,
            None => begin_plainly(table, key, key_len, timeout_ms, lead, response),
        }
    }
}

/// The usual case, which has no shell: there is nothing in it that could fail or unwind. `None`: it isn't
/// that, and nothing was done.
///
/// # Safety
/// As for `onceflight_begin`.
#[inline(always)]
unsafe fn begin_at_once(
    table: *const onceflight_table,
    key: *const u8,
    key_len: usize,
    lead: *mut onceflight_lead,
    response: *mut *mut onceflight_response,
) -> Option<i32> {
    // SAFETY: NULL, or the caller's table, for this call.
    let memory = unsafe { table.as_ref() }?.0.in_memory()?;
    if key.is_null() || key_len > memory.lengths.key || lead.is_null() || response.is_null() {
        return None;
    }
    // SAFETY: none is NULL; the caller's key, for this call.
    let given = memory.given(unsafe { std::slice::from_raw_parts(key, key_len) });
    let (inner, usual) = (&memory.inner, &memory.inner.usual);
    match inner.begin_at_once(&given, usual, None, None, Response::clone) {
        // SAFETY: neither is NULL; the caller's to write.
        AtOnce::Lead(id) => unsafe {
            lead.write(id);
            response.write(std::ptr::null_mut());
            Some(ONCEFLIGHT_LEAD)
        },
        // SAFETY: as above.
        AtOnce::Replay(held) => unsafe {
            lead.write(0);
            response.write(into_handle(held));
            Some(ONCEFLIGHT_REPLAYED)
        },
        AtOnce::Vacant | AtOnce::No => None,
    }
}

/// All others. Out of line, so that the usual case's frame has no room for a request.
///
/// # Safety
/// As for `onceflight_begin`.
#[cold]
#[inline(never)]
unsafe fn begin_plainly(
    table: *const onceflight_table,
    key: *const u8,
    key_len: usize,
    timeout_ms: u64,
    lead: *mut onceflight_lead,
    response: *mut *mut onceflight_response,
) -> i32 {
    let request = request::plain(key, key_len, timeout_ms);
    // SAFETY: the same contract; the request is a local.
    unsafe { onceflight_begin_request(table, &raw const request, lead, response) }
}

/// onceflight_begin with terms of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_begin_request(
    table: *const onceflight_table,
    request: *const onceflight_request,
    lead: *mut onceflight_lead,
    response: *mut *mut onceflight_response,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let outs = unsafe { Outs::new(lead, response) }?;
        // SAFETY: the table isn't freed before this call is seen to wait, and from then on `start` reads
        // nothing of it.
        let (next, timeout) = unsafe { start(table, request) }?;
        // From here on the table may be freed: what waits has what it needs.
        Ok(outs.put(next.wait(timeout)?))
    })
}

/// The part of a begin that may look at the table.
///
/// # Safety
/// As for `given` and `parse`.
unsafe fn start(
    table: *const onceflight_table,
    request: *const onceflight_request,
) -> Result<(Next, Duration), Failure> {
    // SAFETY: the caller's promise.
    let table = unsafe { given(table) }?;
    table.check_fork()?;
    // SAFETY: the caller's promise.
    let parsed = unsafe { parse(request, table.lengths()) }?;
    Ok((table.begin(&parsed)?, parsed.timeout))
}

/// Settles: every follower gets the response, and it is replayed for the ttl of the request or the
/// table. The bytes are copied. TOO_LARGE leaves the lead live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_complete(
    table: *const onceflight_table,
    lead: onceflight_lead,
    status: i32,
    data: *const u8,
    len: usize,
) -> i32 {
    // SAFETY: the caller's table and bytes, for this call.
    if unsafe { complete_at_once(table, lead, data, len, None) } {
        return ONCEFLIGHT_OK;
    }
    // SAFETY: the same contract.
    unsafe { onceflight_complete_for(table, lead, status, data, len, ONCEFLIGHT_DEFAULT) }
}

/// As `begin_at_once`: a flight that nobody joined, and a response that isn't kept. False: nothing was done.
///
/// # Safety
/// As for `onceflight_complete`.
#[inline(always)]
unsafe fn complete_at_once(
    table: *const onceflight_table,
    lead: onceflight_lead,
    data: *const u8,
    len: usize,
    ttl: Option<Span>,
) -> bool {
    // SAFETY: NULL, or the caller's table, for this call.
    let Some(memory) = unsafe { table.as_ref() }.and_then(|table| table.0.in_memory()) else {
        return false;
    };
    (len == 0 || !data.is_null())
        && len <= memory.lengths.response
        && memory.inner.complete_at_once::<Reply<'_>>(LeadRef::named(lead), ttl)
}

/// onceflight_complete, replayed for ttl_ms. 0: share with the followers, don't retain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_complete_for(
    table: *const onceflight_table,
    lead: onceflight_lead,
    status: i32,
    data: *const u8,
    len: usize,
    ttl_ms: u64,
) -> i32 {
    // SAFETY: the caller's table and bytes, for this call.
    if ttl_ms == 0 && unsafe { complete_at_once(table, lead, data, len, Some(0)) } {
        return ONCEFLIGHT_OK;
    }
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let table = unsafe { given(table) }?;
        // SAFETY: the caller's bytes, for this call.
        let data = unsafe { few(table, data, len, "data") }?;
        let ttl = (ttl_ms != ONCEFLIGHT_DEFAULT).then(|| duration(ttl_ms));
        table.verbs().complete(lead, status, data, ttl)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// The caller's bytes, if they are not too many.
///
/// # Safety
/// As for `bytes`.
unsafe fn few<'a>(
    table: &Table,
    data: *const u8,
    len: usize,
    what: &'static str,
) -> Result<&'a [u8], Failure> {
    table.check_response_len(len)?;
    // SAFETY: the caller's promise.
    unsafe { bytes(data, len, what) }
}

/// One call that settles a lead or changes its terms.
///
/// # Safety
/// As for `given`.
unsafe fn with_verbs(
    table: *const onceflight_table,
    call: impl FnOnce(&Verbs<'_>) -> Result<(), Error>,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's promise; what blocks has let go of the table, which may be freed then.
        let verbs = unsafe { given(table) }?.verbs();
        call(&verbs)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// Settles: nothing happened. The first follower in line leads, or all get CANCELLED, by option.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_cancel(
    table: *const onceflight_table,
    lead: onceflight_lead,
) -> i32 {
    // SAFETY: the caller's table, for this call.
    unsafe { with_verbs(table, |verbs| verbs.settle(lead, Settle::Cancel)) }
}

/// Settles: it may have happened. The first follower in line, or the next begin, leads; or the
/// outcome is unknown, by option. A store that can't be told now (ONCEFLIGHT_E_STORE) is told later: the
/// lead is over in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_abandon(
    table: *const onceflight_table,
    lead: onceflight_lead,
) -> i32 {
    // SAFETY: the caller's table, for this call.
    unsafe { with_verbs(table, |verbs| verbs.settle(lead, Settle::Abandon)) }
}

/// Settles: nothing happened, and those who wait in this process get this response instead of a lead.
/// It isn't kept; over a store, who waits in another process leads. The bytes are copied. TOO_LARGE
/// leaves the lead live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_cancel_with(
    table: *const onceflight_table,
    lead: onceflight_lead,
    status: i32,
    data: *const u8,
    len: usize,
) -> i32 {
    // SAFETY: the same contract.
    unsafe { settle_with(table, lead, SettleWith::Cancel, status, data, len) }
}

/// Settles: it may have happened, and those who wait in this process get this response. It isn't kept:
/// the next begin (over a store, whoever waits in another process) leads; or the outcome is unknown, by
/// option. The bytes are copied. TOO_LARGE leaves the lead live; ONCEFLIGHT_E_STORE is as in
/// onceflight_abandon.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_abandon_with(
    table: *const onceflight_table,
    lead: onceflight_lead,
    status: i32,
    data: *const u8,
    len: usize,
) -> i32 {
    // SAFETY: the same contract.
    unsafe { settle_with(table, lead, SettleWith::Abandon, status, data, len) }
}

/// # Safety
/// As for `given` and `bytes`.
unsafe fn settle_with(
    table: *const onceflight_table,
    lead: onceflight_lead,
    how: SettleWith,
    status: i32,
    data: *const u8,
    len: usize,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let table = unsafe { given(table) }?;
        // SAFETY: the caller's bytes, for this call.
        let data = unsafe { few(table, data, len, "data") }?;
        table.verbs().settle_with(lead, how, status, data)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// Settles: not to be shared. All followers get BYPASS at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_decline(
    table: *const onceflight_table,
    lead: onceflight_lead,
) -> i32 {
    // SAFETY: the caller's table, for this call.
    unsafe { with_verbs(table, |verbs| verbs.settle(lead, Settle::Decline)) }
}

/// Makes the lease end lease_ms from now (ONCEFLIGHT_DEFAULT: as long as it was granted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_renew(
    table: *const onceflight_table,
    lead: onceflight_lead,
    lease_ms: u64,
) -> i32 {
    if lease_ms == 0 {
        return Failure::invalid("a lease of 0 ms would be over at once").tell();
    }
    let lease = (lease_ms != ONCEFLIGHT_DEFAULT).then(|| duration(lease_ms));
    // SAFETY: the caller's table, for this call.
    unsafe { with_verbs(table, |verbs| verbs.renew(lead, lease)) }
}

/// Leaves bytes for a successor, in place of those before. The bytes are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_checkpoint(
    table: *const onceflight_table,
    lead: onceflight_lead,
    data: *const u8,
    len: usize,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let table = unsafe { given(table) }?;
        // SAFETY: the caller's bytes, for this call.
        let data = unsafe { few(table, data, len, "data") }?;
        table.verbs().checkpoint(lead, data)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// What a lead is; start from ONCEFLIGHT_LEAD_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_lead_info {
    /// sizeof(onceflight_lead_info).
    pub struct_size: usize,
    /// Grows with every leader of a key.
    pub fence: u64,
    /// 1 for the first leader of a flight.
    pub attempt: u32,
    /// What an earlier leader left; NULL: nothing; else to be freed.
    pub checkpoint: *mut onceflight_response,
}

// SAFETY: repr(C), struct_size first, integers and a raw pointer.
unsafe impl Versioned for onceflight_lead_info {
    const FIRST: usize = size_of::<Self>();
}

/// A live lead's fence, attempt and checkpoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_lead_details(
    table: *const onceflight_table,
    lead: onceflight_lead,
    info: *mut onceflight_lead_info,
) -> i32 {
    entry(|| {
        let mut told = onceflight_lead_info {
            struct_size: 0,
            fence: 0,
            attempt: 0,
            checkpoint: std::ptr::null_mut(),
        };
        // SAFETY: the caller's pointers, for this call.
        let table = unsafe {
            check_out(info, "info")?;
            write(info, &told);
            given(table)?
        };
        let details = table.details(lead)?;
        told.fence = details.fence;
        told.attempt = details.attempt;
        if let Some(data) = details.checkpoint {
            told.checkpoint = into_handle(Response::of(0, &data, &[]));
        }
        // SAFETY: accepted above.
        unsafe { write(info, &told) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// Drops a completed response; detaches a flight, whose followers still get its outcome while a new
/// begin starts afresh (over a store a flight is left as it is). ONCEFLIGHT_OK too if there was
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_forget(
    table: *const onceflight_table,
    key: *const u8,
    key_len: usize,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let table = unsafe { given(table) }?;
        // SAFETY: the caller's key, for this call.
        let key = unsafe { key_bytes(table.lengths(), key, key_len, "key") }?;
        table.verbs().forget(key)?;
        Ok(ONCEFLIGHT_OK)
    })
}
