//! Keys and responses of bytes: what C, and everything that speaks to other processes, has.
//!
//! A response is one block: a head, the data, and the key where it is kept in the window. It is
//! allocated once, on completion, and shared from then on; a handle is a pointer to it.
//!
//! | bytes | what |
//! |-|-|
//! | 0–3 | how many hold it |
//! | 4–7 | the hash that tells its line |
//! | 8–15 | when it expires, in units of 16 µs (48 bits); the key's length; whether there is a fingerprint, or room for one |
//! | 16–19, 20–23 | the status, the data's length |
//! | then | the data; the key's length, if it is long; the key; where the fingerprint is, if there is one |
//!
//! Every byte here counts: with a 16-byte key and a 64-byte response the block is the 112 bytes that
//! an allocator gives for 104.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::form::{Draft, Form, Kept, Probe};
use super::index::Spot;
use super::key::{BytesKey, same};
use crate::clock::{Moment, NEVER};

/// A table of bytes.
pub(crate) struct Bytes;

impl Form for Bytes {
    type Key = BytesKey;
    type Response = Response;

    fn same(one: &BytesKey, other: &BytesKey) -> bool {
        same(one.get(), other.get())
    }

    fn is_of(key: &BytesKey, response: &Response) -> bool {
        same(key.get(), response.key())
    }

    fn twin(key: BytesKey) -> (BytesKey, BytesKey) {
        (BytesKey::of(key.get()), key)
    }

    fn again(twin: &BytesKey) -> BytesKey {
        BytesKey::of(twin.get())
    }

    #[inline(always)]
    fn clear(key: &mut Option<BytesKey>) -> Option<BytesKey> {
        // Freed here, since bytes have no destructor of a user's: so nothing is ever to be dropped later.
        if key.as_ref().is_some_and(|key| !key.is_spared()) {
            *key = None;
        }
        // The next one is written over it.
        None
    }
}

/// A key of a caller, and its hash.
pub(crate) struct Given<'a> {
    pub key: &'a [u8],
    pub hash: u64,
}

impl Probe<Bytes> for Given<'_> {
    const OURS: bool = true;
    type Light = ();

    #[inline(always)]
    fn spot(&self) -> Spot {
        Spot::of(self.hash)
    }

    #[inline(always)]
    fn is_key(&self, key: &BytesKey) -> bool {
        same(key.get(), self.key)
    }

    #[inline(always)]
    fn is_response(&self, response: &Response) -> bool {
        same(response.key(), self.key)
    }

    fn own(&self) -> BytesKey {
        BytesKey::of(self.key)
    }

    #[inline(always)]
    fn light(&self) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn write(&self, (): (), place: &mut Option<BytesKey>) {
        BytesKey::write(self.key, place);
    }
}

/// What a leader completes with.
pub(crate) struct Reply<'a> {
    status: i32,
    data: &'a [u8],
    /// Made in advance, with the key in it: copying much takes long.
    block: Option<Block>,
}

impl<'a> Reply<'a> {
    pub fn new(status: i32, data: &'a [u8]) -> Self {
        Self { status, data, block: None }
    }
}

/// As much is copied under a lock at most.
const LITTLE: usize = 1024;

impl Draft<Bytes> for Reply<'_> {
    /// The key.
    type Chore = BytesKey;

    #[inline(always)]
    fn asks_nothing(_: &Bytes) -> bool {
        true
    }

    fn is_kept(&self, _: &Bytes) -> bool {
        true
    }

    fn weigh(&mut self, _: &Bytes, key: &BytesKey) -> Result<usize, BytesKey> {
        if self.data.len() > LITTLE && self.block.is_none() {
            return Err(BytesKey::of(key.get()));
        }
        Ok(self.data.len() + key.get().len())
    }

    fn work(&mut self, _: &Bytes, key: BytesKey) {
        self.block = Some(Block::new(self.status, self.data, key.get(), true));
    }

    fn share(self) -> Response {
        let Self { status, data, block } = self;
        block.unwrap_or_else(|| Block::new(status, data, &[], false)).0
    }

    fn keep(self, key: BytesKey, kept: Kept) -> Response {
        let Self { status, data, block } = self;
        let room = kept.fingerprint.is_some();
        block.unwrap_or_else(|| Block::new(status, data, key.get(), room)).seal(kept)
    }
}

/// A response's head.
#[repr(C, align(8))]
pub(crate) struct Head {
    holds: AtomicU32,
    hash: u32,
    /// | bits | what |
    /// |-|-|
    /// | 63–16 | when it expires |
    /// | 15 | `ROOM`: whether there is room for a fingerprint |
    /// | 14 | `MARKED`: whether there is one |
    /// | 13–0 | the key's length, or `LONG` |
    terms: u64,
    status: i32,
    data_len: u32,
}

const HEAD: usize = size_of::<Head>();
/// The key's length stands before it.
const LONG: usize = 0x3fff;
const ROOM: u64 = 1 << 15;
const MARKED: u64 = 1 << 14;
/// 2^14 ns: a response expires that much early at most.
const UNIT_BITS: u32 = 14;

/// A fingerprint is on its own, since it is rare; the block owns it.
type Mark = Option<NonNull<[u8]>>;

/// Where the parts of a block are, from its start.
struct Parts {
    key: usize,
    mark: Option<usize>,
    layout: Layout,
}

impl Parts {
    #[inline]
    fn of(data_len: usize, key_len: usize, room: bool) -> Self {
        // A long key's length stands before it.
        let key = HEAD + data_len + if key_len >= LONG { size_of::<usize>() } else { 0 };
        let mut end = key + key_len;
        let mark = room.then_some(end);
        if room {
            end += size_of::<Mark>();
        }
        let layout = Layout::from_size_align(end, align_of::<Head>());
        Self { key, mark, layout: layout.expect("lengths of 32 bits") }
    }
}

/// A counted hold on a response.
#[repr(transparent)]
pub(crate) struct Response(NonNull<Head>);

// SAFETY: a sealed block never changes but for its count, which is atomic, and is freed by whoever
// drops the last hold.
unsafe impl Send for Response {}
// SAFETY: as above.
unsafe impl Sync for Response {}

/// A response that isn't sealed: one hold, and nobody else has it.
struct Block(Response);

impl Block {
    /// With room for a fingerprint, or without.
    fn new(status: i32, data: &[u8], key: &[u8], room: bool) -> Self {
        let data_len = u32::try_from(data.len()).expect("limited by max_response_len");
        let parts = Parts::of(data.len(), key.len(), room);
        // SAFETY: the layout isn't empty: there is a head.
        let Some(start) = NonNull::new(unsafe { alloc(parts.layout) }) else {
            handle_alloc_error(parts.layout)
        };
        let room = if room { ROOM } else { 0 };
        let terms = NEVER << UNIT_BITS & !0xffff | room | key.len().min(LONG) as u64;
        let head = Head { holds: AtomicU32::new(1), hash: 0, terms, status, data_len };
        // SAFETY: freshly allocated for these parts, and aligned for the head; the others are
        // written as bytes or unaligned.
        unsafe {
            start.cast().write(head);
            start.add(HEAD).copy_from_nonoverlapping(NonNull::from(data).cast(), data.len());
            start.add(parts.key).copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
            if key.len() >= LONG {
                start.add(HEAD + data.len()).cast::<usize>().write_unaligned(key.len());
            }
            if let Some(at) = parts.mark {
                start.add(at).cast::<Mark>().write_unaligned(None);
            }
        }
        Self(Response(start.cast()))
    }

    /// How it is found and when it goes; from here on it never changes.
    fn seal(self, kept: Kept) -> Response {
        let Kept { hash, expires, fingerprint, .. } = kept;
        let parts = self.0.parts();
        let start = self.0.0;
        // SAFETY: a block has one hold, this one, so nobody else looks at it; a place for a mark
        // holds one, written by `new`.
        unsafe {
            let head = &mut *start.as_ptr();
            head.hash = hash;
            let mark = if fingerprint.is_some() { MARKED } else { 0 };
            head.terms = (expires >> UNIT_BITS) << 16 | head.terms & 0xffff | mark;
            if let Some(at) = parts.mark {
                let mark: Mark = fingerprint.and_then(|mark| NonNull::new(Box::into_raw(mark)));
                start.cast::<u8>().add(at).cast::<Mark>().write_unaligned(mark);
            } else {
                debug_assert!(fingerprint.is_none(), "there is no room for a fingerprint");
            }
        }
        self.0
    }
}

impl Response {
    /// One that no flight has completed with, under whatever key.
    pub fn of(status: i32, data: &[u8], key: &[u8]) -> Self {
        Block::new(status, data, key, false).0
    }

    /// Two holds on such a one.
    pub fn twice(status: i32, data: &[u8], key: &[u8]) -> (Self, Self) {
        let mut one = Self::of(status, data, key);
        let other = one.doubled();
        (one, other)
    }

    /// Writes another one of the same lengths over it, if this is the only hold; a second one on that.
    #[inline]
    pub fn rewrite(&mut self, status: i32, data: &[u8], key: &[u8]) -> Option<Self> {
        let head = self.head();
        let fits = self.data().len() == data.len() && self.key().len() == key.len();
        if !fits || head.terms & MARKED != 0 || head.holds.load(Ordering::Acquire) != 1 {
            return None;
        }
        let key_at = self.parts().key;
        // SAFETY: the only hold, borrowed mutably: nobody else looks at the block, or can come to. Its
        // parts have these lengths.
        unsafe {
            self.0.as_mut().status = status;
            let start = self.0.cast::<u8>();
            start.add(HEAD).copy_from_nonoverlapping(NonNull::from(data).cast(), data.len());
            start.add(key_at).copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        }
        Some(self.doubled())
    }

    /// A second hold where this is the only one: while nobody else counts, that needs no atomic addition.
    #[inline]
    fn doubled(&mut self) -> Self {
        debug_assert_eq!(self.head().holds.load(Ordering::Relaxed), 1);
        self.head().holds.store(2, Ordering::Relaxed);
        Self(self.0)
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: a hold keeps its block, whose head doesn't change.
        unsafe { self.0.as_ref() }
    }

    pub fn status(&self) -> i32 {
        self.head().status
    }

    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        // SAFETY: so many bytes were written behind the head, and never change.
        unsafe { self.slice(HEAD, self.head().data_len as usize) }
    }

    #[inline(always)]
    pub fn key(&self) -> &[u8] {
        let (data_len, key_len) = (self.head().data_len as usize, self.key_len());
        let long = if key_len >= LONG { size_of::<usize>() } else { 0 };
        // SAFETY: as for the data.
        unsafe { self.slice(HEAD + data_len + long, key_len) }
    }

    /// # Safety
    /// So many bytes stand there.
    #[inline(always)]
    unsafe fn slice(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: the caller's promise; the block lives as long as this hold.
        unsafe { std::slice::from_raw_parts(self.0.cast::<u8>().add(at).as_ptr(), len) }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // 14 bits
    fn key_len(&self) -> usize {
        let len = self.head().terms as usize & LONG;
        if len < LONG { len } else { self.long_key_len() }
    }

    #[cold]
    fn long_key_len(&self) -> usize {
        let at = HEAD + self.head().data_len as usize;
        // SAFETY: a long key's length stands there.
        unsafe { self.0.cast::<u8>().add(at).cast::<usize>().read_unaligned() }
    }

    fn parts(&self) -> Parts {
        let head = self.head();
        Parts::of(head.data_len as usize, self.key_len(), head.terms & ROOM != 0)
    }

    /// For C: a pointer that is this hold.
    pub fn into_handle(self) -> *mut Head {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// `handle` came from `into_handle`, and is given up here.
    pub unsafe fn from_handle(handle: NonNull<Head>) -> Self {
        Self(handle)
    }

    /// Frees the block whose last hold goes. (By its address, so that whoever drops one keeps it in a register.)
    #[cold]
    fn free(head: NonNull<Head>) {
        let parts = ManuallyDrop::new(Self(head)).parts();
        let start = head.cast::<u8>();
        // SAFETY: the last hold goes: nobody looks at the block any more. It was allocated with
        // this layout, and a place for a mark holds one.
        unsafe {
            if let Some(at) = parts.mark
                && let Some(mark) = start.add(at).cast::<Mark>().read_unaligned()
            {
                drop(Box::from_raw(mark.as_ptr()));
            }
            dealloc(start.as_ptr(), parts.layout);
        }
    }
}

impl Clone for Response {
    #[inline(always)]
    fn clone(&self) -> Self {
        // Relaxed, as in `std`'s `Arc`: whoever clones has a hold, so the block can't go meanwhile.
        let holds = self.head().holds.fetch_add(1, Ordering::Relaxed);
        if holds > u32::MAX / 2 {
            // Holds that were leaked: a count that wrapped would free what is in use.
            std::process::abort();
        }
        Self(self.0)
    }
}

impl Drop for Response {
    #[inline(always)]
    fn drop(&mut self) {
        // Release and acquire, as in `std`'s `Arc`: what others did with it is done before it goes. (A
        // load in place of a fence, which ThreadSanitizer doesn't know.)
        let holds = &self.head().holds;
        // The only hold isn't counted down: nobody is left who could take another.
        if holds.load(Ordering::Acquire) != 1 {
            if holds.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            holds.load(Ordering::Acquire);
        }
        Self::free(self.0);
    }
}

// SAFETY: a pointer's own round trip; it isn't null, and even since a head is aligned to eight.
unsafe impl super::form::Response for Response {
    fn into_word(self) -> *mut () {
        self.into_handle().cast()
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { NonNull::new_unchecked(word.cast()) })
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        self.head().hash
    }

    #[inline(always)]
    fn expires(&self) -> Moment {
        let units = self.head().terms >> 16;
        if units == NEVER >> UNIT_BITS & (u64::MAX >> 16) { NEVER } else { units << UNIT_BITS }
    }

    fn weight(&self) -> usize {
        self.data().len() + self.key().len()
    }

    #[inline(always)]
    fn fingerprint(&self) -> Option<&[u8]> {
        if self.head().terms & MARKED == 0 { None } else { self.marked() }
    }
}

impl Response {
    #[cold]
    fn marked(&self) -> Option<&[u8]> {
        let at = self.parts().mark?;
        // SAFETY: a marked block has a mark there, whose bytes live and don't change as long as it.
        unsafe {
            let mark = self.0.cast::<u8>().add(at).cast::<Mark>().read_unaligned();
            mark.map(|mark| &*mark.as_ptr())
        }
    }
}

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use super::{Block, Bytes, BytesKey, HEAD, Kept, Response};
    use crate::clock::NEVER;
    use crate::table::flight::Flight;
    use crate::table::form::Response as _;

    fn kept(fingerprint: Option<&[u8]>) -> Kept {
        let fingerprint = fingerprint.map(Box::from);
        Kept { hash: 7, expires: 1 << 40, weight: 0, fingerprint }
    }

    #[test]
    fn it_is_as_small_as_said() {
        assert_eq!(HEAD, 24);
        assert_eq!(size_of::<BytesKey>(), 24);
        assert_eq!(size_of::<Flight<Bytes>>(), 56);
    }

    #[test]
    fn blocks_of_all_shapes() {
        /// One made in advance has room for a fingerprint, whether there will be one or not.
        const MARKS: [(Option<&[u8]>, bool); 4] =
            [(None, false), (None, true), (Some(b"print"), true), (Some(b""), true)];
        for key_len in [0, 1, 22, 23, 0x3ffe, 0x3fff, 0x4000, 100_000] {
            for data_len in [0, 1, 64, 5000] {
                for (mark, room) in MARKS {
                    let (key, data) = (vec![b'k'; key_len], vec![b'd'; data_len]);
                    let block = Block::new(-3, &data, &key, room);
                    let response = block.seal(kept(mark));
                    let other = response.clone();
                    drop(response);
                    assert_eq!((other.status(), other.hash()), (-3, 7));
                    assert_eq!((other.data(), other.key()), (&*data, &*key));
                    assert_eq!(other.fingerprint(), mark);
                    assert_eq!(other.weight(), key_len + data_len);
                    assert_eq!(other.expires(), 1 << 40);
                }
            }
        }
        assert_eq!(Response::of(0, b"x", b"").expires(), NEVER);
    }

    #[test]
    fn only_what_nobody_has_is_written_over() {
        let (mut block, held) = Response::twice(1, b"one", b"key");
        assert!(block.rewrite(2, b"two", b"sky").is_none(), "held");
        drop(held);
        assert!(block.rewrite(2, b"four", b"sky").is_none(), "longer");
        assert!(block.rewrite(2, b"two", b"keys").is_none(), "a longer key");
        assert_eq!((block.status(), block.data(), block.key()), (1, &b"one"[..], &b"key"[..]));
        let other = block.rewrite(2, b"two", b"sky").unwrap();
        drop(block);
        assert_eq!((other.status(), other.data(), other.key()), (2, &b"two"[..], &b"sky"[..]));
    }
}
