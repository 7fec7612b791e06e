//! The workloads of the C ABI.

use std::hint::black_box;
use std::ptr;

use onceflight::ffi::{
    ONCEFLIGHT_LEAD, ONCEFLIGHT_OK, ONCEFLIGHT_REPLAYED, onceflight_begin, onceflight_complete,
    onceflight_lead, onceflight_options_free, onceflight_options_new,
    onceflight_options_set_completed_ttl_ms, onceflight_response, onceflight_response_free,
    onceflight_table, onceflight_table_free, onceflight_table_new,
};

use crate::meter::{counted, keys};
use crate::{Workload, workload};

pub const WORKLOADS: &[Workload] = &[
    workload("c_cycle_16", cycle::<16>),
    workload("c_cycle_64", cycle::<64>),
    workload("c_replay_64", replay::<64>),
    workload("c_replay_64k", replay::<65_536>),
];

/// How many keys a replay goes round.
const HOT: usize = 64;

/// A table as a C program has it. Calls go through pointers that the compiler can't see through: it
/// must not build what is a library for C into this program's loops.
struct Table {
    handle: *mut onceflight_table,
    begin: unsafe extern "C" fn(
        *const onceflight_table,
        *const u8,
        usize,
        u64,
        *mut onceflight_lead,
        *mut *mut onceflight_response,
    ) -> i32,
    complete: unsafe extern "C" fn(
        *const onceflight_table,
        onceflight_lead,
        i32,
        *const u8,
        usize,
    ) -> i32,
    free_response: unsafe extern "C" fn(*mut onceflight_response),
}

impl Table {
    fn new(ttl_ms: u64) -> Self {
        let mut handle = ptr::null_mut();
        let options = onceflight_options_new();
        // SAFETY: the options are fresh, and freed once the table, whose place is a local, is made.
        unsafe {
            assert_eq!(ONCEFLIGHT_OK, onceflight_options_set_completed_ttl_ms(options, ttl_ms));
            assert_eq!(ONCEFLIGHT_OK, onceflight_table_new(options, &raw mut handle));
            onceflight_options_free(options);
        }
        Self {
            handle,
            begin: black_box(onceflight_begin),
            complete: black_box(onceflight_complete),
            free_response: black_box(onceflight_response_free),
        }
    }

    fn begin(&self, key: &[u8]) -> (i32, onceflight_lead, *mut onceflight_response) {
        let (mut lead, mut response) = (0, ptr::null_mut());
        let (begin, lead_at, response_at) = (self.begin, &raw mut lead, &raw mut response);
        // SAFETY: the table lives as long as `self`, and all else for the call.
        let code = unsafe { begin(self.handle, key.as_ptr(), key.len(), 0, lead_at, response_at) };
        (code, lead, response)
    }

    fn lead(&self, key: &[u8], response: &[u8]) {
        let (code, lead, _) = self.begin(key);
        assert_eq!(ONCEFLIGHT_LEAD, code);
        // SAFETY: the table lives as long as `self`, and the response for the call.
        let code =
            unsafe { (self.complete)(self.handle, lead, 200, response.as_ptr(), response.len()) };
        assert_eq!(ONCEFLIGHT_OK, code);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more.
        unsafe { onceflight_table_free(self.handle) };
    }
}

/// Begin, complete, gone.
fn cycle<const N: usize>(rounds: usize) -> usize {
    let table = Table::new(0);
    let keys = keys::<N>();
    counted(rounds, |round| table.lead(&keys[round], &[1; 8]))
}

/// A begin that finds its response, of `SIZE` bytes, in a small window, and frees its hold on it.
fn replay<const SIZE: usize>(rounds: usize) -> usize {
    let table = Table::new(3_600_000);
    let keys = keys::<16>();
    for key in &keys[..HOT] {
        table.lead(key, &[1; SIZE]);
    }
    counted(rounds, |round| {
        let (code, _, response) = table.begin(&keys[round % HOT]);
        assert_eq!(ONCEFLIGHT_REPLAYED, code);
        // SAFETY: the call above gave it, and it is freed once.
        unsafe { (table.free_response)(response) };
    })
}
