//! A shard: a mutex over an index of records, and the counters that change with them.
//!
//! The state of a key is its record here; a key without one is vacant.
//!
//! | record | shown to `begin` as |
//! |-|-|
//! | `Flying` | in flight; or overdue, or orphaned: see `flight` |
//! | `Flying`, detached | nothing: `forget` hid it, only its lead still finds it |
//! | `Completed` | replayed until it expires, then vacant |
//!
//! Everything here happens under the shard's lock and calls no user code but a key's `Eq`. What
//! must follow once the lock is released is returned as an [`After`].

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hashbrown::HashTable;

use super::flight::{Cause, Flight, Followers, LeadId, Offer, Standing, Terms};
use super::seat::{Seat, Told, Verdict};
use super::stats::Stats;
use super::window::Completed;
use crate::clock;
use crate::sync::{AtomicU64, Mutex};

/// On cache lines of its own: neighbours must not slow each other down.
#[repr(align(128))]
pub(super) struct Shard<K, V> {
    pub state: Mutex<State<K, V>>,
    /// Outcomes read without the lock, counted without it.
    pub shared: AtomicU64,
    pub bypassed: AtomicU64,
    /// When the first of the shard's responses expires, in nanoseconds since the table was made;
    /// `u64::MAX` for none. Written under the lock, read by whoever looks for the soonest.
    pub soonest: AtomicU64,
}

impl<K, V> Shard<K, V> {
    pub fn new(number: usize) -> Self {
        Self {
            state: Mutex::new(State::new(number)),
            shared: AtomicU64::new(0),
            bypassed: AtomicU64::new(0),
            soonest: AtomicU64::new(u64::MAX),
        }
    }
}

pub(super) struct State<K, V> {
    pub records: HashTable<Record<K, V>>,
    /// Lead → hash of its key, for leads that are known by their id alone.
    pub names: HashMap<LeadId, u64>,
    /// What expires when, by time and then order of completion.
    pub expiry: BTreeMap<(Instant, u64), u64>,
    pub tally: Stats,
    pub closed: bool,
    ids: Ids,
    tickets: u64,
    completions: u64,
}

pub(super) struct Record<K, V> {
    pub hash: u64,
    pub key: StoredKey<K>,
    pub fingerprint: Option<Arc<[u8]>>,
    pub state: RecordState<K, V>,
}

pub(super) enum RecordState<K, V> {
    Flying(Flight<K, V>),
    Completed(Completed<V>),
}

/// A key stands in an `Arc` only where a weigher, which is user code, has to see it unlocked.
pub(crate) enum StoredKey<K> {
    Own(K),
    Shared(Arc<K>),
}

impl<K> StoredKey<K> {
    pub fn get(&self) -> &K {
        match self {
            Self::Own(key) => key,
            Self::Shared(key) => key,
        }
    }

    fn into_shared(self) -> Arc<K> {
        match self {
            Self::Own(key) => Arc::new(key),
            Self::Shared(key) => key,
        }
    }
}

impl<K, V> Record<K, V> {
    pub fn flight(&self) -> Option<&Flight<K, V>> {
        match &self.state {
            RecordState::Flying(flight) => Some(flight),
            RecordState::Completed(_) => None,
        }
    }

    pub fn flight_mut(&mut self) -> Option<&mut Flight<K, V>> {
        match &mut self.state {
            RecordState::Flying(flight) => Some(flight),
            RecordState::Completed(_) => None,
        }
    }

    pub fn numbered(&self, number: u64) -> bool {
        self.flight().is_some_and(|flight| flight.number == number)
    }

    /// Whether that lead holds it.
    pub fn led_by(&self, id: LeadId) -> bool {
        self.flight().is_some_and(|flight| flight.lead == Some(id))
    }

    fn standing(&self) -> Option<&Standing> {
        self.flight()?.standing.as_deref()
    }

    pub fn offers(&self, id: LeadId) -> bool {
        self.standing().is_some_and(|standing| standing.id == id)
    }

    /// Whether its lead is on offer to the follower in that seat.
    pub fn offered_to(&self, seat: &Arc<Seat>) -> bool {
        self.standing().is_some_and(|standing| Arc::ptr_eq(&standing.place.seat, seat))
    }

    pub fn visible_as<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.hash == hash
            && self.flight().is_none_or(|flight| !flight.detached)
            && self.key.get().borrow() == key
    }
}

/// What a transition leaves to be done once the shard is unlocked.
pub(super) struct After<K, V> {
    /// The followers of a flight that ended: each is told to look. The room goes here too, since
    /// the last hold on it drops the outcome, which is a user value.
    pub dismissed: Option<Box<Followers<K, V>>>,
    /// A follower that the lead was offered to.
    pub offer: Option<Offer>,
    /// An offer that was revoked.
    pub revoked: Option<(Arc<Seat>, LeadId)>,
    /// A follower whose time was up while it held an offer.
    pub timed_out: Option<Arc<Seat>>,
    /// Dropped unlocked: it holds user values.
    pub garbage: Option<Record<K, V>>,
}

impl<K, V> Default for After<K, V> {
    fn default() -> Self {
        Self { dismissed: None, offer: None, revoked: None, timed_out: None, garbage: None }
    }
}

impl<K, V> After<K, V> {
    /// Wakes whom the transition concerns. The shard must be unlocked.
    pub fn run(self) {
        if let Some((seat, id)) = self.revoked {
            seat.lapse(id);
        }
        if let Some(seat) = self.timed_out {
            seat.tell(Told::TimedOut);
        }
        if let Some(offer) = self.offer {
            offer.seat.tell(Told::Offer(offer.id));
        }
        for place in self.dismissed.iter().flat_map(|followers| followers.line.values()) {
            place.seat.tell(Told::Look);
        }
    }
}

impl<K, V> State<K, V> {
    fn new(number: usize) -> Self {
        Self {
            records: HashTable::new(),
            names: HashMap::new(),
            expiry: BTreeMap::new(),
            tally: Stats::default(),
            closed: false,
            ids: Ids { shard: number as u64, next: 0, end: 0 },
            tickets: 0,
            completions: 0,
        }
    }

    pub fn next_id(&mut self) -> LeadId {
        self.ids.next()
    }

    pub fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub fn next_completion(&mut self) -> u64 {
        self.completions += 1;
        self.completions
    }

    pub fn insert(&mut self, record: Record<K, V>) {
        self.tally.in_flight += 1;
        self.records.insert_unique(record.hash, record, |record| record.hash);
    }

    pub fn find_mut(
        &mut self,
        hash: u64,
        which: impl Fn(&Record<K, V>) -> bool,
    ) -> Option<&mut Record<K, V>> {
        self.records.find_mut(hash, which)
    }

    /// Takes a record out, and out of every count.
    pub fn remove(
        &mut self,
        hash: u64,
        which: impl Fn(&Record<K, V>) -> bool,
    ) -> Option<Record<K, V>> {
        let (record, _) = self.records.find_entry(hash, which).ok()?.remove();
        let (len, capacity) = (self.records.len(), self.records.capacity());
        if capacity > 1024 && len < capacity / 8 {
            // After a peak; seldom enough to cost nothing on the whole.
            self.records.shrink_to(len * 2, |record| record.hash);
            self.names.shrink_to(len * 2);
        }
        match &record.state {
            RecordState::Flying(flight) => {
                self.tally.in_flight -= 1;
                if let Some(id) = flight.lead {
                    self.names.remove(&id);
                }
            }
            RecordState::Completed(completed) => {
                self.expiry.remove(&(completed.expires, completed.seq));
            }
        }
        Some(record)
    }

    /// Ends a flight and makes its key vacant.
    pub fn end(
        &mut self,
        hash: u64,
        which: impl Fn(&Record<K, V>) -> bool,
        verdict: impl FnOnce() -> Verdict<K, V>,
    ) -> After<K, V> {
        let mut after = After::default();
        let Some(mut record) = self.remove(hash, which) else { return after };
        if let Some(flight) = record.flight_mut() {
            after.dismissed = dismiss(&mut self.tally, flight, verdict);
        }
        after.garbage = Some(record);
        after
    }

    /// Ends a detached flight without an outcome: its followers begin again, with its key.
    pub fn end_detached(
        &mut self,
        hash: u64,
        which: impl Fn(&Record<K, V>) -> bool,
    ) -> After<K, V> {
        let mut after = After::default();
        let Some(record) = self.remove(hash, which) else { return after };
        let Record { key, fingerprint, state, .. } = record;
        let RecordState::Flying(mut flight) = state else { return after };
        let key = key.into_shared();
        let again = Arc::clone(&key);
        let verdict = || Verdict::Restart(again, fingerprint.clone());
        after.dismissed = dismiss(&mut self.tally, &mut flight, verdict);
        // What is left of the flight goes with the record, unlocked.
        after.garbage = Some(Record {
            hash,
            key: StoredKey::Shared(key),
            fingerprint: None,
            state: RecordState::Flying(flight),
        });
        after
    }

    /// Has the followers of a detached flight begin again, and leaves it to its lead.
    pub fn restart_followers(
        &mut self,
        hash: u64,
        which: impl Fn(&Record<K, V>) -> bool,
    ) -> After<K, V> {
        let mut after = After::default();
        let Ok(found) = self.records.find_entry(hash, which) else { return after };
        let (Record { key, fingerprint, mut state, .. }, place) = found.remove();
        let key = key.into_shared();
        if let RecordState::Flying(flight) = &mut state {
            let verdict = || Verdict::Restart(Arc::clone(&key), fingerprint.clone());
            after.dismissed = dismiss(&mut self.tally, flight, verdict);
        }
        place.insert(Record { hash, key: StoredKey::Shared(key), fingerprint, state });
        after
    }

    /// Offers the lead of a flight to the next in line that `may` have it.
    pub fn promote(
        &mut self,
        hash: u64,
        number: u64,
        cause: Cause,
        may: impl Fn(&Terms) -> bool,
    ) -> Option<Offer> {
        let id = self.next_id();
        let found = self.records.find_mut(hash, |record| record.numbered(number))?;
        let offer = found.flight_mut()?.promote(id, cause, may)?;
        self.tally.waiting -= 1;
        Some(offer)
    }

    /// Takes back an offer that nobody accepted. Its follower keeps its place or, if it had its
    /// time, goes `to_back`; and away, if its deadline passed meanwhile.
    pub fn take_back(&mut self, hash: u64, number: u64, to_back: bool, after: &mut After<K, V>) {
        let last = self.next_ticket();
        let found = self.records.find_mut(hash, |record| record.numbered(number));
        let Some(flight) = found.and_then(Record::flight_mut) else { return };
        let Some(standing) = flight.standing.take() else { return };
        let Standing { id, place, .. } = *standing;
        if clock::passed(place.deadline) {
            self.tally.timeouts += 1;
            after.timed_out = Some(place.seat);
        } else if let Some(followers) = flight.followers.as_mut() {
            if to_back {
                place.seat.ticket.store(last, Ordering::Relaxed);
            }
            after.revoked = Some((Arc::clone(&place.seat), id));
            followers.line.insert(place.seat.ticket.load(Ordering::Relaxed), place);
            self.tally.waiting += 1;
        }
    }
}

/// Gives a flight's followers their outcome and empties its line. A follower with an unaccepted
/// offer gets it too. With no follower nothing is allocated and nobody is told.
pub(super) fn dismiss<K, V>(
    tally: &mut Stats,
    flight: &mut Flight<K, V>,
    verdict: impl FnOnce() -> Verdict<K, V>,
) -> Option<Box<Followers<K, V>>> {
    let mut followers = flight.followers.take()?;
    tally.waiting -= followers.line.len() as u64;
    if let Some(standing) = flight.standing.take() {
        followers.line.insert(0, standing.place);
    }
    if !followers.line.is_empty() {
        let _ = followers.room.outcome.set(verdict());
    }
    followers.room.leader.store(0, Ordering::Relaxed);
    Some(followers)
}

/// Lead ids: unique in the process, growing in each shard, and telling their shard.
struct Ids {
    shard: u64,
    next: u64,
    end: u64,
}

/// Low bits of an id: the shard.
pub(super) const SHARD_BITS: u32 = 10;

impl Ids {
    fn next(&mut self) -> LeadId {
        /// Drawn in blocks, so that shards seldom meet here. A `std` atomic even in models:
        /// which numbers come out changes nothing.
        static BLOCKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        const BLOCK: u64 = 64;
        if self.next == self.end {
            self.next = BLOCKS.fetch_add(BLOCK, Ordering::Relaxed);
            self.end = self.next + BLOCK;
        }
        let sequence = self.next;
        self.next += 1;
        // 54 bits of sequence: five centuries at a million leads a second.
        (sequence << SHARD_BITS) | self.shard
    }
}

#[cfg(feature = "capi")]
pub(super) fn shard_of(id: LeadId) -> usize {
    usize::try_from(id & ((1 << SHARD_BITS) - 1)).unwrap_or(usize::MAX)
}
