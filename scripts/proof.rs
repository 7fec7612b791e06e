//! Faults planted on purpose: each sanitizer has to find its own before its silence means anything.

use std::hint::black_box;
use std::thread;

static mut SHARED: u64 = 0;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("race") => race(),
        Some("overflow") => overflow(),
        Some("leak") => leak(),
        _ => panic!("race, overflow or leak"),
    }
}

fn race() {
    let count = || {
        for _ in 0..10_000 {
            // SAFETY: none; that is the point.
            unsafe { SHARED = black_box(SHARED) + 1 };
        }
    };
    let other = thread::spawn(count);
    count();
    other.join().expect("it only counts");
}

fn overflow() {
    let bytes = black_box(vec![0_u8; 16]);
    // SAFETY: none; that is the point.
    black_box(unsafe { *bytes.as_ptr().add(black_box(16)) });
}

fn leak() {
    for _ in 0..100 {
        std::mem::forget(black_box(vec![1_u8; 64]));
    }
}
