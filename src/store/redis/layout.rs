//! The parts of a record that are laid out here. The scripts do the rest, since they have the clock; mod.rs has the
//! table of all bytes.

use std::time::Duration;

use super::AGES;
use crate::store::{Claim, RecordKey};

/// What a record begins with.
pub(super) const FORMAT: char = '2';
/// How long it is without its last three parts: the first of them tells whose it is.
pub(super) const HEAD: usize = 63;

/// The record of a first attempt at a key that has none. What only the server knows it fills in: the epoch, which
/// is zero here, and when the lease ends, in whose place it is said how long that lasts.
pub(super) fn first(key: &RecordKey, claim: &Claim<'_>) -> Vec<u8> {
    let name = 4 + key.scope().len() + key.key().len();
    let print = claim.fingerprint.map_or(0, |bytes| 1 + bytes.len());
    let mut record = Vec::with_capacity(HEAD + name + print);
    let mut put = |bytes: &[u8]| record.extend_from_slice(bytes);
    put(&begin(b'P', 0));
    put(&len(name));
    put(&len(print));
    put(&(-1_i32).to_le_bytes());
    put(&0_u64.to_le_bytes());
    put(&claim.token.0);
    put(&1_u32.to_le_bytes());
    put(&span(claim.lease).to_le_bytes());
    put(&span(claim.keep).to_le_bytes());
    put(&len(key.scope().len()));
    put(key.scope());
    put(key.key());
    if let Some(bytes) = claim.fingerprint {
        put(b"=");
        put(bytes);
    }
    record
}

/// What a record begins with that nobody watches, up to the lengths.
pub(super) fn begin(state: u8, status: i32) -> [u8; 7] {
    let [a, b, c, d] = status.to_le_bytes();
    [FORMAT as u8, state, b'0', a, b, c, d]
}

/// What the names of a scope begin with.
pub(super) fn scope(scope: &[u8]) -> Vec<u8> {
    [&len(scope.len())[..], scope].concat()
}

/// A lease or how long it is remembered, in microseconds. Rounded up: it isn't over before it is.
pub(super) fn span(time: Option<Duration>) -> i64 {
    let micros = |time: Duration| time.as_nanos().div_ceil(1000).min(AGES);
    time.map_or(-1, |time| i64::try_from(micros(time)).expect("it is capped"))
}

fn len(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes() // which no record has
}
