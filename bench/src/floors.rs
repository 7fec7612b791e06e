//! The floors: what is left of the work if only what nobody can do without is done.

use std::hint::black_box;
use std::iter;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::contestant::{Contestant, Value, response};
use crate::keys::{Key, Short, number};

/// One word that all wait on and one wake of all: what the kernel asks for it. One flight only.
pub struct Futex {
    word: AtomicU32,
    value: OnceLock<Value>,
}

const VACANT: u32 = 0;
const FLYING: u32 = 1;
const LANDED: u32 = 2;

impl Futex {
    pub fn new() -> Self {
        Self { word: AtomicU32::new(VACANT), value: OnceLock::new() }
    }
}

impl<K: Key> Contestant<K> for Futex {
    type Got = Value;

    fn run<'w>(&self, _: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        use Ordering::{Acquire, Relaxed, Release};
        if self.word.compare_exchange(VACANT, FLYING, Acquire, Relaxed).is_ok() {
            let _ = self.value.set(Value::clone(work()));
            self.word.store(LANDED, Release);
            wake(&self.word);
            return None;
        }
        while self.word.load(Acquire) == FLYING {
            wait(&self.word, FLYING);
        }
        self.value.get().cloned()
    }
}

/// A futex word for each key, in an array that only a benchmark can have: it knows its keys. Of a flight
/// nothing is kept and nothing handed over, for all responses are alike.
///
/// | the low bits | the key is |
/// |-|-|
/// | `VACANT` | nobody's |
/// | `FLYING` | in flight |
/// | `AWAITED` | in flight, and somebody sleeps |
///
/// The others count its flights.
pub struct Words {
    words: Vec<AtomicU32>,
    /// How often a follower lets others go first before it sleeps.
    turns: usize,
    value: Value,
}

const AWAITED: u32 = 2;
const NEXT: u32 = 4;

impl Words {
    pub fn new(keys: usize, turns: usize) -> Self {
        let words = iter::repeat_with(|| AtomicU32::new(VACANT)).take(keys).collect();
        Self { words, turns, value: response() }
    }

    /// Returns once the flight that was `seen` is over.
    fn follow(&self, word: &AtomicU32, seen: u32) {
        let flight = seen / NEXT;
        let over = || word.load(Ordering::Acquire) / NEXT != flight;
        for _ in 0..self.turns {
            thread::yield_now();
            if over() {
                return;
            }
        }
        let awaited = flight * NEXT + AWAITED;
        let flying = flight * NEXT + FLYING;
        let _ = word.compare_exchange(flying, awaited, Ordering::Relaxed, Ordering::Relaxed);
        while !over() {
            wait(word, awaited);
        }
    }
}

impl Contestant<Short> for Words {
    type Got = Value;

    fn run<'w>(&self, key: &Short, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        let word = &self.words[number(key) as usize];
        let mut seen = word.load(Ordering::Acquire);
        while seen % NEXT == VACANT {
            match word.compare_exchange(seen, seen + FLYING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    black_box(work());
                    if word.swap(seen + NEXT, Ordering::Release) % NEXT == AWAITED {
                        wake(word);
                    }
                    return None;
                }
                Err(other) => seen = other,
            }
        }
        self.follow(word, seen);
        Some(Value::clone(&self.value))
    }
}

/// Everybody does their own work.
pub struct NoDedup;

impl<K: Key> Contestant<K> for NoDedup {
    type Got = Value;

    fn run<'w>(&self, _: &K, work: impl FnOnce() -> &'w Value) -> Option<Value> {
        black_box(work());
        None
    }
}

fn wait(word: &AtomicU32, while_it_is: u32) {
    futex(word, libc::FUTEX_WAIT, while_it_is);
}

fn wake(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, i32::MAX as u32);
}

fn futex(word: &AtomicU32, operation: i32, argument: u32) {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    let no_deadline = ptr::null::<libc::timespec>();
    // SAFETY: the word is borrowed for as long as the call takes; the kernel checks the rest.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, argument, no_deadline) };
}
