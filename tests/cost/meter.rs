//! Counts allocations, and repeats work on keys that are the same in every run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

/// How often a workload is repeated for its figures. Under callgrind it runs once with as many rounds
/// and once with twice as many: what the second run has more is these rounds, and no start-up.
pub const ROUNDS: usize = 10_000;

/// Rounds before those that count: by then threads run, and tables have the size they keep.
const WARM_UP: usize = 2_000;

/// The system's allocator, counting what this thread asks for.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged. The cell is a constant without a
// destructor, so touching it allocates nothing and works at any time of a thread's life.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates in so many rounds. It is told the number of the round, which says which
/// of the [`keys`] is its own.
pub fn counted(rounds: usize, mut work: impl FnMut(usize)) -> usize {
    assert!(rounds <= 2 * ROUNDS, "there are keys for {} rounds", 2 * ROUNDS);
    (0..WARM_UP).for_each(&mut work);
    let before = COUNT.get();
    (WARM_UP..WARM_UP + rounds).for_each(work);
    COUNT.get() - before
}

/// One key a round, all different. Always as many, so that making them costs every run the same.
pub fn keys<const N: usize>() -> Vec<[u8; N]> {
    let mut state = 1_u64;
    let mut key = || {
        let mut key = [0; N];
        for eight in key.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            eight.copy_from_slice(&folded(state).to_le_bytes()[..eight.len()]);
        }
        key
    };
    (0..WARM_UP + 2 * ROUNDS).map(|_| key()).collect()
}

/// The default hasher. Its secret is another in each run, which moves the counts by an instruction or two.
pub type Default13 = onceflight::SipState;

/// About the least that a hasher can do: a multiplication for eight bytes.
pub type Fast = BuildHasherDefault<Fold>;

#[derive(Default)]
pub struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.write_u64(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        for &byte in words.remainder() {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = folded(self.0 ^ word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Both halves of a product, so that every bit of the word concerns every bit of the result.
#[allow(clippy::cast_possible_truncation)] // the half that is cut off is the other operand
fn folded(word: u64) -> u64 {
    let product = u128::from(word ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// A workload that costs one allocation and at least a hundred instructions: what counts nothing must
/// be caught at it.
pub fn planted(rounds: usize) -> usize {
    counted(rounds, |round| {
        let piece = black_box(Box::new(round));
        for _ in 0..100 {
            black_box(&piece);
        }
    })
}
