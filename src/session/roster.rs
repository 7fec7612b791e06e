//! Who has a session: found by name, kept in the order of last use.
//!
//! Sessions stand in chunks that a snapshot shares: [`Roster::share`] copies a pointer for each, and
//! a chunk is copied only if it changes while a snapshot still has it. The order of use is a list
//! through the slots, and the names are an index of slots; neither is part of a snapshot, which has
//! the [`stamp`](Session::stamp) of each session's last use instead.
//!
//! Nothing here walks the index, so the hasher's secret never shows: the order of sessions is that of
//! the calls alone.

use hashbrown::HashTable;
// Not std's: whether a chunk is shared is asked at each change, which costs it a compare-and-swap for
// the weak pointers that could be, and this one a load.
use triomphe::Arc;

use super::client::Session;
use crate::hash::SipState;
use crate::sync::Order;

/// Sessions a chunk: what is copied at once, and how many a snapshot takes by one pointer.
const CHUNK: usize = 32;

pub(super) struct Chunk([Option<Session>; CHUNK], Order);

impl Clone for Chunk {
    /// Out of the way of those that change a chunk which no snapshot has.
    #[cold]
    #[inline(never)]
    fn clone(&self) -> Self {
        Self(self.0.clone(), Order::default())
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.1.see();
    }
}

impl Chunk {
    /// Whoever shares it won't look at it any more.
    pub fn let_go(&self) {
        self.1.tell();
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.0.iter().flatten()
    }
}

/// Where a session stands.
pub(super) type Slot = u32;

/// No slot.
const NONE: Slot = Slot::MAX;

#[derive(Clone, Copy)]
struct Link {
    older: Slot,
    newer: Slot,
}

pub(super) struct Roster {
    chunks: Vec<Arc<Chunk>>,
    /// By slot. Of the free ones, `newer` is the next that is free.
    links: Vec<Link>,
    free: Slot,
    oldest: Slot,
    newest: Slot,
    /// The last stamp.
    pub uses: u64,
    names: HashTable<Slot>,
    hasher: SipState,
}

impl Roster {
    pub fn new() -> Self {
        Self {
            chunks: Vec::new(),
            links: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            uses: 0,
            names: HashTable::new(),
            hasher: SipState::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    #[inline(always)]
    pub fn find(&self, client: &[u8]) -> Option<Slot> {
        let hash = self.hasher.hash_bytes(client);
        self.names.find(hash, |&slot| self.get(slot).is_of(client)).copied()
    }

    #[inline]
    pub fn get(&self, slot: Slot) -> &Session {
        self.at(slot).expect("a slot in use")
    }

    /// Of a slot that may be free.
    #[inline]
    pub fn at(&self, slot: Slot) -> Option<&Session> {
        let (chunk, place) = spot(slot);
        self.chunks[chunk].0[place].as_ref()
    }

    #[inline(always)]
    pub fn get_mut(&mut self, slot: Slot) -> &mut Session {
        self.place(slot).as_mut().expect("a slot in use")
    }

    #[inline(always)]
    fn place(&mut self, slot: Slot) -> &mut Option<Session> {
        let (chunk, place) = spot(slot);
        &mut Arc::make_mut(&mut self.chunks[chunk]).0[place]
    }

    /// As the one used last. Nobody of that name has a session.
    pub fn insert(&mut self, session: Session) -> Slot {
        let slot = self.vacant();
        let hash = self.hasher.hash_bytes(session.client());
        *self.place(slot) = Some(session);
        let Self { names, chunks, hasher, .. } = self;
        names.insert_unique(hash, slot, |&slot| {
            let (chunk, place) = spot(slot);
            let session = chunks[chunk].0[place].as_ref();
            session.map_or(0, |session| hasher.hash_bytes(session.client()))
        });
        self.append(slot);
        slot
    }

    fn vacant(&mut self) -> Slot {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.links[slot as usize].newer;
            return slot;
        }
        let slot = self.links.len();
        if slot.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::new(Chunk([const { None }; CHUNK], Order::default())));
        }
        self.links.push(Link { older: NONE, newer: NONE });
        Slot::try_from(slot).expect("max_sessions has 32 bits")
    }

    pub fn remove(&mut self, slot: Slot) -> Session {
        self.unlink(slot);
        let session = self.place(slot).take().expect("a slot in use");
        self.links[slot as usize].newer = self.free;
        self.free = slot;
        let hash = self.hasher.hash_bytes(session.client());
        if let Ok(entry) = self.names.find_entry(hash, |&it| it == slot) {
            entry.remove();
        }
        session
    }

    /// Whose last use is the longest ago.
    #[inline]
    pub fn oldest(&self) -> Option<Slot> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Whose is the shortest ago.
    pub fn newest(&self) -> Option<Slot> {
        (self.newest != NONE).then_some(self.newest)
    }

    /// Makes it the one used last, at that time.
    #[inline(always)]
    pub fn touch(&mut self, slot: Slot, now: u64) -> &mut Session {
        if self.newest != slot {
            self.unlink(slot);
            self.append(slot);
        }
        self.uses += 1;
        let uses = self.uses;
        let session = self.get_mut(slot);
        session.last_used = now;
        session.stamp = uses;
        session
    }

    #[inline]
    fn unlink(&mut self, slot: Slot) {
        let Link { older, newer } = self.links[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }

    #[inline]
    fn append(&mut self, slot: Slot) {
        self.links[slot as usize] = Link { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.links[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    /// From the one whose last use is the longest ago.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let slot = (next != NONE).then_some(next)?;
            next = self.links[slot as usize].newer;
            Some(slot)
        })
    }

    /// In the same order.
    pub fn by_use(&self) -> impl Iterator<Item = &Session> {
        self.slots().map(|slot| self.get(slot))
    }

    /// All sessions as they are now, for as long as somebody wants to look at them.
    pub fn share(&self) -> Vec<Arc<Chunk>> {
        self.chunks.clone()
    }
}

#[inline]
fn spot(slot: Slot) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}
