//! One client's session: the window of sequence numbers, and the replies in it.
//!
//! | seq | what is known | begin says |
//! |-|-|-|
//! | below the floor | acknowledged; the reply is gone | `SeqStale` |
//! | in the window, no reply | never executed | leads |
//! | in the window, kept | executed, with this response | `Replayed`; `Conflict` for another digest |
//! | in the window, too large | executed; the response couldn't be kept | `TooLarge`; `Conflict` for another digest |
//! | floor + W or above | never executed | `WindowFull` |
//!
//! The floor only rises. The ring of replies grows to what the client uses of its window: a client that
//! waits for each reply has room for one.

use super::name::Name;
use super::reply::Reply;
use super::ring::Ring;
use crate::error::{Error, ErrorKind};

#[derive(Clone, Debug)]
pub(super) struct Session {
    client: Name,
    /// What it registered with. `None`: implicitly, by its first request.
    pub nonce: Option<Name>,
    pub incarnation: u64,
    /// Logical time, in milliseconds.
    pub last_used: u64,
    /// Which use of the table that was: the order of use.
    pub stamp: u64,
    /// The lowest sequence number that isn't acknowledged.
    floor: u64,
    /// The data of all replies.
    bytes: u64,
    ring: Ring,
}

impl Session {
    pub fn new(client: &[u8], nonce: Option<&[u8]>, incarnation: u64) -> Self {
        Self {
            client: Name::new(client),
            nonce: nonce.map(Name::new),
            incarnation,
            last_used: 0,
            stamp: 0,
            floor: 1,
            bytes: 0,
            ring: Ring::One(None),
        }
    }

    #[inline]
    pub fn client(&self) -> &[u8] {
        self.client.get()
    }

    #[inline]
    pub fn is_of(&self, client: &[u8]) -> bool {
        self.client.is(client)
    }

    pub fn into_client(self) -> Name {
        self.client
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether this is the incarnation meant. `0` is the implicit form's.
    #[inline]
    pub fn check(&self, incarnation: u64) -> Result<(), Error> {
        match incarnation {
            it if it == self.incarnation => Ok(()),
            0 if self.nonce.is_none() => Ok(()),
            it if it < self.incarnation => Err(ErrorKind::Fenced.into()),
            _ => Err(ErrorKind::Expired.into()),
        }
    }

    /// What is known of a sequence number, within a window of `window`.
    #[inline]
    pub fn look(&self, seq: u64, window: u32) -> Result<Option<&Reply>, Error> {
        let ahead = seq.checked_sub(self.floor).ok_or(ErrorKind::SeqStale)?;
        if ahead >= u64::from(window) {
            return Err(ErrorKind::WindowFull.into());
        }
        Ok(if ahead < self.ring.len() { self.ring.get(seq) } else { None })
    }

    /// Forgets what is acknowledged. Tells how many bytes of data went, and gives the last of it back.
    #[inline(always)]
    pub fn raise_floor(&mut self, to: u64) -> (u64, Option<Reply>) {
        let (before, mut spare) = (self.bytes, None);
        for seq in self.floor..to.min(self.end()) {
            if let Some(reply) = self.ring.take(seq) {
                self.bytes -= reply.data().len() as u64;
                spare = Some(reply);
            }
        }
        self.floor = self.floor.max(to);
        (before - self.bytes, spare)
    }

    /// The first number that the ring has no room for.
    #[inline]
    fn end(&self) -> u64 {
        self.floor.saturating_add(self.ring.len())
    }

    /// Of a sequence number in the window that has none.
    #[inline(always)]
    pub fn put(&mut self, seq: u64, reply: Reply) {
        if seq >= self.end() {
            self.ring.grow(self.floor, seq - self.floor + 1);
        }
        self.bytes += reply.data().len() as u64;
        self.ring.put(seq, reply);
    }

    /// All replies, in the order of their sequence numbers, which come along.
    pub fn replies(&self) -> impl Iterator<Item = (u64, &Reply)> {
        (self.floor..self.end()).filter_map(|seq| Some((seq, self.ring.get(seq)?)))
    }
}
