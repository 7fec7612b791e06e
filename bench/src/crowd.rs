//! Threads, each on a core, that do the same work for a while.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{self, Watch};
use crate::rounds::Taken;

/// What a thread that is put off its core loses by it, roughly: a slice of the scheduler's.
const SLICE: f64 = 0.003;

struct Stint {
    start: Instant,
    end: Instant,
    requests: u64,
    on_core: Duration,
    put_off: u64,
}

impl Stint {
    /// The share of its time that went to others. A thread alone has nobody of its own to wait for,
    /// so that is all the time it wasn't on its core; else it may have been blocked by the others,
    /// and has lost no more than it was put off its core for.
    fn foreign(&self, alone: bool) -> f64 {
        let span = (self.end - self.start).as_secs_f64();
        let off = 1.0 - self.on_core.as_secs_f64() / span;
        if alone { off } else { off.min(self.put_off as f64 * SLICE / span) }
    }
}

/// Runs `batch` on `threads` threads for `time`, after a tenth of it to warm up. A batch gets the
/// thread's number and its own, and answers how many requests it made. The figure is ns a request
/// as a thread sees it.
pub fn measure(threads: usize, time: Duration, batch: impl Fn(usize, u64) -> u64 + Sync) -> Taken {
    let cores = machine::cores();
    let gate = Barrier::new(threads);
    let stop = AtomicBool::new(false);
    let watch = Watch::start();
    let work = |thread: usize| {
        machine::pin(cores[thread % cores.len()]);
        let mut number = 0;
        let mut next = || {
            number += 1;
            batch(thread, number)
        };
        let warm = Instant::now();
        while warm.elapsed() < time / 10 {
            next();
        }
        gate.wait();
        let (_, put_off) = machine::switches();
        let on_core = machine::time(libc::CLOCK_THREAD_CPUTIME_ID);
        let start = Instant::now();
        let mut requests = 0;
        let end = loop {
            requests += next();
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) || now - start >= time {
                break now;
            }
        };
        stop.store(true, Ordering::Relaxed);
        Stint {
            start,
            end,
            requests,
            on_core: machine::time(libc::CLOCK_THREAD_CPUTIME_ID) - on_core,
            put_off: machine::switches().1 - put_off,
        }
    };
    let stints: Vec<Stint> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|n| {
                scope.spawn({
                    let work = &work;
                    move || work(n)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect()
    });
    let start = stints.iter().map(|stint| stint.start).min().expect("a worker");
    let end = stints.iter().map(|stint| stint.end).max().expect("a worker");
    let span = (end - start).as_secs_f64();
    let requests: u64 = stints.iter().map(|stint| stint.requests).sum();
    let foreign = if threads <= cores.len() {
        stints.iter().map(|stint| stint.foreign(threads == 1)).fold(0.0, f64::max)
    } else {
        watch.foreign()
    };
    Taken { figures: vec![span * 1e9 * threads as f64 / requests as f64], foreign }
}
