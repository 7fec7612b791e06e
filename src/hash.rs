//! The default hasher: SipHash-1-3 with a secret of each table's own, as the standard library's, but
//! compiled into the caller, where the standard library's is called piece by piece. Hashing is a
//! third of a cycle.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

/// Makes hashers that withstand keys chosen by an attacker: SipHash-1-3 with a random secret.
#[derive(Clone)]
pub struct SipState(SipHasher13);

impl SipState {
    /// One with a secret of its own.
    pub fn new() -> Self {
        // The standard library's secrets: drawn at random once, another pair each time.
        let random = std::hash::RandomState::new();
        Self(SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)))
    }

    /// The hash of bytes alone, without their length: for keys that are nothing else.
    #[cfg(feature = "capi")]
    #[inline(always)]
    pub(crate) fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
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
        KeyHasher(self.0)
    }
}

/// What [`SipState`] makes.
#[derive(Clone)]
pub struct KeyHasher(SipHasher13);

impl Hasher for KeyHasher {
    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    #[inline(always)]
    fn write_u8(&mut self, number: u8) {
        self.0.write_u8(number);
    }

    #[inline(always)]
    fn write_u32(&mut self, number: u32) {
        self.0.write_u32(number);
    }

    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    #[inline(always)]
    fn write_usize(&mut self, number: usize) {
        self.0.write_usize(number);
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher { .. }")
    }
}
