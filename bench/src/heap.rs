//! Counts what the process has of the heap, in the allocator's true blocks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// What malloc puts before each block.
const HEADER: i64 = 8;

static COUNTING: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator. While nothing is counted it costs one look at a flag.
pub struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc(layout) };
        note(block, 1);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc_zeroed(layout) };
        note(block, 1);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(block, -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(block, -1);
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(block, layout, size) };
        note(if moved.is_null() { block } else { moved }, 1);
        moved
    }
}

#[inline]
fn note(block: *mut u8, sign: i64) {
    if COUNTING.load(Ordering::Relaxed) && !block.is_null() {
        // SAFETY: it is a block of malloc's.
        let size = unsafe { libc::malloc_usable_size(block.cast()) } as i64 + HEADER;
        BYTES.fetch_add(sign * size, Ordering::Relaxed);
        CALLS.fetch_add(u64::from(sign > 0), Ordering::Relaxed);
    }
}

/// Starts at nothing.
pub fn count() {
    BYTES.store(0, Ordering::Relaxed);
    CALLS.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
}

/// Bytes that were taken and not given back, and allocations made, since `count`.
pub fn counted() -> (i64, u64) {
    (BYTES.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed))
}

pub fn stop() {
    COUNTING.store(false, Ordering::Relaxed);
}

/// Takes a block of the benchmark's own out of the count.
pub fn not_counted(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        BYTES.fetch_sub(bytes as i64, Ordering::Relaxed);
    }
}
