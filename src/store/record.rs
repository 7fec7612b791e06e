//! What a store keeps: its names, and what operators see of it.

use std::array;
use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::response::Response;

/// Names a record: a scope (whose it is: principal, route) and a key, compared whole.
///
/// Stores look records up by the [`id`](Self::id), which is a hash, and compare scope and key then.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecordKey {
    id: RecordId,
    scope: Box<[u8]>,
    key: Box<[u8]>,
}

impl RecordKey {
    /// The most bytes that a scope may have.
    pub const MAX_SCOPE: usize = 1024;

    /// The record of `key` in `scope`, both any bytes.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorKind::TooLarge): a scope of more than [`MAX_SCOPE`](Self::MAX_SCOPE)
    /// bytes.
    pub fn new(scope: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, Error> {
        let (scope, key) = (scope.as_ref(), key.as_ref());
        if scope.len() > Self::MAX_SCOPE {
            let detail =
                format!("a scope of {} bytes; {} are allowed", scope.len(), Self::MAX_SCOPE);
            return Err(Error::new(crate::ErrorKind::TooLarge, detail));
        }
        let id = RecordId(*Fingerprint::of([scope, key]).as_bytes());
        Ok(Self { id, scope: scope.into(), key: key.into() })
    }

    /// The hash that stores look it up by: the [`Fingerprint`] of scope and key under its public key.
    pub const fn id(&self) -> RecordId {
        self.id
    }

    /// Whose record it is.
    pub fn scope(&self) -> &[u8] {
        &self.scope
    }

    /// The key within the scope.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether a record found under this id is this one. Keys are compared whole, never by hash alone.
    ///
    /// # Errors
    /// [`Store`](crate::ErrorKind::Store) if it isn't: two keys with one hash can't both have a record.
    pub fn check(&self, scope: &[u8], key: &[u8]) -> Result<(), Error> {
        if *self.scope == *scope && *self.key == *key {
            return Ok(());
        }
        Err(Error::store(format!(
            "record {} belongs to another scope or key: two of them have the same hash, or the record is corrupt",
            self.id
        )))
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Sixteen bytes that a record is looked up by. As text: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub [u8; 16]);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).expect("digits"))
    }
}

impl RecordId {
    /// The text, as bytes.
    pub(crate) fn digits(self) -> [u8; 32] {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
        array::from_fn(|at| {
            digit(if at % 2 == 0 { self.0[at / 2] >> 4 } else { self.0[at / 2] & 15 })
        })
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for RecordId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hex = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let id = if hex { u128::from_str_radix(text, 16).ok() } else { None };
        id.map(|id| Self(id.to_be_bytes())).ok_or_else(|| {
            Error::new(crate::ErrorKind::Invalid, "a record's id has 32 hexadecimal digits")
        })
    }
}

/// Sixteen random bytes that make a claim its caller's, however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// What a record has whose lead was abandoned: no claim is ever drawn like it.
    pub const NOBODY: Self = Self([0; 16]);

    /// A new one, from the system's source of randomness.
    ///
    /// # Errors
    /// [`Store`](crate::ErrorKind::Store) if that fails.
    pub fn draw() -> Result<Self, Error> {
        let mut bytes = [0; 16];
        // Not a generator of ours: two processes must never draw the same, forks included.
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::store(format!("no randomness for a token: {error}")))?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a lead shows to settle: its token, and the epoch it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Whose claim it is.
    pub token: Token,
    /// Which of the record's leads.
    pub epoch: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordState {
    /// Somebody leads, or was lost doing so.
    InProgress,
    /// There is a response.
    Completed,
    /// A lead was cancelled and left something for its successor.
    Released,
}

/// A record as operators see it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose it is.
    pub key: RecordKey,
    /// What it is.
    pub state: RecordState,
    /// What says "the same payload".
    pub fingerprint: Option<Box<[u8]>>,
    /// The fence of its last lead.
    pub epoch: u64,
    /// Which attempt that was.
    pub attempt: u32,
    /// In progress: what is left of the lease. Zero: it has passed; `None`: there is none.
    pub lease_left: Option<Duration>,
    /// When it is forgotten; `None`: not by itself.
    pub expires_in: Option<Duration>,
    /// Completed: the response. Left out of lists.
    pub response: Option<Response>,
    /// What a lead left for its successor. Left out of lists.
    pub checkpoint: Option<Box<[u8]>>,
}
