//! Keys: unique ones by number, and sequences drawn before anything is timed.

use std::hash::Hash;

/// A binary key, as a hash or an identifier would be.
pub trait Key: Copy + Eq + Hash + Send + Sync + 'static {
    /// The key with this number. Cheap enough to stay inside a timed loop.
    fn nth(n: u64) -> Self;
    fn bytes(&self) -> &[u8];
}

pub type Short = [u8; 16];
pub type Long = [u8; 64];

/// The number of a short key.
pub fn number(key: &Short) -> u64 {
    u64::from_le_bytes(*key.last_chunk().expect("sixteen bytes"))
}

/// Spreads neighbouring numbers over all bits; an odd factor loses none.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Key for Short {
    #[inline]
    fn nth(n: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&n.wrapping_mul(SPREAD).to_le_bytes());
        key[8..].copy_from_slice(&n.to_le_bytes());
        key
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Key for Long {
    #[inline]
    fn nth(n: u64) -> Self {
        let mut key = [0; 64];
        let mut word = n.wrapping_mul(SPREAD);
        for bytes in key.chunks_exact_mut(8) {
            bytes.copy_from_slice(&word.to_le_bytes());
            word = word.rotate_left(8) ^ n;
        }
        key
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Numbers that look drawn, the same ones in every run (splitmix64).
pub struct Draw(u64);

impl Draw {
    /// A seed's numbers are scattered, else the next seed's would be the same ones, a step on.
    pub fn new(seed: u64) -> Self {
        Self(scatter(!seed))
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(SPREAD);
        scatter(self.0)
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn scatter(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// `count` of the keys 0..`of`, each as likely as the other.
pub fn uniform<K: Key>(of: u64, count: usize, seed: u64) -> Vec<K> {
    let mut draw = Draw::new(seed);
    (0..count).map(|_| K::nth(draw.word() % of)).collect()
}

/// Zipf's law over 0..n: rank r is drawn as often as 1 / (r + 1)^s.
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    pub fn new(n: usize, s: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=n)
            .map(|rank| {
                sum += (rank as f64).powf(-s);
                sum
            })
            .collect();
        for share in &mut cumulative {
            *share /= sum;
        }
        Self { cumulative }
    }

    pub fn rank(&self, draw: &mut Draw) -> u64 {
        let unit = draw.unit();
        self.cumulative.partition_point(|share| *share <= unit) as u64
    }

    pub fn keys<K: Key>(&self, count: usize, seed: u64) -> Vec<K> {
        let mut draw = Draw::new(seed);
        (0..count).map(|_| K::nth(self.rank(&mut draw))).collect()
    }
}
