//! A key of bytes, as its flight owns it, and what is done with each: it is written, and compared.
//!
//! Request keys are short, and a call of `memcpy` or `bcmp` costs as much as the rest of either.

/// A key as its flight owns it. What is short stands inside; what is long keeps its buffer for the
/// key of the next flight.
pub(crate) struct BytesKey(Stored);

enum Stored {
    Short { len: u8, bytes: [u8; SHORT] },
    Long { len: u32, buffer: Box<[u8]> },
}

const SHORT: usize = 22;
/// A buffer longer than that isn't kept when its flight ends.
const SPARED: usize = 256;

impl BytesKey {
    #[inline]
    pub fn get(&self) -> &[u8] {
        match &self.0 {
            Stored::Short { len, bytes } => &bytes[..usize::from(*len).min(SHORT)],
            Stored::Long { len, buffer } => &buffer[..*len as usize],
        }
    }

    /// Whether it is kept for the next flight.
    #[inline(always)]
    pub fn is_spared(&self) -> bool {
        !matches!(&self.0, Stored::Long { buffer, .. } if buffer.len() > SPARED)
    }

    pub fn of(key: &[u8]) -> Self {
        let mut place = None;
        Self::write(key, &mut place);
        place.expect("just written")
    }

    /// Makes it, where another may have been.
    #[inline(always)]
    pub fn write(key: &[u8], place: &mut Option<Self>) {
        if key.len() > SHORT {
            return Self::write_long(key, place);
        }
        let Some(Self(Stored::Short { len, bytes })) = place else {
            return Self::make_short(key, place);
        };
        // Over the key of the flight before: what stands behind the end of this one is nobody's.
        copy_short(key, bytes);
        #[allow(clippy::cast_possible_truncation)] // it is short
        let length = key.len() as u8;
        *len = length;
    }

    #[cold]
    fn make_short(key: &[u8], place: &mut Option<Self>) {
        *place = Some(Self(Stored::Short { len: 0, bytes: [0; SHORT] }));
        Self::write(key, place);
    }

    fn write_long(key: &[u8], place: &mut Option<Self>) {
        if let Some(Self(Stored::Long { len, buffer })) = place
            && let Some(start) = buffer.get_mut(..key.len())
        {
            *len = length_of(key);
            start.copy_from_slice(key);
        } else {
            Self::make_long(key, place);
        }
    }

    #[cold]
    fn make_long(key: &[u8], place: &mut Option<Self>) {
        // A little more than needed: the next key may be as long, or nearly.
        let mut buffer = vec![0; key.len().next_multiple_of(64)].into_boxed_slice();
        buffer[..key.len()].copy_from_slice(key);
        *place = Some(Self(Stored::Long { len: length_of(key), buffer }));
    }
}

fn length_of(key: &[u8]) -> u32 {
    u32::try_from(key.len()).expect("limited by max_key_len")
}

// Both take a key that the caller has just made, by words as a rule: a load that is wider than those stores would
// wait until they have reached the cache. So a key of 16 bytes is two words, and not one of 16.

/// Compares two keys; those of 8 to 32 bytes without a call, as two pieces that may overlap.
#[inline(always)]
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    #[inline(always)]
    fn as_two<const N: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
    }
    one.len() == other.len()
        && match one.len() {
            8..=16 => as_two::<8>(one, other),
            17..=32 => as_two::<16>(one, other),
            _ => one == other,
        }
}

/// Copies up to `SHORT` bytes without a call: as two pieces of a known length, which may overlap.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8; SHORT]) {
    #[inline(always)]
    fn as_two<const N: usize>(from: &[u8], to: &mut [u8; SHORT]) -> bool {
        let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
            return false;
        };
        to[..N].copy_from_slice(first);
        to[from.len() - N..from.len()].copy_from_slice(last);
        true
    }
    let done = match from.len() {
        17.. => as_two::<16>(from, to),
        8.. => as_two::<8>(from, to),
        _ => as_two::<4>(from, to),
    };
    if !done {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use super::{BytesKey, same};

    #[test]
    fn keys_of_all_lengths_in_one_place() {
        let mut place = None;
        for len in (0..70).chain((0..70).rev()).chain([300, 5, 64]) {
            // No byte as it was in the key before.
            let key: Vec<u8> = (0..=255).cycle().skip(len * 3).take(len).collect();
            BytesKey::write(&key, &mut place);
            assert_eq!(place.as_ref().unwrap().get(), key);
        }
    }

    #[test]
    fn keys_are_the_same_if_every_byte_is() {
        for len in 0..70 {
            let key: Vec<u8> = (0..len).collect();
            assert!(same(&key, &key.clone()));
            assert!(!same(&key, &[&key[..], &[len]].concat()), "longer than {len}");
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 0x80;
                assert!(!same(&key, &other), "byte {at} of {len}");
            }
        }
    }
}
