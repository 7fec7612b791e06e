//! Tables: begin, and what a lead can do.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use super::code::{
    Failure, ONCEFLIGHT_BYPASS, ONCEFLIGHT_E_TOO_LARGE, ONCEFLIGHT_E_UNSUPPORTED, ONCEFLIGHT_LEAD,
    ONCEFLIGHT_OK, ONCEFLIGHT_REPLAYED, ONCEFLIGHT_SHARED, entry,
};
use super::key::{bytes, text};
use super::options::{Lengths, ONCEFLIGHT_DEFAULT, duration, onceflight_options};
use super::request::{
    self, Parsed, Versioned, check_out, key_bytes, onceflight_request, parse, write,
};
use super::response::{into_handle, onceflight_response};
use crate::clock::{self, NEVER};
use crate::error::Error;
use crate::hash::SipState;
use crate::table::internal::{
    Arrived, AtOnce, Bytes, Config, Follow, Given, Granted, Inner, LeadRef, Reply, Response, Step,
    Waiter, Waker,
};

/// A table of keys and responses. All functions on it may be called from any thread, but for
/// onceflight_table_free, which must come after every call that isn't blocked already. After a fork
/// the child's copy says ONCEFLIGHT_E_FORKED.
pub struct onceflight_table(Core);

/// Names a lead. Never 0; a stale one is refused.
pub type onceflight_lead = u64;

pub(super) type Verbs = Inner<Bytes>;

pub(super) struct Core {
    inner: Arc<Verbs>,
    pub lengths: Lengths,
    /// Keys from outside may be chosen to collide, so the hash has a secret of its own.
    hasher: SipState,
}

impl Core {
    fn new(config: Config, lengths: Lengths) -> Self {
        Self { inner: Inner::new(Bytes, config), lengths, hasher: SipState::new() }
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn verbs(&self) -> &Arc<Verbs> {
        &self.inner
    }

    #[inline(always)]
    fn given<'a>(&self, key: &'a [u8]) -> Given<'a> {
        Given { key, hash: self.hasher.hash_bytes(key) }
    }

    /// Leads, replays, or takes a place in line.
    pub fn step(
        &self,
        parsed: &Parsed<'_>,
        follow: Follow,
        waker: Option<Arc<dyn Waker>>,
    ) -> Result<Next, Failure> {
        let deadline = match follow {
            Follow::Later => clock::after(clock::span(parsed.timeout)),
            Follow::No | Follow::Blocking => NEVER,
        };
        let ask = parsed.ask(follow, deadline);
        let given = self.given(parsed.key);
        Ok(match self.verbs().begin(&given, &ask, waker.as_ref())? {
            Step::Lead(granted) => Next::Have(Arrived::Lead(granted)),
            Step::Replay(response) => Next::Have(Arrived::Replayed(response)),
            Step::Follow(room, seat) => {
                let verbs = Arc::clone(self.verbs());
                Next::Wait(Waiter::new(verbs, given.hash, &ask, waker, (room, seat)))
            }
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.inner.abolish();
    }
}

pub(super) enum Next {
    Have(Arrived<Response>),
    Wait(Waiter<Bytes>),
}

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
pub(super) unsafe fn core<'a>(table: *const onceflight_table) -> Result<&'a Core, Failure> {
    // SAFETY: the caller's promise.
    unsafe { table.as_ref() }.map(|table| &table.0).ok_or_else(|| Failure::null("table"))
}

/// A table in memory. options: NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_new(
    options: *const onceflight_options,
    table: *mut *mut onceflight_table,
) -> i32 {
    entry(|| {
        if table.is_null() {
            return Err(Failure::null("table"));
        }
        // SAFETY: not NULL, and the caller's to write.
        unsafe { table.write(std::ptr::null_mut()) };
        // SAFETY: NULL, or options that the caller hasn't freed and doesn't change meanwhile.
        let options = unsafe { options.as_ref() }.cloned().unwrap_or_default();
        let core = Core::new(options.config(), options.lengths());
        // SAFETY: as above.
        unsafe { table.write(Box::into_raw(Box::new(onceflight_table(core)))) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// A table by URL. "memory:" is a table in memory; the stores' URLs are
/// ONCEFLIGHT_E_UNSUPPORTED in this build. options: NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_open(
    url: *const c_char,
    options: *const onceflight_options,
    table: *mut *mut onceflight_table,
) -> i32 {
    let checked = entry(|| {
        if table.is_null() {
            return Err(Failure::null("table"));
        }
        // SAFETY: not NULL, and the caller's to write; the URL ends with a NUL.
        let url = unsafe {
            table.write(std::ptr::null_mut());
            text(url, "url")?
        };
        let url = url.to_str().map_err(|_| Failure::invalid("the URL is not UTF-8"))?;
        let stores = [
            "sqlite:",
            "postgres:",
            "postgresql:",
            "redis:",
            "rediss:",
            "redis-cluster:",
            "memcached:",
        ];
        if url == "memory:" {
            Ok(ONCEFLIGHT_OK)
        } else if let Some(store) = stores.iter().find(|store| url.starts_with(**store)) {
            Err(Failure::new(
                ONCEFLIGHT_E_UNSUPPORTED,
                format!("this build has no store for {store}"),
            ))
        } else {
            Err(Failure::invalid(
                "the URL is none of memory:, sqlite:PATH, postgres://, redis://, redis-cluster://, memcached://",
            ))
        }
    });
    if checked != ONCEFLIGHT_OK {
        return checked;
    }
    // SAFETY: the caller's pointers, under the same contract.
    unsafe { onceflight_table_new(options, table) }
}

/// Refuses new begins and wakes every waiter, pending events included, with ONCEFLIGHT_E_CLOSED.
/// Leads still settle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_table_close(table: *const onceflight_table) -> i32 {
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let core = unsafe { core(table) }?;
        core.verbs().check_fork()?;
        core.verbs().close();
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
    let given = !table.is_null() && (key_len == 0 || !key.is_null());
    if given && !lead.is_null() && !response.is_null() {
        // The usual case has no shell: there is nothing in it that could fail or unwind.
        // SAFETY: none is NULL; the caller's table, key and out-parameters, for this call.
        unsafe {
            let core = &(*table).0;
            if key_len <= core.lengths.key {
                let key = if key_len == 0 { &[] } else { std::slice::from_raw_parts(key, key_len) };
                let (given, usual) = (core.given(key), &core.inner.usual);
                match core.inner.begin_at_once(&given, usual, None, None, Response::clone) {
                    AtOnce::Lead(id) => {
                        lead.write(id);
                        response.write(std::ptr::null_mut());
                        return ONCEFLIGHT_LEAD;
                    }
                    AtOnce::Replay(held) => {
                        lead.write(0);
                        response.write(into_handle(held));
                        return ONCEFLIGHT_REPLAYED;
                    }
                    AtOnce::Vacant | AtOnce::No => {}
                }
            }
        }
    }
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
        // SAFETY: the table isn't freed before this call blocks, and `start` is done with it then.
        let (next, timeout) = unsafe { start(table, request) }?;
        match next {
            Next::Have(arrived) => Ok(outs.put(arrived)),
            Next::Wait(mut waiter) => {
                // From here on the table may be freed: the waiter has what it needs.
                Ok(outs.put(waiter.wait(clock::after(clock::span(timeout)), true)?))
            }
        }
    })
}

/// The part of a begin that may look at the table.
///
/// # Safety
/// As for `core` and `parse`.
unsafe fn start(
    table: *const onceflight_table,
    request: *const onceflight_request,
) -> Result<(Next, Duration), Failure> {
    // SAFETY: the caller's promise.
    let core = unsafe { core(table) }?;
    core.verbs().check_fork()?;
    // SAFETY: the caller's promise.
    let parsed = unsafe { parse(request, core) }?;
    let follow = if parsed.timeout.is_zero() { Follow::No } else { Follow::Blocking };
    Ok((core.step(&parsed, follow, None)?, parsed.timeout))
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
    if !table.is_null() && (len == 0 || !data.is_null()) {
        // As in onceflight_begin.
        // SAFETY: not NULL, and the caller's table, for this call.
        let core = unsafe { &(*table).0 };
        if len <= core.lengths.response
            && core.inner.complete_at_once::<Reply<'_>>(LeadRef::named(lead), None)
        {
            return ONCEFLIGHT_OK;
        }
    }
    // SAFETY: the same contract.
    unsafe { onceflight_complete_for(table, lead, status, data, len, ONCEFLIGHT_DEFAULT) }
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
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let core = unsafe { core(table) }?;
        // SAFETY: the caller's bytes, for this call.
        let data = unsafe { few(core, data, len, "data") }?;
        let ttl = (ttl_ms != ONCEFLIGHT_DEFAULT).then(|| clock::span(duration(ttl_ms)));
        let (lead, reply) = (LeadRef::named(lead), Reply::new(status, data));
        core.verbs().complete_in_full(lead, reply, ttl).map_err(|(error, _)| error)?;
        Ok(ONCEFLIGHT_OK)
    })
}

/// The caller's bytes, if they are not too many.
///
/// # Safety
/// As for `bytes`.
unsafe fn few<'a>(
    core: &Core,
    data: *const u8,
    len: usize,
    what: &'static str,
) -> Result<&'a [u8], Failure> {
    if len > core.lengths.response {
        return Err(Failure::new(
            ONCEFLIGHT_E_TOO_LARGE,
            format!("{len} bytes; max_response_len is {}", core.lengths.response),
        ));
    }
    // SAFETY: the caller's promise.
    unsafe { bytes(data, len, what) }
}

/// One call that settles a lead or changes its terms.
///
/// # Safety
/// As for `core`.
unsafe fn with_lead(
    table: *const onceflight_table,
    lead: onceflight_lead,
    call: impl FnOnce(&Verbs, LeadRef) -> Result<(), Error>,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's promise.
        let core = unsafe { core(table) }?;
        call(core.verbs(), LeadRef::named(lead))?;
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
    unsafe { with_lead(table, lead, Verbs::cancel) }
}

/// Settles: it may have happened. The first follower in line, or the next begin, leads; or the
/// outcome is unknown, by option.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_abandon(
    table: *const onceflight_table,
    lead: onceflight_lead,
) -> i32 {
    // SAFETY: the caller's table, for this call.
    unsafe { with_lead(table, lead, Verbs::abandon) }
}

/// Settles: not to be shared. All followers get BYPASS at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_decline(
    table: *const onceflight_table,
    lead: onceflight_lead,
) -> i32 {
    // SAFETY: the caller's table, for this call.
    unsafe { with_lead(table, lead, Verbs::decline) }
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
    // SAFETY: the caller's table, for this call.
    unsafe {
        with_lead(table, lead, |verbs, lead| {
            let lease = (lease_ms != ONCEFLIGHT_DEFAULT).then(|| duration(lease_ms));
            verbs.renew(lead, lease.map(|lease| verbs.config.lease_of(lease)))
        })
    }
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
        let core = unsafe { core(table) }?;
        // SAFETY: the caller's bytes, for this call.
        let data = unsafe { few(core, data, len, "data") }?;
        core.verbs().set_checkpoint(LeadRef::named(lead), data)?;
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
        let core = unsafe {
            check_out(info, "info")?;
            write(info, &told);
            core(table)?
        };
        let details = core.verbs().details(LeadRef::named(lead))?;
        told.fence = lead;
        told.attempt = details.attempt;
        if let Some(data) = details.checkpoint {
            told.checkpoint = into_handle(Response::of(0, &data));
        }
        // SAFETY: accepted above.
        unsafe { write(info, &told) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// Drops a completed response; detaches a flight, whose followers still get its outcome while a new
/// begin starts afresh. ONCEFLIGHT_OK too if there was nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_forget(
    table: *const onceflight_table,
    key: *const u8,
    key_len: usize,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's table, for this call.
        let core = unsafe { core(table) }?;
        // SAFETY: the caller's key, for this call.
        let key = unsafe { key_bytes(core, key, key_len, "key") }?;
        core.verbs().forget(&core.given(key))?;
        Ok(ONCEFLIGHT_OK)
    })
}
