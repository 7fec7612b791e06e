//! Bytes and back: the parts that snapshots and rows consist of. All numbers are little-endian.
//!
//! A header, of 72 bytes:
//!
//! | offset | bytes | what |
//! |-|-|-|
//! | 0 | 8 | `1flight` and a line feed |
//! | 8 | 4 | the version: 1 |
//! | 12 | 4 | W, the window |
//! | 16 | 4 | `max_sessions` |
//! | 20 | 4 | how many sessions there are |
//! | 24 | 8 | the timeout, in milliseconds |
//! | 32, 40, 48 | 8 each | `max_response_len`, `max_session_bytes`, `max_bytes` |
//! | 56 | 8 | the log's time, in milliseconds |
//! | 64 | 8 | the last incarnation |
//!
//! A session:
//!
//! | bytes | what |
//! |-|-|
//! | 1, n | the client's name: its length, its bytes |
//! | 1 | 1 if it registered, 0 if its first request did |
//! | 1, n | if it registered: the nonce's length, its bytes |
//! | 8 | the incarnation |
//! | 8 | when it was used last, in milliseconds of the log's time |
//! | 8 | the floor |
//! | 1 | how many replies there are |
//! | … | the replies, in the order of their numbers |
//!
//! A reply:
//!
//! | bytes | what |
//! |-|-|
//! | 1 | its number, from the floor on |
//! | 1 | 1: there is a digest; 2: it was too large, so there is no data; 3: both; 0: neither |
//! | 4 | the status |
//! | 16 | the digest, if there is one |
//! | 4, n | if it wasn't too large: the data's length, the data |
//!
//! A seal, at the end of what stands alone: the SipHash-2-4, with a key of zeros, of all before it, 8
//! bytes.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::MAX_NAME;
use super::builder::Limits;
use super::client::Session;
use super::reply::Reply;
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;

const MAGIC: &[u8; 8] = b"1flight\n";
const VERSION: u32 = 1;

/// Numbers that only count what has happened don't get there: from below it, they never overflow.
pub(super) const MANY: u64 = 1 << 63;

const DIGEST: u8 = 1;
const TOO_LARGE: u8 = 2;

/// What a snapshot says before the sessions.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub limits: Limits,
    pub sessions: u32,
    pub clock: u64,
    pub registrations: u64,
}

impl Header {
    pub fn write(&self, to: &mut Vec<u8>) {
        let Limits { max_sessions, window, timeout, .. } = self.limits;
        to.extend_from_slice(MAGIC);
        for number in [VERSION, window, max_sessions, self.sessions] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        let Limits { max_response_len, max_session_bytes, max_bytes, .. } = self.limits;
        let numbers = [timeout, max_response_len, max_session_bytes, max_bytes];
        for number in numbers.into_iter().chain([self.clock, self.registrations]) {
            to.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub fn read(from: &mut Reader<'_>) -> Result<Self, Error> {
        from.version()?;
        let (window, max_sessions, sessions) = (from.u32()?, from.u32()?, from.u32()?);
        let limits = Limits {
            max_sessions,
            window,
            timeout: from.u64()?,
            max_response_len: from.u64()?,
            max_session_bytes: from.u64()?,
            max_bytes: from.u64()?,
        };
        let header = Self { limits, sessions, clock: from.u64()?, registrations: from.u64()? };
        limits.check().map_err(|error| format_error(error.to_string()))?;
        if header.registrations >= MANY {
            return Err(format_error("more registrations than a table can have seen"));
        }
        if sessions > max_sessions {
            return Err(format_error("more sessions than max_sessions"));
        }
        Ok(header)
    }
}

pub(super) fn write_session(session: &Session, to: &mut Vec<u8>) {
    write_name(session.client(), to);
    match &session.nonce {
        None => to.push(0),
        Some(nonce) => {
            to.push(1);
            write_name(nonce.get(), to);
        }
    }
    for number in [session.incarnation, session.last_used, session.floor()] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    let count = to.len();
    to.push(0);
    for (seq, reply) in session.replies() {
        to[count] += 1;
        write_reply(seq - session.floor(), reply, to);
    }
}

#[allow(clippy::cast_possible_truncation)] // names have 255 bytes at most
fn write_name(name: &[u8], to: &mut Vec<u8>) {
    debug_assert!(name.len() <= MAX_NAME);
    to.push(name.len() as u8);
    to.extend_from_slice(name);
}

#[allow(clippy::cast_possible_truncation)] // a window has 64 numbers at most, a response 2^31 bytes
fn write_reply(ahead: u64, reply: &Reply, to: &mut Vec<u8>) {
    let (digest, data, tombstone) = (reply.digest(), reply.data(), reply.is_tombstone());
    let kind = if digest.is_empty() { 0 } else { DIGEST } | if tombstone { TOO_LARGE } else { 0 };
    to.extend_from_slice(&[ahead as u8, kind]);
    to.extend_from_slice(&reply.status().to_le_bytes());
    to.extend_from_slice(digest);
    if !tombstone {
        to.extend_from_slice(&(data.len() as u32).to_le_bytes());
        to.extend_from_slice(data);
    }
}

/// A session that such a table can have.
pub(super) fn read_session(from: &mut Reader<'_>, header: &Header) -> Result<Session, Error> {
    let Header { limits, clock, registrations, .. } = header;
    let client = from.name()?;
    let nonce = match from.u8()? {
        0 => None,
        1 => Some(from.name()?),
        _ => return Err(format_error("a session neither registers nor doesn't")),
    };
    let mut session = Session::new(client, nonce, from.u64()?);
    session.last_used = from.u64()?;
    let floor = from.u64()?;
    session.raise_floor(floor);
    if session.incarnation == 0 || session.incarnation > *registrations {
        return Err(format_error("an incarnation that was never given"));
    }
    if session.last_used > *clock {
        return Err(format_error("a session was used later than now"));
    }
    if floor == 0 || floor == u64::MAX {
        return Err(format_error("a floor that is no sequence number"));
    }
    let mut least = 0;
    for _ in 0..from.u8()? {
        let ahead = u64::from(from.u8()?);
        if ahead < least || ahead >= limits.window.into() || u64::MAX - floor <= ahead {
            return Err(format_error("a reply out of its window, or out of order"));
        }
        least = ahead + 1;
        let reply = read_reply(from, limits)?;
        if reply.data().len() as u64 > limits.max_session_bytes - session.bytes() {
            return Err(format_error("a session with more bytes than max_session_bytes"));
        }
        session.put(floor + ahead, reply);
    }
    Ok(session)
}

fn read_reply(from: &mut Reader<'_>, limits: &Limits) -> Result<Reply, Error> {
    let kind = from.u8()?;
    if kind & !(DIGEST | TOO_LARGE) != 0 {
        return Err(format_error("a reply of an unknown kind"));
    }
    let status = from.u32()?.cast_signed();
    let digest = if kind & DIGEST == 0 { None } else { Some(Fingerprint::from(from.array()?)) };
    if kind & TOO_LARGE != 0 {
        return Ok(Reply::tombstone(status, digest.as_ref()));
    }
    let len = from.u32()?;
    if u64::from(len) > limits.max_response_len {
        return Err(format_error("a response longer than max_response_len"));
    }
    Ok(Reply::kept(status, from.take(len as usize)?, digest.as_ref()).0)
}

/// The hash of bytes that come in pieces.
pub(super) struct Seal(SipHasher24);

const SEAL: usize = 8;

impl Seal {
    pub fn new() -> Self {
        Self(SipHasher24::new())
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub fn bytes(&self) -> [u8; SEAL] {
        self.0.finish().to_le_bytes()
    }
}

/// Puts the seal to what stands alone.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut seal = Seal::new();
    seal.add(&bytes);
    bytes.extend_from_slice(&seal.bytes());
    bytes
}

/// What is read, front to back.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of bytes that a header begins: it tells the version, and what is newer may be sealed otherwise.
    pub fn unseal_headed(bytes: &'a [u8]) -> Result<Self, Error> {
        Self(bytes).version()?;
        Self::unseal(bytes, "it")
    }

    fn version(&mut self) -> Result<(), Error> {
        if self.take(MAGIC.len())? != MAGIC {
            return Err(format_error("it doesn't begin as one"));
        }
        match self.u32()? {
            VERSION => Ok(()),
            version => Err(format_error(format!(
                "it is of version {version}, and this library reads {VERSION}: upgrade it"
            ))),
        }
    }

    /// Of bytes that end with a seal, which must be theirs.
    pub fn unseal(bytes: &'a [u8], what: &str) -> Result<Self, Error> {
        let cut_off = || format_error(format!("{what} is cut off"));
        let (body, found) = bytes.split_last_chunk::<SEAL>().ok_or_else(cut_off)?;
        let mut seal = Seal::new();
        seal.add(body);
        if seal.bytes() != *found {
            return Err(format_error(format!(
                "{what} is cut off or corrupt: its seal isn't its own"
            )));
        }
        Ok(Self(body))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, rest) =
            self.0.split_at_checked(len).ok_or_else(|| format_error("it is cut off"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N).map(|bytes| bytes.try_into().expect("as many as were taken"))
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u8()?;
        self.take(len.into())
    }
}

/// Not a snapshot, and why.
#[cold]
pub(super) fn format_error(why: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Format, format!("no snapshot of sessions: {}", why.as_ref()))
}
