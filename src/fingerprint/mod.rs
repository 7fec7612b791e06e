//! Fingerprints: sixteen bytes that say "the same payload".
//!
//! A list of fields is framed, so that no two lists give the same bytes, and the frame is hashed
//! with SipHash-2-4-128. Records outlive the process that wrote them, so both the frame and the
//! hash are fixed for ever: docs/fingerprint.md states the format, tests/vectors holds it in
//! place, and a change would need a new tag beside the old ones.

mod request;

pub use request::RequestKey;

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

/// Says which format follows. Tags have one length and differ, so a frame of one format is never
/// a frame of another.
type Tag = [u8; 16];

const FIELDS: &Tag = b"onceflight/fp/1\n";

/// Sixteen bytes that stand for a payload: equal payloads have equal fingerprints, and different
/// payloads have different ones, but for a chance of 2⁻¹²⁸ a pair.
///
/// A table or store takes one beside the key, to tell a retry from a key that was reused for
/// something else. A payload is a list of fields, each any bytes; where one field ends and the
/// next begins counts, so nothing has to be escaped or joined by hand.
///
/// ```
/// use onceflight::Fingerprint;
///
/// let first = Fingerprint::of(["POST", "/payments", r#"{"cents":100}"#]);
/// let retry = Fingerprint::of(["POST", "/payments", r#"{"cents":100}"#]);
/// let other = Fingerprint::of(["POST", "/payments", r#"{"cents":900}"#]);
/// assert_eq!(first, retry);
/// assert_ne!(first, other);
///
/// assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["a", "bc"]));
/// ```
///
/// # Stability
///
/// The same fields and secret give the same bytes in every release, on every platform and in
/// every language binding, so fingerprints may be stored. The function is SipHash-2-4 with 128
/// bits of output, by Jean-Philippe Aumasson and Daniel J. Bernstein ("`SipHash`: a fast
/// short-input PRF", 2012), over a documented frame (`docs/fingerprint.md`, with test vectors).
///
/// # What it is not
///
/// [`of`](Self::of) uses a key that everybody knows. That finds mistakes and hides nothing: who
/// sees the fingerprint can test guesses of the payload, and who wants two payloads with one
/// fingerprint must be assumed able to make them. Where payloads come from people who may gain by
/// that, use [`keyed`](Self::keyed) with a secret. Even then it is no signature: comparing takes
/// a time that depends on the bytes, and whoever checks could as well forge.
///
/// It is plain data, and nothing here is shared between threads.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The key that [`of`](Self::of) hashes with: public, and the same for ever.
    pub const PUBLIC_KEY: [u8; 16] = *b"onceflight fixed";

    /// The fingerprint of `fields` under the [public key](Self::PUBLIC_KEY).
    ///
    /// ```
    /// use onceflight::Fingerprint;
    ///
    /// let fingerprint = Fingerprint::of(["a", "bc"]);
    /// assert_eq!(fingerprint.to_string(), "e6add49eb43f59b5dac880e15ad7407d");
    /// ```
    pub fn of(fields: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        Self::keyed(&Self::PUBLIC_KEY, fields)
    }

    /// The fingerprint of `fields` under a secret of yours.
    ///
    /// Draw the secret from a good source of randomness, and keep it as long as the fingerprints:
    /// under another secret nothing compares equal.
    ///
    /// ```
    /// use onceflight::Fingerprint;
    ///
    /// let secret = *b"sixteen of bytes";
    /// let ours = Fingerprint::keyed(&secret, ["POST", "/payments"]);
    /// assert_ne!(ours, Fingerprint::of(["POST", "/payments"]));
    /// ```
    pub fn keyed(secret: &[u8; 16], fields: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        let mut fingerprinter = Fingerprinter::keyed(secret);
        for field in fields {
            fingerprinter.field(field);
        }
        fingerprinter.finish()
    }

    /// The bytes, in the order in which stores and C see them.
    ///
    /// ```
    /// use onceflight::Fingerprint;
    ///
    /// let fingerprint = Fingerprint::of(["a"]);
    /// assert_eq!(Fingerprint::from(*fingerprint.as_bytes()), fingerprint);
    /// ```
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn from_hasher(hasher: &SipHasher24) -> Self {
        // The reference implementation's order: both words little-endian, v0's round first.
        let hash = hasher.finish128();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hash.h1.to_le_bytes());
        bytes[8..].copy_from_slice(&hash.h2.to_le_bytes());
        Self(bytes)
    }
}

impl From<[u8; 16]> for Fingerprint {
    /// Takes back what [`as_bytes`](Fingerprint::as_bytes) gave.
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Fingerprint {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Makes a [`Fingerprint`] field by field, keeping no field in memory.
///
/// ```
/// use onceflight::{Fingerprint, Fingerprinter};
///
/// let mut fingerprinter = Fingerprinter::new();
/// for field in ["POST", "/payments"] {
///     fingerprinter.field(field);
/// }
/// fingerprinter.field(b"\x00\xff");
/// assert_eq!(
///     fingerprinter.finish(),
///     Fingerprint::of([b"POST".as_slice(), b"/payments", b"\x00\xff"]),
/// );
/// ```
#[derive(Clone)]
pub struct Fingerprinter(Frame<SipHasher24>);

impl Fingerprinter {
    /// Starts with no fields, under the [public key](Fingerprint::PUBLIC_KEY).
    pub fn new() -> Self {
        Self::keyed(&Fingerprint::PUBLIC_KEY)
    }

    /// Starts with no fields, under a secret of yours.
    pub fn keyed(secret: &[u8; 16]) -> Self {
        Self::tagged(FIELDS, secret)
    }

    fn tagged(tag: &Tag, secret: &[u8; 16]) -> Self {
        Self(Frame::open(tag, SipHasher24::new_with_key(secret)))
    }

    /// Adds a field. An empty one counts: it is not the same as none.
    pub fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.field(bytes.as_ref());
        self
    }

    /// The fingerprint of the fields so far; more may follow.
    pub fn finish(&self) -> Fingerprint {
        Fingerprint::from_hasher(&self.0.clone().close())
    }
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the hasher: it holds the secret.
        f.debug_struct("Fingerprinter").field("fields", &self.0.count).finish_non_exhaustive()
    }
}

/// Writes a tag, then every field as its length and its bytes, then the number of fields.
///
/// Two lists never give the same bytes. Reading from the front: where exactly eight bytes are
/// left they are the number of fields, because a field would leave at least eight for its length
/// and eight for the number; otherwise they are the length of the next field. So the list can be
/// read back, and that needs no look ahead when writing.
#[derive(Clone)]
struct Frame<S> {
    sink: S,
    count: u64,
}

impl<S: Sink> Frame<S> {
    fn open(tag: &Tag, mut sink: S) -> Self {
        sink.put(tag);
        Self { sink, count: 0 }
    }

    fn field(&mut self, bytes: &[u8]) {
        // 64 bits on every platform: a 32-bit machine reads the same store.
        self.sink.put(&(bytes.len() as u64).to_le_bytes());
        self.sink.put(bytes);
        self.count += 1;
    }

    fn close(mut self) -> S {
        self.sink.put(&self.count.to_le_bytes());
        self.sink
    }
}

/// Where a frame goes: through the hash, or into memory as it is.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for SipHasher24 {
    fn put(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
