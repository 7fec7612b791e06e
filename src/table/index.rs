//! Where a key's line is: an array that doubles without stopping anybody.
//!
//! The array is a list of segments, each as long as all before it, so growing moves nothing: the
//! lines of the new segment are unborn, and a line and its twin in the new half part when either is
//! first asked for. A line knows its level, the number of doublings it has gone through; whoever
//! finds one at another level than the index's parts it from its twin first, or, if the index has
//! grown meanwhile, looks again.
//!
//! It grows once one line in eight has more entries than fit into it, which is at about four a line
//! (the entries of a line are Poisson-distributed). It doesn't shrink: a line is 64 bytes, so what a
//! peak leaves behind is some 16 bytes for each of its keys.
//!
//! Lock order: a line → its twin (the one with the higher number).

use std::sync::atomic::Ordering;

use once_cell::sync::OnceCell;

use super::form::Form;
use super::line::{Guard, Line, UNBORN};
use crate::sync::{AtomicU64, AtomicUsize, Mutex};

/// Where a key is looked for: its line by the low bits of its hash, itself by its tag. One word, so that
/// it is carried about in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot(u64);

impl Spot {
    #[inline(always)]
    pub fn of(hash: u64) -> Self {
        Self(mixed(hash))
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // the low half
    pub fn hash(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub fn tag(self) -> u8 {
        // The topmost bit tells a tag from an empty place.
        (self.0 >> 56) as u8 | 0x80
    }
}

/// Spreads over all bits what a hasher may have left in some: fast ones leave the lowest as they were
/// in the key, and those choose the line. (A folded product, by the golden ratio's bits.)
#[cfg(not(onceflight_shuttle))]
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // both halves of it
fn mixed(hash: u64) -> u64 {
    let product = u128::from(hash) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// Models choose the line of a key themselves.
#[cfg(onceflight_shuttle)]
fn mixed(hash: u64) -> u64 {
    hash
}

/// Lines of a new table.
#[cfg(not(onceflight_shuttle))]
pub(super) const FIRST: usize = 256;
/// Few enough to be made for each schedule, and to be grown past.
#[cfg(onceflight_shuttle)]
pub(super) const FIRST: usize = 2;
/// No hash tells more lines apart.
const SEGMENTS: usize = 24;

pub(super) struct Index<F: Form> {
    /// Doublings so far.
    level: AtomicUsize,
    /// Lines with more entries than fit.
    pub crowded: AtomicUsize,
    first: Box<[Apart<F>; FIRST]>,
    /// A bit for each of them: whether it may hold a completed response.
    marks: Marks,
    /// The lines after those, and their marks: each segment is as long as all before it.
    segments: [OnceCell<Segment<F>>; SEGMENTS],
    growing: Mutex<()>,
}

/// A line without a neighbour. With a line that is read a processor fetches the one beside it, and so takes from
/// another what that one has just written. The few lines of a small table all change hands all the time.
#[repr(align(128))]
struct Apart<F: Form>(Line<F>);

type Segment<F> = (Box<[Line<F>]>, Marks);
type Marks = Box<[AtomicU64]>;

fn marks(lines: usize) -> Marks {
    (0..lines.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()
}

impl<F: Form> Index<F> {
    pub fn new() -> Self {
        let first: Box<[Apart<F>]> = (0..FIRST).map(|_| Apart(Line::new(0))).collect();
        Self {
            level: AtomicUsize::new(0),
            crowded: AtomicUsize::new(0),
            first: first.try_into().ok().expect("as long as made"),
            marks: marks(FIRST),
            segments: [const { OnceCell::new() }; SEGMENTS],
            growing: Mutex::new(()),
        }
    }

    /// Lines, just now.
    pub fn len(&self) -> usize {
        FIRST << self.level.load(Ordering::Acquire)
    }

    /// The line of a hash, held.
    #[inline(always)]
    pub fn hold(&self, hash: u32) -> Guard<'_, F> {
        if self.level.load(Ordering::Acquire) == 0 {
            let line = self.first[hash as usize % FIRST].0.hold();
            if line.level() == 0 {
                return line;
            }
        }
        self.hold_among_more(hash)
    }

    #[inline(never)]
    fn hold_among_more(&self, hash: u32) -> Guard<'_, F> {
        loop {
            let level = self.level.load(Ordering::Acquire);
            let number = hash as usize & ((FIRST << level) - 1);
            let line = self.line(number).hold();
            if line.level() == level {
                return line;
            }
            drop(line);
            self.part(number, level);
        }
    }

    /// The line with that number, held; all are there if none were missed by who asks for
    /// 0..`len()` while the index doesn't grow.
    pub fn hold_line(&self, number: usize) -> Guard<'_, F> {
        self.hold(u32::try_from(number).unwrap_or(u32::MAX))
    }

    #[inline]
    fn line(&self, number: usize) -> &Line<F> {
        if let Some(Apart(line)) = self.first.get(number) {
            return line;
        }
        let segment = (number / FIRST).ilog2();
        &self.segment(segment).0[number - (FIRST << segment)]
    }

    fn segment(&self, segment: u32) -> &Segment<F> {
        self.segments[segment as usize].get().expect("filled before the level shows it")
    }

    /// The marks among which a line's is.
    fn marks(&self, number: usize) -> &AtomicU64 {
        let (marks, at) = if number < FIRST {
            (&self.marks, number)
        } else {
            let segment = (number / FIRST).ilog2();
            (&self.segment(segment).1, number - (FIRST << segment))
        };
        &marks[at / 64]
    }

    /// Notes that the line of that hash may hold a response from now on. With it held.
    pub fn mark_held(&self, line: &Guard<'_, F>, hash: u32) {
        self.mark(hash as usize & ((FIRST << line.level()) - 1));
    }

    fn mark(&self, number: usize) {
        let (marks, bit) = (self.marks(number), 1 << (number % 64));
        if marks.load(Ordering::Relaxed) & bit == 0 {
            marks.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Notes that a line holds no response. With that line held.
    pub fn unmark(&self, number: usize) {
        self.marks(number).fetch_and(!(1 << (number % 64)), Ordering::Relaxed);
    }

    /// The first line from that number on that may hold a response.
    pub fn marked_from(&self, mut number: usize) -> Option<usize> {
        while number < self.len() {
            let ahead = self.marks(number).load(Ordering::Relaxed) >> (number % 64);
            if ahead != 0 {
                return Some(number + ahead.trailing_zeros() as usize);
            }
            // Each segment's marks begin with a word of their own.
            let end = if number < FIRST { FIRST } else { FIRST << ((number / FIRST).ilog2() + 1) };
            number = ((number / 64 + 1) * 64).min(end);
        }
        None
    }

    /// Brings the line to that level, unless it is past it.
    #[cold]
    fn part(&self, number: usize, level: usize) {
        let Some(before) = level.checked_sub(1) else { return };
        let half = FIRST << before;
        let (low, high) = (number & (half - 1), (number & (half - 1)) + half);
        loop {
            let mut parent = self.line(low).hold();
            if parent.level() == UNBORN || parent.level() < before {
                drop(parent);
                self.part(low, before);
                continue;
            }
            if parent.level() == before {
                let mut twin = self.line(high).hold();
                if self.marks(low).load(Ordering::Relaxed) & 1 << (low % 64) != 0 {
                    self.mark(high);
                }
                parent.part(&mut twin, half, &self.crowded);
            }
            return;
        }
    }

    /// Doubles the index if it has become too crowded. Called with no line held.
    #[cold]
    pub fn grow(&self, closed: impl FnOnce() -> bool) {
        // Whoever comes while another makes the lines goes on: it has its place.
        let Some(_growing) = self.growing.try_lock() else { return };
        let level = self.level.load(Ordering::Acquire);
        let lines = FIRST << level;
        if closed() || level == SEGMENTS || !self.is_crowded() {
            return;
        }
        let more = (0..lines).map(|_| Line::new(UNBORN)).collect();
        let _ = self.segments[level].set((more, marks(lines)));
        self.level.store(level + 1, Ordering::Release);
    }

    /// Whether it is time to grow.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) > self.len() / 8
    }

    /// Waits for a growth that is under way; there is none after it if `closed` says so by then.
    pub fn settle(&self) {
        drop(self.growing.lock());
    }
}
