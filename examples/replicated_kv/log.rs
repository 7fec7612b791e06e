//! What a replica must remember: its ballot, a snapshot, and the entries after it.
//!
//! The file is a sequence of records, each `length: u32 LE, checksum: 16 bytes, payload`. A
//! snapshot's record begins the file anew; each later one is a [`Write`], as Raft asked for it.
//!
//! A record is durable before anything is said on its word, and before the next is written. So a
//! crash can only have torn the last one, and nobody was told of that: it is cut off when the log
//! is opened. Damage before a whole record is no crash's work, and refused: to cut there would
//! lose what was promised.

use super::disk::Disk;
use noraft::{LogEntries, LogEntry, LogIndex, LogPosition, Term};
use onceflight::Fingerprint;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::{fmt, io};

/// An entry's place: no two entries of a cluster have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub term: u64,
    pub index: u64,
}

/// What stands in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry<C> {
    /// A leader begins its term.
    Term(u64),
    /// A command, with the time by the clock of the leader that took it.
    Command { now_ms: u64, command: C },
}

/// The state machine after all entries up to a position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub position: Position,
    pub data: Vec<u8>,
}

/// The current term, and whom this node voted for in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    pub term: u64,
    pub voted_for: Option<u64>,
}

/// Entries that take the place of all that stood after `prev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suffix<C> {
    pub prev: Position,
    pub entries: Vec<Entry<C>>,
}

/// One step of what Raft wants remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write<C> {
    pub ballot: Ballot,
    pub suffix: Option<Suffix<C>>,
}

/// All that a log says.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered<C> {
    pub ballot: Ballot,
    pub snapshot: Snapshot,
    /// Those after the snapshot.
    pub entries: Vec<Entry<C>>,
    /// How many bytes a crash had left of a record that was being written.
    pub torn: usize,
}

/// The records of commands `C` on a disk.
pub struct Log<D, C> {
    disk: D,
    commands: PhantomData<C>,
}

/// Generic, so that it is written from references and read into values.
#[derive(Serialize, Deserialize)]
enum Record<S, W> {
    Snapshot(S),
    Write(W),
}

impl<D: Disk, C: Clone + Serialize + DeserializeOwned> Log<D, C> {
    /// Reads the log, and cuts off a record that a crash has torn.
    pub fn open(mut disk: D) -> io::Result<(Self, Recovered<C>)> {
        let bytes = disk.read()?;
        let mut found = Recovered {
            ballot: Ballot::default(),
            snapshot: Snapshot::default(),
            entries: Vec::new(),
            torn: 0,
        };
        let mut rest = bytes.as_slice();
        while let Some(payload) = next_record(&mut rest)? {
            found.replay(postcard::from_bytes(payload).map_err(|error| corrupt(&error))?)?;
        }
        if !rest.is_empty() {
            found.torn = rest.len();
            disk.replace(&bytes[..bytes.len() - rest.len()])?;
        }
        Ok((Self { disk, commands: PhantomData }, found))
    }

    /// Remembers one more step.
    pub fn append(&mut self, write: &Write<C>) -> io::Result<()> {
        self.disk.append(&record(&Record::<&Snapshot, _>::Write(write)))
    }

    /// Begins anew with a snapshot, and what stands after it.
    pub fn compact(&mut self, snapshot: &Snapshot, write: &Write<C>) -> io::Result<()> {
        let mut bytes = record(&Record::<_, &Write<C>>::Snapshot(snapshot));
        bytes.extend(record(&Record::<&Snapshot, _>::Write(write)));
        self.disk.replace(&bytes)
    }
}

impl<C> Recovered<C> {
    fn replay(&mut self, record: Record<Snapshot, Write<C>>) -> io::Result<()> {
        match record {
            Record::Snapshot(snapshot) => (self.snapshot, self.entries) = (snapshot, Vec::new()),
            Record::Write(Write { ballot, suffix }) => {
                self.ballot = ballot;
                let Some(suffix) = suffix else { return Ok(()) };
                let kept = suffix.prev.index.checked_sub(self.snapshot.position.index);
                let kept = kept.and_then(|kept| usize::try_from(kept).ok());
                let kept = kept.filter(|&kept| kept <= self.entries.len());
                self.entries.truncate(kept.ok_or_else(|| corrupt(&"a gap"))?);
                self.entries.extend(suffix.entries);
            }
        }
        Ok(())
    }
}

fn record(content: &impl Serialize) -> Vec<u8> {
    let payload = postcard::to_allocvec(content).expect("memory to write into");
    let length = u32::try_from(payload.len()).expect("a record below 4 GiB");
    [&length.to_le_bytes(), checksum(&payload).as_bytes().as_slice(), &payload].concat()
}

/// Takes a record's payload off `rest`. None: there is no further one, and what is left is torn.
fn next_record<'a>(rest: &mut &'a [u8]) -> io::Result<Option<&'a [u8]>> {
    if let Some((payload, tail)) = first_record(rest) {
        *rest = tail;
        return Ok(Some(payload));
    }
    // Whatever stands before a whole record was durable once.
    let whole = |at| first_record(&rest[at..]).is_some();
    if (1..rest.len()).any(whole) { Err(corrupt(&"a record's checksum")) } else { Ok(None) }
}

fn first_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = bytes.split_first_chunk::<4>()?;
    let (sum, bytes) = bytes.split_first_chunk::<16>()?;
    let (payload, tail) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (checksum(payload).as_bytes() == sum).then_some((payload, tail))
}

fn checksum(payload: &[u8]) -> Fingerprint {
    Fingerprint::of([payload])
}

fn corrupt(what: &dyn fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the log is corrupt: {what}"))
}

/// As Raft counts them, which knows nothing of what commands say.
pub fn raft_entries<C>(prev: Position, entries: &[Entry<C>]) -> LogEntries {
    let kinds = entries.iter().map(|entry| match entry {
        Entry::Term(term) => LogEntry::Term(Term::new(*term)),
        Entry::Command { .. } => LogEntry::Command,
    });
    LogEntries::from_iter(prev.into(), kinds)
}

impl From<Position> for LogPosition {
    fn from(position: Position) -> Self {
        Self { term: Term::new(position.term), index: LogIndex::new(position.index) }
    }
}

impl From<LogPosition> for Position {
    fn from(position: LogPosition) -> Self {
        Self { term: position.term.get(), index: position.index.get() }
    }
}
