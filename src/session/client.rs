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
//! The floor only rises. Replies stand at seq modulo the ring's length, which grows to what the client
//! uses of its window: a client that waits for each reply has room for one.

use super::name::Name;
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::response::Response;

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
    ring: Box<[Option<Reply>]>,
}

/// What was said to a request that was executed. The digest is the response's label.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub response: Response,
    /// Its data is gone: it is replayed as an error.
    pub too_large: bool,
}

impl Reply {
    pub fn kept(status: i32, data: &[u8], digest: Option<&Fingerprint>) -> Self {
        Self { response: Response::labelled(status, data, label(digest)), too_large: false }
    }

    pub fn tombstone(status: i32, digest: Option<&Fingerprint>) -> Self {
        Self { response: Response::labelled(status, &[], label(digest)), too_large: true }
    }

    /// What a request with that digest is told.
    #[inline]
    pub fn tell(&self, digest: Option<&Fingerprint>) -> Result<Response, Error> {
        if self.response.label() != label(digest) {
            return Err(ErrorKind::Conflict.into());
        }
        if self.too_large {
            return Err(too_large());
        }
        Ok(self.response.clone())
    }
}

#[inline]
fn label(digest: Option<&Fingerprint>) -> &[u8] {
    digest.map_or(&[], |digest| digest.as_bytes())
}

#[cold]
pub(super) fn too_large() -> Error {
    let detail = "executed, but the response was too large to be kept; it won't be executed again";
    Error::new(ErrorKind::TooLarge, detail)
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
            ring: Box::default(),
        }
    }

    #[inline]
    pub fn client(&self) -> &[u8] {
        self.client.get()
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
        Ok(if ahead < self.ring.len() as u64 { self.ring[self.spot(seq)].as_ref() } else { None })
    }

    /// Forgets what is acknowledged. Tells how many bytes of data went.
    #[inline]
    pub fn raise_floor(&mut self, to: u64) -> u64 {
        if to <= self.floor {
            return 0;
        }
        let before = self.bytes;
        let gone = (to - self.floor).min(self.ring.len() as u64);
        for seq in self.floor..self.floor + gone {
            let spot = self.spot(seq);
            if let Some(reply) = self.ring[spot].take() {
                self.bytes -= reply.response.data().len() as u64;
            }
        }
        self.floor = to;
        before - self.bytes
    }

    /// Of a sequence number in the window that has none.
    pub fn put(&mut self, seq: u64, reply: Reply, window: u32) {
        let ahead = seq - self.floor;
        if ahead >= self.ring.len() as u64 {
            self.grow(ahead, window);
        }
        self.bytes += reply.response.data().len() as u64;
        let spot = self.spot(seq);
        self.ring[spot] = Some(reply);
    }

    #[cold]
    fn grow(&mut self, ahead: u64, window: u32) {
        let len = (ahead + 1).next_power_of_two().min(u64::from(window));
        let mut ring: Vec<Option<Reply>> = Vec::new();
        ring.resize_with(usize::try_from(len).expect("a window of 64 at most"), || None);
        for seq in self.floor..self.floor.saturating_add(self.ring.len() as u64) {
            let spot = self.spot(seq);
            let to = usize::try_from(seq % len).expect("less than 64");
            ring[to] = self.ring[spot].take();
        }
        self.ring = ring.into_boxed_slice();
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // less than 64
    fn spot(&self, seq: u64) -> usize {
        (seq % self.ring.len() as u64) as usize
    }

    /// All replies, in the order of their sequence numbers, which come along.
    pub fn replies(&self) -> impl Iterator<Item = (u64, &Reply)> {
        let past = self.floor.saturating_add(self.ring.len() as u64);
        (self.floor..past).filter_map(|seq| Some((seq, self.ring[self.spot(seq)].as_ref()?)))
    }
}
