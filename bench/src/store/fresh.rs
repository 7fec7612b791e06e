//! Keys that no store has seen, in this run or another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::keys::{Draw, Short};

pub struct Fresh {
    run: u64,
    next: AtomicU64,
}

impl Fresh {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { run: Draw::new(now.as_nanos() as u64).word(), next: AtomicU64::new(0) }
    }

    /// Looks drawn, as identifiers of users are: an index finds no two of them side by side.
    pub fn key(&self) -> Short {
        let mut draw = self.draw();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&draw.word().to_le_bytes());
        key[8..].copy_from_slice(&draw.word().to_le_bytes());
        key
    }

    pub fn keys(&self, count: usize) -> Vec<Short> {
        (0..count).map(|_| self.key()).collect()
    }

    pub fn one_of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.draw().word() as usize % all.len()]
    }

    /// In 0..1.
    pub fn unit(&self) -> f64 {
        self.draw().unit()
    }

    fn draw(&self) -> Draw {
        Draw::new(self.run ^ self.next.fetch_add(1, Ordering::Relaxed))
    }
}
