//! Many workers, killed one after the other, and each succeeded by a new one.
//!
//! Every second one dies by its own hand, at one of the points that the test names, in turn; the others
//! are killed from outside, at any time. `ONCEFLIGHT_KILLS` says how many die.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::harness::{Place, Random, amount};
use crate::worker::{self, Fate, Worker};

const WORKERS: usize = 4;
const WINDOW: u64 = 8;

/// What a worker is told: it goes through the keys from `from` on, and says how far it has come.
#[derive(Serialize, Deserialize)]
pub struct Task<P> {
    pub seed: u64,
    pub from: u64,
    /// Where it dies, at the so-manieth time. `None`: it is killed.
    pub dies: Option<(P, u64)>,
}

impl<P: Copy + PartialEq> Task<P> {
    pub fn fate(&self) -> Fate<P> {
        self.dies.map_or(Fate::none(), |(point, times)| Fate::new(point, times))
    }

    /// Visits keys until death, eight at a time and in any order, each until `visit` says that it is done.
    pub fn go_through_keys(
        &self,
        random: &mut Random,
        mut visit: impl FnMut(u64, &mut Random) -> bool,
    ) -> ! {
        let mut window = self.from..self.from + WINDOW;
        loop {
            let mut keys: Vec<u64> = window.clone().collect();
            while !keys.is_empty() {
                let key = *random.of(&keys);
                if visit(key, random) {
                    keys.retain(|other| *other != key);
                }
            }
            window = window.end..window.end + WINDOW;
            worker::say(window.start);
        }
    }
}

/// Answers how many were killed.
pub fn kill_many<P: Copy + Serialize + Sync>(place: &Place, seed: u64, points: &[P]) -> usize {
    let kills = amount("ONCEFLIGHT_KILLS", 150);
    let (next, reached) = (AtomicUsize::new(0), AtomicU64::new(0));
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < kills);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(number) = take() {
                    let mut random = Random(seed.wrapping_add(number as u64));
                    let point = points[number / 2 % points.len()];
                    let dies = (number % 2 == 0).then(|| (point, random.within(1..6)));
                    let from = reached.load(Ordering::Relaxed);
                    let suicide = dies.is_some();
                    let mut worker = Worker::start(place, Task { seed: random.next(), from, dies });
                    if !suicide {
                        // Not an event that is waited for, but any time at all.
                        thread::sleep(Duration::from_millis(random.within(0..150)));
                        worker.kill();
                    }
                    while let Some(key) = worker.hear_or_end() {
                        reached.fetch_max(key, Ordering::Relaxed);
                    }
                    worker.bury();
                }
            });
        }
    });
    kills
}
