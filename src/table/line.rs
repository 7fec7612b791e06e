//! The line of a key: a lock, and the entries whose hashes end alike, in one cache line.
//!
//! | byte | what |
//! |-|-|
//! | 0–5 | a tag for each place: 0 vacant; 1 (last place only): more entries; ≥ 128: a key's |
//! | 6–7 | the level: doublings of the index that the line has gone through |
//! | 8–55 | six places: a flight, or a completed response (the lowest bit set) |
//! | 56 | the latch |
//! | 58–63 | the next lead's sequence number: high 16 bits, low 32 |
//!
//! Tags and level are one number, always read and written as a whole: a load that is wider than a store
//! just before it waits for that to reach the cache, and a cycle has both within some nanoseconds.
//!
//! A caller finds, changes and leaves a key within this one cache line, and what it points to
//! belongs to the flight: on two cores nothing else moves between them. That, and not the number of
//! locks, is what made the table fast on more than one (figures in docs/DESIGN.md).
//!
//! The pointers own what they point to. The unsafe code here rests on one rule: the cells of a line
//! are touched through its [`Guard`] alone, and there is one at a time, since it holds the latch.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flight::{Flight, LeadId};
use super::form::{Form, Response};
use super::index::FIRST;
use crate::sync::{AtomicUsize, Hold, Latch};

/// The level of a line that hasn't got its entries from its twin yet.
pub(super) const UNBORN: usize = u16::MAX as usize;

const PLACES: usize = 6;
const LAST: usize = PLACES - 1;
/// The tag of a last place that holds the rest of the entries.
const MORE: u8 = 1;

#[repr(C, align(64))]
pub(super) struct Line<F: Form> {
    head: Latched<u64>,
    words: Latched<[Word; PLACES]>,
    latch: Latch,
    sequence_high: Latched<u16>,
    sequence_low: Latched<u32>,
    form: PhantomData<fn() -> F>,
}

/// What is touched by the holder of the latch alone.
#[repr(transparent)]
struct Latched<T>(UnsafeCell<T>);

// SAFETY: one thread at a time touches it, as said above. What the words own may be sent and
// shared: `Form` demands it of keys and responses, and the rest of a flight is ours. (It isn't said
// as a bound of the line, for a key or a value may hold its own table.)
unsafe impl<T> Send for Latched<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Latched<T> {}

/// A pointer to a flight; or to a response, with the lowest bit set; or null.
type Word = *mut ();

/// What a key has.
pub(super) enum Entry<F: Form> {
    Flying(Box<Flight<F>>),
    Completed(F::Response),
}

/// The same, looked at in its place.
pub(super) enum View<'a, F: Form> {
    Flying(&'a mut Flight<F>),
    /// Not to be dropped: the place owns it.
    Completed(ManuallyDrop<F::Response>),
}

impl<F: Form> View<'_, F> {
    fn hash(&self) -> u32 {
        match self {
            Self::Flying(flight) => flight.hash,
            Self::Completed(response) => response.hash(),
        }
    }
}

impl<F: Form> Entry<F> {
    fn into_word(self) -> Word {
        match self {
            Self::Flying(flight) => Box::into_raw(flight).cast(),
            Self::Completed(response) => response.into_word().map_addr(|address| address | 1),
        }
    }

    /// # Safety
    /// `word` came from `into_word`, and each one comes back once at most.
    unsafe fn from_word(word: Word) -> Self {
        if word.addr() & 1 == 0 {
            // SAFETY: an even word is a box's pointer; the caller's promise.
            Self::Flying(unsafe { Box::from_raw(word.cast()) })
        } else {
            // SAFETY: an odd one is a response's, with the bit; the caller's promise.
            Self::Completed(unsafe { F::Response::from_word(word.map_addr(|at| at & !1)) })
        }
    }
}

/// Entries that didn't fit.
type More = Vec<(u8, Word)>;

/// Where an entry stands, as long as the line is held.
#[derive(Clone, Copy)]
pub(super) struct Place(usize);

impl Place {
    /// Whether its line is crowded.
    pub fn is_past_the_last(self) -> bool {
        self.0 >= PLACES
    }
}

impl<F: Form> Line<F> {
    pub fn new(level: usize) -> Self {
        Self {
            head: Latched(UnsafeCell::new((level as u64) << LEVEL)),
            words: Latched(UnsafeCell::new([std::ptr::null_mut(); PLACES])),
            latch: Latch::default(),
            sequence_high: Latched(UnsafeCell::new(0)),
            sequence_low: Latched(UnsafeCell::new(0)),
            form: PhantomData,
        }
    }

    #[inline(always)]
    pub fn hold(&self) -> Guard<'_, F> {
        Guard { hold: self.latch.hold(), line: self }
    }
}

impl<F: Form> Drop for Line<F> {
    fn drop(&mut self) {
        let head = *self.head.0.get_mut();
        for (place, word) in self.words.0.get_mut().iter().enumerate() {
            match tag_of(head, place) {
                0 => {}
                MORE => {
                    // SAFETY: such a place holds a box of ours, and nobody else has the line.
                    for (_, word) in *unsafe { Box::<More>::from_raw(word.cast()) } {
                        // SAFETY: every word there is an entry's.
                        drop(unsafe { Entry::<F>::from_word(word) });
                    }
                }
                // SAFETY: a tag says that the place holds an entry.
                _ => drop(unsafe { Entry::<F>::from_word(*word) }),
            }
        }
    }
}

/// A line that is held. Nothing of it is dropped while it is: what is taken out is returned.
pub(super) struct Guard<'a, F: Form> {
    line: &'a Line<F>,
    hold: Hold<'a>,
}

impl<F: Form> Drop for Guard<'_, F> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: a guard is made with the latch held, and is dropped once.
        unsafe { self.line.latch.release(&mut self.hold) };
    }
}

impl<F: Form> Guard<'_, F> {
    #[inline(always)]
    fn head(&self) -> u64 {
        // SAFETY: the latch is held by this guard, and `&self` allows no change meanwhile.
        unsafe { *self.line.head.0.get() }
    }

    #[inline(always)]
    fn set_head(&mut self, head: u64) {
        // SAFETY: the latch is held by this guard, and `&mut self` makes this the one access.
        unsafe { *self.line.head.0.get() = head };
    }

    #[inline(always)]
    fn tag_at(&self, place: usize) -> u8 {
        tag_of(self.head(), place)
    }

    #[inline(always)]
    fn set_tag(&mut self, place: usize, tag: u8) {
        let others = self.head() & !(0xff << (place * 8));
        self.set_head(others | u64::from(tag) << (place * 8));
    }

    #[inline(always)]
    fn words(&self) -> &[Word; PLACES] {
        // SAFETY: as for `head`.
        unsafe { &*self.line.words.0.get() }
    }

    #[inline(always)]
    fn words_mut(&mut self) -> &mut [Word; PLACES] {
        // SAFETY: as for `set_head`.
        unsafe { &mut *self.line.words.0.get() }
    }

    fn more(&self) -> Option<&More> {
        // SAFETY: a place with that tag holds a box of ours, which lives as long as the tag stands.
        (self.tag_at(LAST) == MORE).then(|| unsafe { &*self.words()[LAST].cast::<More>() })
    }

    fn more_mut(&mut self) -> Option<&mut More> {
        // SAFETY: as for `more`, and `&mut self` makes this the one access.
        (self.tag_at(LAST) == MORE).then(|| unsafe { &mut *self.words()[LAST].cast::<More>() })
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // sixteen bits
    pub fn level(&self) -> usize {
        (self.head() >> LEVEL) as usize
    }

    /// The next lead's id: unique in the process, growing in a line, and telling where its key's
    /// line is.
    ///
    /// | bits | what |
    /// |-|-|
    /// | 63–20 | a sequence number, drawn in blocks from the counter of its hash's last eight bits |
    /// | 19–0 | the last bits of the hash |
    #[inline(always)]
    pub fn next_id(&mut self, hash: u32) -> LeadId {
        let mut sequence = self.sequence();
        if sequence.is_multiple_of(BLOCK) {
            sequence = draw(hash, sequence);
        }
        self.set_sequence(sequence + 1);
        sequence << SPOT_BITS | u64::from(hash) & ((1 << SPOT_BITS) - 1)
    }

    #[inline(always)]
    fn sequence(&self) -> u64 {
        // SAFETY: as for `head`, for both.
        let (high, low) =
            unsafe { (*self.line.sequence_high.0.get(), *self.line.sequence_low.0.get()) };
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // both parts of it
    fn set_sequence(&mut self, sequence: u64) {
        // SAFETY: as for `set_head`, for both.
        unsafe {
            *self.line.sequence_high.0.get() = (sequence >> 32) as u16;
            *self.line.sequence_low.0.get() = sequence as u32;
        }
    }

    /// The first entry with that tag that is the one.
    #[inline(always)]
    pub fn find(&mut self, tag: u8, mut is: impl FnMut(&mut View<'_, F>) -> bool) -> Option<Place> {
        let mut alike = zeros(self.head() ^ (EACH * u64::from(tag)));
        while alike != 0 {
            let place = Place(alike.trailing_zeros() as usize / 8);
            let word = self.words()[place.0];
            if is(&mut self.view_of(word)) {
                return Some(place);
            }
            alike &= alike - 1;
        }
        if self.tag_at(LAST) == MORE { self.find_more(Some(tag), is) } else { None }
    }

    /// The first entry that is the one.
    pub fn find_any(&mut self, mut is: impl FnMut(&mut View<'_, F>) -> bool) -> Option<Place> {
        for place in 0..PLACES {
            if self.tag_at(place) > MORE && is(&mut self.view(Place(place))) {
                return Some(Place(place));
            }
        }
        self.find_more(None, is)
    }

    /// Takes out the flight that `id` leads, if it stands in one of the six places and nothing became
    /// of it but that it was led. Tag 0: any.
    #[inline(always)]
    pub fn take_plain(&mut self, tag: u8, id: LeadId) -> Option<Box<Flight<F>>> {
        let tags = self.head();
        // A key's tag has its topmost bit set.
        let mut alike =
            if tag == 0 { tags & (EACH << 7) } else { zeros(tags ^ (EACH * u64::from(tag))) };
        while alike != 0 {
            let place = alike.trailing_zeros() as usize / 8;
            let word = self.words()[place];
            if let View::Flying(flight) = self.view_of(word)
                && flight.led_by(id)
                && flight.is_plain()
            {
                self.set_tag(place, 0);
                // SAFETY: an even word of a place that holds an entry is a flight's box, and its
                // place has forgotten it.
                return Some(unsafe { Box::from_raw(word.cast()) });
            }
            alike &= alike - 1;
        }
        None
    }

    #[cold]
    fn find_more(
        &mut self,
        tag: Option<u8>,
        mut is: impl FnMut(&mut View<'_, F>) -> bool,
    ) -> Option<Place> {
        (0..self.more()?.len()).find_map(|at| {
            let place = Place(PLACES + at);
            let tagged = tag.is_none_or(|tag| self.more().is_some_and(|more| more[at].0 == tag));
            (tagged && is(&mut self.view(place))).then_some(place)
        })
    }

    #[inline(always)]
    fn word(&self, place: Place) -> Word {
        match self.words().get(place.0) {
            Some(word) => *word,
            None => self.more().expect("a place past the last")[place.0 - PLACES].1,
        }
    }

    #[inline(always)]
    pub fn view(&mut self, place: Place) -> View<'_, F> {
        let word = self.word(place);
        self.view_of(word)
    }

    /// What a word of one of its places points to.
    #[inline(always)]
    #[allow(clippy::unused_self)] // the result lives as long as the line is held
    fn view_of(&mut self, word: Word) -> View<'_, F> {
        if word.addr() & 1 == 0 {
            // SAFETY: a place that was found holds an entry, and an even word is a flight's box,
            // which the line owns; it lives as long as `&mut self` lets nobody take it out.
            View::Flying(unsafe { &mut *word.cast() })
        } else {
            // SAFETY: an odd word is a response's, with the bit. It isn't dropped, since the place
            // still owns it.
            View::Completed(ManuallyDrop::new(unsafe {
                F::Response::from_word(word.map_addr(|at| at & !1))
            }))
        }
    }

    #[inline(always)]
    pub fn flight(&mut self, place: Place) -> &mut Flight<F> {
        match self.view(place) {
            View::Flying(flight) => flight,
            View::Completed(_) => unreachable!("the place of a flight"),
        }
    }

    /// A place for an entry, if there is one among the six.
    #[inline(always)]
    pub fn vacant(&self) -> Option<usize> {
        let vacant = zeros(self.head());
        (vacant != 0).then(|| vacant.trailing_zeros() as usize / 8)
    }

    /// Puts an entry into a place that was found vacant.
    #[inline(always)]
    pub fn fill(&mut self, place: usize, tag: u8, entry: Entry<F>) {
        debug_assert_eq!(self.tag_at(place), 0, "nothing is written over");
        self.words_mut()[place] = entry.into_word();
        self.set_tag(place, tag);
    }

    #[inline(always)]
    pub fn insert(&mut self, tag: u8, entry: Entry<F>, crowded: &AtomicUsize) -> Place {
        match self.vacant() {
            Some(place) => {
                self.fill(place, tag, entry);
                Place(place)
            }
            None => self.insert_more(tag, entry.into_word(), crowded),
        }
    }

    #[cold]
    fn insert_more(&mut self, tag: u8, word: Word, crowded: &AtomicUsize) -> Place {
        if self.tag_at(LAST) != MORE {
            let first = (self.tag_at(LAST), self.words()[LAST]);
            self.set_tag(LAST, MORE);
            self.words_mut()[LAST] = Box::into_raw(Box::new(vec![first])).cast();
            crowded.fetch_add(1, Ordering::Relaxed);
        }
        let more = self.more_mut().expect("just made");
        more.push((tag, word));
        Place(PLACES + more.len() - 1)
    }

    #[inline(always)]
    pub fn remove(&mut self, place: Place, crowded: &AtomicUsize) -> Entry<F> {
        let word = self.word(place);
        if place.0 < PLACES {
            self.set_tag(place.0, 0);
        } else {
            self.remove_more(place.0 - PLACES, crowded);
        }
        // SAFETY: it was an entry's, and its place has forgotten it.
        unsafe { Entry::from_word(word) }
    }

    #[cold]
    fn remove_more(&mut self, at: usize, crowded: &AtomicUsize) {
        let more = self.more_mut().expect("a place past the last");
        more.swap_remove(at);
        if let [(tag, word)] = **more {
            // SAFETY: the box of ours that the last place holds, which forgets it here.
            drop(unsafe { Box::<More>::from_raw(self.words()[LAST].cast()) });
            self.set_tag(LAST, tag);
            self.words_mut()[LAST] = word;
            crowded.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Puts an entry in the place of another of the same key.
    pub fn replace(&mut self, place: Place, entry: Entry<F>) -> Entry<F> {
        let new = entry.into_word();
        let old = match place.0.checked_sub(PLACES) {
            None => std::mem::replace(&mut self.words_mut()[place.0], new),
            Some(at) => {
                let more = self.more_mut().expect("a place past the last");
                std::mem::replace(&mut more[at].1, new)
            }
        };
        // SAFETY: it was an entry's, and its place holds another now.
        unsafe { Entry::from_word(old) }
    }

    /// Hands those entries to the twin that belong there; both are a level on then.
    pub fn part(&mut self, twin: &mut Self, bit: usize, crowded: &AtomicUsize) {
        let goes = |view: &mut View<'_, F>| view.hash() as usize & bit != 0;
        while let Some(place) = self.find_any(goes) {
            let tag = self.tag(place);
            let entry = self.remove(place, crowded);
            twin.insert(tag, entry, crowded);
        }
        let level = self.level() as u64 + 1;
        self.set_head(at_level(self.head(), level));
        twin.set_head(at_level(twin.head(), level));
        // Fences grow across the parting: the twin draws its next block from here on.
        twin.set_sequence(self.sequence().next_multiple_of(BLOCK));
    }

    fn tag(&self, place: Place) -> u8 {
        match place.0.checked_sub(PLACES) {
            None => self.tag_at(place.0),
            Some(at) => self.more().expect("a place past the last")[at].0,
        }
    }
}

/// Where the level begins in a head.
const LEVEL: u32 = 48;

#[inline(always)]
fn tag_of(head: u64, place: usize) -> u8 {
    head.to_le_bytes()[place]
}

fn at_level(head: u64, level: u64) -> u64 {
    head & !(u64::MAX << LEVEL) | level << LEVEL
}

/// One in each of the bytes that tags stand in.
const EACH: u64 = 0x0101_0101_0101;

/// The topmost bit of each of six bytes that is zero; above one that is, it may be set for a 1 too.
/// (As tags go: a key's differs from a vacant one's in its topmost bit, and one that differs from
/// the tag looked for in the last bit is looked at in vain.)
#[inline(always)]
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(EACH) & !bytes & (EACH << 7)
}

/// How many sequence numbers are drawn at once, so that lines seldom meet at their counter.
const BLOCK: u64 = 256;
/// How much of the hash an id tells.
pub(super) const SPOT_BITS: u32 = 20;
/// One for each of the endings that all hashes of a line have in common from the first.
const COUNTERS: usize = FIRST;

/// A block of sequence numbers that no line of the process has had, and not below `floor`. With a
/// counter for each ending of eight bits there are 52 bits of them: a century at a million leads
/// a second. `std` atomics even in models: which numbers come out changes nothing.
#[cold]
fn draw(hash: u32, floor: u64) -> u64 {
    static NEXT: [AtomicU64; COUNTERS] = [const { AtomicU64::new(BLOCK) }; COUNTERS];
    let next = &NEXT[hash as usize % COUNTERS];
    let mut at = next.load(Ordering::Relaxed);
    loop {
        let from = at.max(floor);
        match next.compare_exchange(at, from + BLOCK, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return from,
            Err(now) => at = now,
        }
    }
}

/// Where the key of that lead is looked for; any tag.
#[allow(clippy::cast_possible_truncation)] // the low bits
pub(super) fn hash_of(id: LeadId) -> u32 {
    (id & ((1 << SPOT_BITS) - 1)) as u32
}

const _: () = assert!(PLACES == 6 && UNBORN > 64);

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use super::Line;
    use crate::table::typed::Typed;

    #[test]
    fn a_line_is_a_cache_line() {
        assert_eq!(size_of::<Line<Typed<u64, u64>>>(), 64);
    }
}
