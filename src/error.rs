//! One public [`Error`], told apart by its [`kind`](Error::kind).
//!
//! An error is cheap to clone, so that every follower of a flight can have it. Its text says what
//! happened and what to do about it; the kind is what a program decides on. The C ABI maps each
//! kind to one code, in one exhaustive match.

use std::borrow::Cow;
use std::fmt;

/// What went wrong, or why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument can't be used as it is.
    Invalid,
    /// The flight was still going on when the caller's time was up. The flight goes on.
    Timeout,
    /// This lead was settled before, or another leader has taken over. Nothing was changed.
    Stale,
    /// The leader cancelled, and the table hands that to every follower ([`OnCancel::FailAll`](crate::OnCancel)).
    Cancelled,
    /// The key is in use with another fingerprint: the same key, another payload.
    Mismatch,
    /// Waiting would never end: this thread, or a ring of threads, leads what it would wait for.
    WouldDeadlock,
    /// A limit of the table is reached: keys in flight, or followers of this key.
    Overloaded,
    /// The key, the response or the checkpoint is larger than the table allows.
    TooLarge,
    /// The table, or the queue, is closed.
    Closed,
    /// The process forked, and this object was made by the parent.
    Forked,
    /// The store failed or can't be reached. Nothing was executed on its word.
    Store,
    /// An earlier attempt may have happened, and the policy forbids taking over ([`OnLeaseExpired::Hold`](crate::OnLeaseExpired)).
    Unknown,
    /// This build has no such feature.
    Unsupported,
    /// The session has expired, was closed or pushed out, or never was.
    Expired,
    /// A later incarnation of this client has registered.
    Fenced,
    /// The sequence number is below the window: its response was acknowledged, and is gone.
    SeqStale,
    /// The sequence number is beyond the window. Nothing was executed.
    WindowFull,
    /// The sequence number is in use with another payload.
    Conflict,
    /// The request contradicts itself. Nothing was executed.
    Malformed,
    /// A snapshot of an unknown version, or one that is corrupt.
    Format,
}

impl ErrorKind {
    /// What to say when nothing more is known.
    const fn text(self) -> &'static str {
        match self {
            Self::Invalid => "invalid argument",
            Self::Timeout => {
                "the flight is still going on; wait longer, or do without its response"
            }
            Self::Stale => "this lead was settled already, or another leader has taken over",
            Self::Cancelled => {
                "the leader cancelled, and the table fails its followers; begin again"
            }
            Self::Mismatch => {
                "this key is in use with another fingerprint; a new payload needs a new key"
            }
            Self::WouldDeadlock => {
                "waiting would never end: this thread leads, directly or through others, what it would wait for"
            }
            Self::Overloaded => "a limit of the table is reached; raise it, or try again later",
            Self::TooLarge => "larger than the table's limit",
            Self::Closed => "closed",
            Self::Forked => {
                "made before a fork, by the parent process; open a new one in the child"
            }
            Self::Store => "the store failed or can't be reached; nothing was executed on its word",
            Self::Unknown => {
                "an earlier attempt may have happened; find out, then begin with the recover flag, or drop the key (forget; over a store evict)"
            }
            Self::Unsupported => "not in this build",
            Self::Expired => {
                "there is no such session (any more): whether earlier requests were executed can't be told; register anew"
            }
            Self::Fenced => "a later incarnation of this client has registered; this one is over",
            Self::SeqStale => "this sequence number was acknowledged, and its response is gone",
            Self::WindowFull => {
                "this sequence number is beyond the window; acknowledge earlier responses, then send it again"
            }
            Self::Conflict => {
                "this sequence number is in use with another payload; a new request needs a new one"
            }
            Self::Malformed => "the request contradicts itself; nothing was executed",
            Self::Format => "not a snapshot that this version reads, or a corrupt one",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a call has no outcome to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    detail: Option<Cow<'static, str>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: Some(detail.into()) }
    }

    /// The store failed: for implementations of [`Store`](crate::store::Store).
    #[cfg(feature = "store")]
    pub fn store(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Store, detail)
    }

    /// What a program decides on.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    #[cfg(feature = "capi")]
    pub(crate) fn into_detail(self) -> Cow<'static, str> {
        self.detail.unwrap_or(Cow::Borrowed(self.kind.text()))
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, detail: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().unwrap_or(self.kind.text()))
    }
}

impl std::error::Error for Error {}
