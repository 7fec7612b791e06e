//! Which thread is this: a small number, for what each thread has of its own in a table.
//!
//! No two threads that live have the same number, and the numbers of threads that ended are given
//! out again, the lowest first: they index arrays that are as long as there were ever threads at
//! once. A thread that ends hands its number on through a lock, so whoever gets it sees what its
//! predecessor did.
//!
//! The child of a fork counts anew: its one thread keeps no number of the parent.

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::fork;

struct Numbers {
    free: BTreeSet<u32>,
    next: u32,
}

impl Numbers {
    const NONE_YET: Self = Self { free: BTreeSet::new(), next: 0 };

    fn give(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

#[cfg(not(onceflight_shuttle))]
fn numbers<T>(with: impl FnOnce(&mut Numbers) -> T) -> T {
    use crate::sync::{StaticMutex, static_mutex};
    static NUMBERS: StaticMutex<Numbers> = static_mutex!(Numbers::NONE_YET);
    with(&mut NUMBERS.lock())
}

/// One book for each model: all its threads run on the OS thread that checks it.
#[cfg(onceflight_shuttle)]
fn numbers<T>(with: impl FnOnce(&mut Numbers) -> T) -> T {
    std::thread_local! {
        static NUMBERS: std::cell::RefCell<Numbers> =
            const { std::cell::RefCell::new(Numbers::NONE_YET) };
    }
    NUMBERS.with_borrow_mut(with)
}

/// No number: it has none yet.
const NONE: u64 = u64::MAX;
/// It had one: its destructors run, and no number may be taken that nobody would give back.
const ENDED: u64 = u64::MAX - 1;

crate::sync::thread_local! {
    /// Generation of forks and number; without a destructor, so that it can always be read.
    static NUMBER: Cell<u64> = const { Cell::new(NONE) };
}

crate::sync::thread_local! {
    static RETURN: Return = const { Return(Cell::new(NONE)) };
}

/// Gives the number back as the thread ends.
struct Return(Cell<u64>);

impl Drop for Return {
    fn drop(&mut self) {
        let _ = NUMBER.try_with(|own| own.set(ENDED));
        let (generation, number) = split(self.0.get());
        if generation == fork::generation() {
            numbers(|numbers| numbers.free.insert(number));
        }
    }
}

/// This thread's number; `None` while it ends.
#[inline]
pub(crate) fn number() -> Option<usize> {
    let own = NUMBER.try_with(Cell::get).unwrap_or(ENDED);
    let (generation, number) = split(own);
    if generation == fork::generation() { Some(number as usize) } else { take(own) }
}

/// This thread's number above that of the first thread of its generation of forks, which is
/// [`base`]: another generation's, or none, is a large number.
#[inline(always)]
pub(crate) fn above(base: u64) -> u64 {
    NUMBER.try_with(Cell::get).unwrap_or(ENDED).wrapping_sub(base)
}

/// Where the numbers of a generation of forks begin.
pub(crate) fn base(generation: u64) -> u64 {
    generation << 32
}

#[allow(clippy::cast_possible_truncation)] // the low half
fn split(own: u64) -> (u64, u32) {
    (own >> 32, own as u32)
}

#[cold]
fn take(own: u64) -> Option<usize> {
    // Asking for the destructor first: where that is refused, the thread is ending.
    if own == ENDED || RETURN.try_with(|_| ()).is_err() {
        return None;
    }
    let number = numbers(Numbers::give);
    let own = base(fork::generation()) | u64::from(number);
    RETURN.with(|last| last.0.set(own));
    NUMBER.with(|mine| mine.set(own));
    Some(number as usize)
}

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use super::number;
    use std::sync::Barrier;
    use std::thread::scope;

    #[test]
    fn living_threads_have_numbers_of_their_own() {
        const THREADS: usize = 20;
        let together = Barrier::new(THREADS);
        let mut numbers: Vec<_> = scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let mine = number().unwrap();
                        together.wait();
                        assert_eq!(number(), Some(mine));
                        mine
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), THREADS);
    }

    #[test]
    fn a_thread_that_ends_has_none() {
        struct AtTheEnd(std::sync::mpsc::Sender<Option<usize>>);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                let _ = self.0.send(number());
            }
        }
        std::thread_local! {
            static LATE: std::cell::OnceCell<AtTheEnd> = const { std::cell::OnceCell::new() };
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(|| {
            // The last one used is destroyed first: the number's, and then this one.
            LATE.with(|late| late.set(AtTheEnd(sender)).is_ok());
            number().unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(receiver.recv().unwrap(), None);
    }
}
