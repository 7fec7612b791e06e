//! onceflight: the table as Rust programs have it, and through the C ABI as C programs do.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::ptr;
use std::time::Duration;

use onceflight::ffi::{
    ONCEFLIGHT_FOREVER, ONCEFLIGHT_LEAD, ONCEFLIGHT_OK, onceflight_begin, onceflight_complete,
    onceflight_complete_for, onceflight_lead, onceflight_options_free, onceflight_options_new,
    onceflight_options_set_completed_ttl_ms, onceflight_options_set_max_completed,
    onceflight_options_set_max_completed_bytes, onceflight_options_set_max_in_flight,
    onceflight_response, onceflight_response_data, onceflight_response_free,
    onceflight_response_len, onceflight_stats, onceflight_table, onceflight_table_free,
    onceflight_table_new, onceflight_table_stats,
};
use onceflight::{Begin, Builder, DedupTable};

use crate::contestant::{Contestant, Entry, Keep, Value};
use crate::keys::Key;

/// Above what any workload holds, so that nothing is evicted or refused.
const ROOM: usize = 1 << 24;

pub struct Typed<K: Key, S> {
    table: DedupTable<K, Value, S>,
}

impl<K: Key> Typed<K, onceflight::SipState> {
    pub fn new(keep: Keep) -> Self {
        Self { table: builder(keep).build() }
    }
}

impl<K: Key> Typed<K, foldhash::fast::RandomState> {
    pub fn fold(keep: Keep) -> Self {
        Self { table: builder(keep).hasher(foldhash::fast::RandomState::default()).build() }
    }
}

fn builder<K: Key>(keep: Keep) -> Builder<K, Value> {
    DedupTable::builder()
        .completed_ttl(ttl(keep))
        .max_in_flight(ROOM)
        .max_completed(ROOM)
        .max_bytes(usize::MAX)
}

fn ttl(keep: Keep) -> Duration {
    match keep {
        Keep::Nothing => Duration::ZERO,
        Keep::For(ttl) => ttl,
        Keep::Always => panic!("every response of onceflight has a ttl"),
    }
}

impl<K: Key, S: BuildHasher + Sync> Typed<K, S> {
    fn begin(&self, key: &K) -> Begin<'_, K, Value> {
        self.table.begin(key).expect("begin")
    }

    /// Keeps a response for a ttl of its own.
    pub fn keep_for(&self, key: &K, value: Value, ttl: Duration) {
        match self.begin(key) {
            Begin::Lead(lead) => lead.complete_for(value, ttl).expect("complete_for"),
            _ => panic!("the key is held already"),
        }
    }
}

impl<K: Key, S: BuildHasher + Sync> Contestant<K> for Typed<K, S> {
    type Got = Value;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        match self.begin(key) {
            Begin::Lead(lead) => {
                lead.complete(Value::clone(work())).expect("complete");
                None
            }
            Begin::Shared(value) | Begin::Replayed(value) => Some(value),
            Begin::Bypass => unreachable!("nobody declines"),
        }
    }

    #[inline]
    fn pass<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        match self.begin(key) {
            Begin::Lead(lead) => {
                lead.complete_for(Value::clone(work()), Duration::ZERO).expect("complete_for");
                None
            }
            Begin::Shared(value) | Begin::Replayed(value) => Some(value),
            Begin::Bypass => unreachable!("nobody declines"),
        }
    }

    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool {
        let mut leads = Vec::with_capacity(keys.len());
        crate::heap::not_counted(leads.capacity() * size_of::<onceflight::Lead<'_, K, Value>>());
        for key in keys {
            match self.begin(key) {
                Begin::Lead(lead) => leads.push(lead),
                _ => panic!("the key is in flight already"),
            }
        }
        look();
        for lead in leads {
            lead.cancel().expect("cancel");
        }
        true
    }

    fn held(&self) -> Option<usize> {
        Some(self.table.stats().completed as usize)
    }
}

/// The entries of the ABI, found once, so that no call is inlined: C goes through the linkage table.
struct Calls {
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
    complete_for: unsafe extern "C" fn(
        *const onceflight_table,
        onceflight_lead,
        i32,
        *const u8,
        usize,
        u64,
    ) -> i32,
    data: unsafe extern "C" fn(*const onceflight_response) -> *const u8,
    len: unsafe extern "C" fn(*const onceflight_response) -> usize,
    free: unsafe extern "C" fn(*mut onceflight_response),
}

pub struct FromC {
    table: *mut onceflight_table,
    calls: Calls,
}

// SAFETY: the header says that a table may be used from any thread.
unsafe impl Sync for FromC {}

/// One hold on a response, freed as a C program would.
pub struct Handle {
    response: *mut onceflight_response,
    calls: *const Calls,
}

impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the hold is this handle's, and the calls outlive it: no loop frees its contestant.
        unsafe {
            let calls = &*self.calls;
            std::slice::from_raw_parts((calls.data)(self.response), (calls.len)(self.response))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: as above, and it is freed once.
        unsafe { ((*self.calls).free)(self.response) }
    }
}

impl FromC {
    pub fn new(keep: Keep) -> Self {
        let mut table = ptr::null_mut();
        // SAFETY: the options are made, used and freed here, and the table is ours.
        unsafe {
            let options = onceflight_options_new();
            let ttl = u64::try_from(ttl(keep).as_millis()).expect("a ttl in ms");
            let room = ROOM as u64;
            for code in [
                onceflight_options_set_completed_ttl_ms(options, ttl),
                onceflight_options_set_max_in_flight(options, room),
                onceflight_options_set_max_completed(options, room),
                onceflight_options_set_max_completed_bytes(options, room << 8),
                onceflight_table_new(options, &raw mut table),
            ] {
                assert_eq!(code, ONCEFLIGHT_OK);
            }
            onceflight_options_free(options);
        }
        let calls = Calls {
            begin: black_box(onceflight_begin),
            complete: black_box(onceflight_complete),
            complete_for: black_box(onceflight_complete_for),
            data: black_box(onceflight_response_data),
            len: black_box(onceflight_response_len),
            free: black_box(onceflight_response_free),
        };
        Self { table, calls }
    }

    #[inline]
    fn begin<K: Key>(&self, key: &K) -> Result<onceflight_lead, Handle> {
        let key = key.bytes();
        let mut lead = 0;
        let mut response = ptr::null_mut();
        // SAFETY: the table lives as long as `self`; the rest are locals and the caller's key.
        let code = unsafe {
            (self.calls.begin)(
                self.table,
                key.as_ptr(),
                key.len(),
                ONCEFLIGHT_FOREVER,
                &raw mut lead,
                &raw mut response,
            )
        };
        if code == ONCEFLIGHT_LEAD {
            return Ok(lead);
        }
        assert!(!response.is_null(), "begin: {code}");
        Err(Handle { response, calls: &raw const self.calls })
    }

    /// Keeps a response for a ttl of its own.
    pub fn keep_for<K: Key>(&self, key: &K, value: &[u8], ttl: Duration) {
        let Ok(lead) = self.begin(key) else { panic!("the key is held already") };
        let ttl = ttl.as_millis() as u64;
        // SAFETY: as in `begin`; the bytes are the caller's.
        let code = unsafe {
            (self.calls.complete_for)(self.table, lead, 200, value.as_ptr(), value.len(), ttl)
        };
        assert_eq!(code, ONCEFLIGHT_OK);
    }
}

impl Drop for FromC {
    fn drop(&mut self) {
        // SAFETY: it was made in `new`, and nobody uses it any more.
        unsafe { onceflight_table_free(self.table) }
    }
}

impl<K: Key> Contestant<K> for FromC {
    type Got = Handle;

    #[inline]
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Handle> {
        match self.begin(key) {
            Ok(lead) => {
                let value = work();
                // SAFETY: as in `begin`.
                let code = unsafe {
                    (self.calls.complete)(self.table, lead, 200, value.as_ptr(), value.len())
                };
                assert_eq!(code, ONCEFLIGHT_OK);
                None
            }
            Err(handle) => Some(handle),
        }
    }

    #[inline]
    fn pass<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Handle> {
        match self.begin(key) {
            Ok(lead) => {
                let value = work();
                // SAFETY: as in `begin`.
                let code = unsafe {
                    (self.calls.complete_for)(self.table, lead, 200, value.as_ptr(), value.len(), 0)
                };
                assert_eq!(code, ONCEFLIGHT_OK);
                None
            }
            Err(handle) => Some(handle),
        }
    }

    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool {
        let mut leads = Vec::with_capacity(keys.len());
        crate::heap::not_counted(leads.capacity() * size_of::<onceflight_lead>());
        leads.extend(keys.iter().map(|key| match self.begin(key) {
            Ok(lead) => lead,
            Err(_) => panic!("the key is in flight already"),
        }));
        look();
        for lead in leads {
            // SAFETY: as in `begin`.
            let code = unsafe { (self.calls.complete)(self.table, lead, 200, ptr::null(), 0) };
            assert_eq!(code, ONCEFLIGHT_OK);
        }
        true
    }

    fn held(&self) -> Option<usize> {
        // SAFETY: all zeros is a valid value; the size says what the call may fill.
        let stats = unsafe {
            let mut stats: onceflight_stats = std::mem::zeroed();
            stats.struct_size = size_of::<onceflight_stats>();
            assert_eq!(onceflight_table_stats(self.table, &raw mut stats), ONCEFLIGHT_OK);
            stats
        };
        Some(stats.completed as usize)
    }
}

/// Ours, by the names they have in all tables.
pub fn entries<K: Key>(keep: Keep) -> Vec<Entry<K>> {
    vec![
        Entry::new("onceflight", move || Typed::new(keep)),
        Entry::new("onceflight fold", move || Typed::fold(keep)),
        Entry::new("onceflight C", move || FromC::new(keep)),
    ]
}
