//! The default hasher: SipHash-1-3 with a secret of each table's own, as the standard library's.
//!
//! Hashing is a third of a cycle, and the standard library's hasher is called piece by piece, as is
//! the one of the crate `siphasher`, against which this one is tested: compiled into its caller, and
//! with whole words taken as such, it takes two thirds of the instructions (figures in
//! docs/DESIGN.md). The algorithm is Aumasson's and Bernstein's; 1-3 are its rounds a word and at
//! the end.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// Makes hashers that withstand keys chosen by an attacker: SipHash-1-3 with a random secret.
#[derive(Clone)]
pub struct SipState {
    /// Where every hash begins, which the secret decides.
    start: [u64; 4],
    /// Where it stands after the number 16: arrays and slices tell their length first, and that is the
    /// length of most identifiers.
    after_16: [u64; 4],
}

impl SipState {
    /// One with a secret of its own.
    pub fn new() -> Self {
        // The standard library's secrets: drawn at random once, another pair each time.
        let random = std::hash::RandomState::new();
        Self::with(random.hash_one(0), random.hash_one(1))
    }

    fn with(k0: u64, k1: u64) -> Self {
        let start = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let mut told = KeyHasher { state: start, after_16: start, tail: 0, length: 0 };
        told.word(16);
        Self { start, after_16: told.state }
    }

    /// The hash of bytes alone, without their length: for keys that are nothing else.
    #[inline(always)]
    pub(crate) fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        match <&[u8; 16]>::try_from(bytes) {
            // The length of most identifiers: what is known to be two words is no loop.
            Ok(two_words) => self.hash_as_given(two_words),
            Err(_) => self.hash_as_given(bytes),
        }
    }

    #[inline(always)]
    fn hash_as_given(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

impl Default for SipState {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SipState { .. }") // the secret stays one
    }
}

impl BuildHasher for SipState {
    type Hasher = KeyHasher;

    #[inline(always)]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { state: self.start, after_16: self.after_16, tail: 0, length: 0 }
    }
}

/// What [`SipState`] makes.
#[derive(Clone)]
pub struct KeyHasher {
    state: [u64; 4],
    after_16: [u64; 4],
    /// The bytes that don't make a word yet, the first lowest.
    tail: u64,
    /// All bytes so far.
    length: usize,
}

impl KeyHasher {
    #[inline(always)]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.state;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.state[3] ^= word;
        self.round();
        self.state[0] ^= word;
    }

    /// The low `bytes` of a number; the others are zero. At most eight.
    #[inline(always)]
    fn short(&mut self, number: u64, bytes: usize) {
        let held = self.length % 8;
        self.length += bytes;
        if held == 0 && bytes == 8 {
            return self.word(number);
        }
        self.tail |= number << (8 * held);
        if held + bytes >= 8 {
            let word = self.tail;
            self.word(word);
            // What of it didn't fit; nothing, if it was nothing that was held.
            self.tail = if held == 0 { 0 } else { number >> (8 * (8 - held)) };
        }
    }
}

/// One to seven bytes as a number, the first lowest: without a call, as pieces that may overlap.
#[inline(always)]
fn rest(bytes: &[u8]) -> u64 {
    let last = bytes.len() - 1;
    if let (Some(first), Some(end)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, end) = (u32::from_le_bytes(*first), u32::from_le_bytes(*end));
        return u64::from(first) | u64::from(end) << (8 * (last - 3));
    }
    let at = |place: usize| u64::from(bytes[place]) << (8 * place);
    at(0) | at(last / 2) | at(last)
}

impl Hasher for KeyHasher {
    #[inline(always)]
    fn finish(&self) -> u64 {
        let mut last = self.clone();
        last.word((self.length as u64) << 56 | self.tail);
        last.state[2] ^= 0xff;
        last.round();
        last.round();
        last.round();
        let [v0, v1, v2, v3] = last.state;
        v0 ^ v1 ^ v2 ^ v3
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        let (words, end) = bytes.as_chunks::<8>();
        for word in words {
            self.short(u64::from_le_bytes(*word), 8);
        }
        if !end.is_empty() {
            self.short(rest(end), end.len());
        }
    }

    #[inline(always)]
    fn write_u8(&mut self, number: u8) {
        self.short(number.into(), 1);
    }

    #[inline(always)]
    fn write_u16(&mut self, number: u16) {
        self.short(number.into(), 2);
    }

    #[inline(always)]
    fn write_u32(&mut self, number: u32) {
        self.short(number.into(), 4);
    }

    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        self.short(number, 8);
    }

    #[inline(always)]
    fn write_usize(&mut self, number: usize) {
        if self.length == 0 && number == 16 && size_of::<usize>() == 8 {
            self.state = self.after_16;
            self.length = 8;
            return;
        }
        self.short(number as u64, size_of::<usize>());
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher { .. }")
    }
}

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use super::SipState;
    use siphasher::sip::SipHasher13;
    use std::hash::{BuildHasher, Hasher};

    /// However the bytes come: in pieces of all lengths, and as numbers.
    #[test]
    fn it_is_siphash_1_3() {
        let secret = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let bytes: Vec<u8> = (0..=255).collect();
        for seed in 0_usize..2000 {
            let mut ours = SipState::with(secret.0, secret.1).build_hasher();
            let mut reference = SipHasher13::new_with_keys(secret.0, secret.1);
            let mut next = seed;
            for _ in 0..seed % 7 {
                next = next
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let (kind, number) = (next >> 60, next);
                #[allow(clippy::cast_possible_truncation)] // any number will do
                match kind % 6 {
                    0 => (ours.write_u8(number as u8), reference.write_u8(number as u8)),
                    1 => (ours.write_u16(number as u16), reference.write_u16(number as u16)),
                    2 => (ours.write_u32(number as u32), reference.write_u32(number as u32)),
                    3 => (ours.write_u64(number as u64), reference.write_u64(number as u64)),
                    4 => {
                        let number = if number & 1 == 0 { 16 } else { number };
                        (ours.write_usize(number), reference.write_usize(number))
                    }
                    _ => {
                        let piece = &bytes[(number >> 8) % 100..][..(number >> 16) % 40];
                        (ours.write(piece), reference.write(piece))
                    }
                };
                assert_eq!(ours.finish(), reference.finish(), "seed {seed}");
            }
        }
    }

    #[test]
    fn each_has_a_secret_of_its_own() {
        assert_ne!(SipState::new().hash_one(1), SipState::new().hash_one(1));
    }
}
