//! Threads, each with a client of its own, that do one thing again and again, each time timed.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::Client;
use crate::machine::Watch;
use crate::rounds::Taken;

struct Stint {
    start: Instant,
    end: Instant,
    /// ns each.
    laps: Vec<u64>,
}

/// The figures are laps a second of all threads together, and the 50th and 99th percentile of one in
/// µs. Threads aren't tied to cores: the server needs one too, and the scheduler knows when.
pub fn measure(
    clients: &mut [Box<dyn Client>],
    time: Duration,
    lap: impl Fn(&mut dyn Client) + Sync,
) -> Taken {
    let foreign = others();
    let gate = Barrier::new(clients.len());
    let work = |client: &mut dyn Client| {
        let warm = Instant::now();
        while warm.elapsed() < time / 10 {
            lap(client);
        }
        gate.wait();
        let start = Instant::now();
        let (mut end, mut laps) = (start, Vec::new());
        while end - start < time {
            let begun = end;
            lap(client);
            end = Instant::now();
            laps.push((end - begun).as_nanos() as u64);
        }
        Stint { start, end, laps }
    };
    let stints: Vec<Stint> = thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || work(&mut **client))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect()
    });
    let start = stints.iter().map(|stint| stint.start).min().expect("a worker");
    let end = stints.iter().map(|stint| stint.end).max().expect("a worker");
    let mut laps: Vec<u64> = stints.into_iter().flat_map(|stint| stint.laps).collect();
    laps.sort_unstable();
    let us = |share| percentile(&laps, share) as f64 / 1e3;
    let rate = laps.len() as f64 / (end - start).as_secs_f64();
    Taken { figures: vec![rate, us(0.5), us(0.99)], foreign }
}

/// What others do while nobody here asks for anything: a server's time can't be told from theirs once
/// it has work.
fn others() -> f64 {
    let watch = Watch::start();
    thread::sleep(Duration::from_millis(100));
    watch.foreign()
}

/// Of sorted values, the one that this share of them doesn't exceed.
pub fn percentile<T: Copy>(sorted: &[T], share: f64) -> T {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}
