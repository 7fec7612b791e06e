//! A table as it was at one moment, written while the next entries are applied; and back.
//!
//! A snapshot is a header, the sessions in the order of their last use, and a seal; `codec` has the
//! parts, byte by byte. Tables that have seen the same calls give the same bytes. A change to the format
//! is a new version, and what an older version wrote is read for ever.

use std::fmt;
use std::io::{self, Write};

use triomphe::Arc;

use super::SessionTable;
use super::client::Session;
use super::codec::{Header, Reader, Seal, format_error, read_session, write_session};
use super::roster::Chunk;
use crate::error::Error;

/// A [`SessionTable`] at one moment. What changes in the table meanwhile doesn't change it.
///
/// It shares its sessions with the table, which copies 32 of them when it first changes one that a
/// snapshot has. It may go to another thread, and outlive the table.
pub struct Snapshot {
    header: Header,
    chunks: Vec<Arc<Chunk>>,
}

/// As many bytes are handed on at once, or a session if it has more.
const PIECE: usize = 64 << 10;

impl Snapshot {
    /// Writes it. Takes a time and memory (8 bytes) for each session.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_to(&self, mut to: impl Write) -> io::Result<()> {
        let mut seal = Seal::new();
        let mut piece = Vec::with_capacity(PIECE);
        self.header.write(&mut piece);
        for session in self.by_use() {
            write_session(session, &mut piece);
            if piece.len() >= PIECE {
                seal.add(&piece);
                to.write_all(&piece)?;
                piece.clear();
            }
        }
        seal.add(&piece);
        piece.extend_from_slice(&seal.bytes());
        to.write_all(&piece)?;
        to.flush()
    }

    /// All its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.write_to(&mut bytes);
        debug_assert!(written.is_ok(), "memory takes what is written");
        bytes
    }

    /// How many sessions are in it.
    pub fn len(&self) -> usize {
        self.header.sessions as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn by_use(&self) -> Vec<&Session> {
        let mut sessions: Vec<_> = self.chunks.iter().flat_map(|chunk| chunk.sessions()).collect();
        sessions.sort_unstable_by_key(|session| session.stamp);
        sessions
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.chunks.iter().for_each(|chunk| chunk.let_go());
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("sessions", &self.len()).finish_non_exhaustive()
    }
}

impl SessionTable {
    /// The table as it is, to be written at leisure: a pointer is copied for each 32 sessions. It belongs
    /// into one snapshot with the state that the requests have changed.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): an entry is open.
    pub fn freeze(&self) -> Result<Snapshot, Error> {
        self.check_closed()?;
        Ok(Snapshot { header: self.header(), chunks: self.roster.share() })
    }

    pub(super) fn header(&self) -> Header {
        Header {
            limits: self.limits,
            sessions: u32::try_from(self.len()).expect("max_sessions has 32 bits"),
            clock: self.clock,
            registrations: self.registrations,
        }
    }

    /// The table that a snapshot was made of: it gives the same answers, and the same snapshot.
    ///
    /// # Errors
    /// [`Format`](crate::ErrorKind::Format): a version that this library doesn't know, or bytes that are
    /// no snapshot (any more). Whatever they are, it takes no more memory than their number allows.
    pub fn restore(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Reader::unseal_headed(bytes)?;
        let header = Header::read(&mut from)?;
        let mut table = Self::of(&header);
        for _ in 0..header.sessions {
            let session = read_session(&mut from, &header)?;
            table.take_back(session)?;
        }
        if !from.is_empty() {
            return Err(format_error("there is more than the sessions"));
        }
        Ok(table)
    }

    pub(super) fn of(header: &Header) -> Self {
        Self {
            clock: header.clock,
            registrations: header.registrations,
            ..Self::empty(header.limits)
        }
    }

    /// A session that was used after all that were taken back before it.
    pub(super) fn take_back(&mut self, mut session: Session) -> Result<(), Error> {
        let previous = self.roster.newest().map(|slot| self.roster.get(slot).last_used);
        if previous.is_some_and(|previous| session.last_used < previous) {
            return Err(format_error("sessions out of the order of their use"));
        }
        if self.roster.find(session.client()).is_some() {
            return Err(format_error("a client with two sessions"));
        }
        self.bytes += session.bytes();
        if self.bytes > self.limits.max_bytes {
            return Err(format_error("more bytes than max_bytes"));
        }
        self.due = self.due.min(self.expiry(session.last_used));
        self.roster.uses += 1;
        session.stamp = self.roster.uses;
        self.roster.insert(session);
        Ok(())
    }
}
