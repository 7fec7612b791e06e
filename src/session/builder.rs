//! What a table of sessions is built with. All of it is replicated: every replica must have the same,
//! and a snapshot carries it.

use super::SessionTable;
use crate::error::{Error, ErrorKind};

/// The limits of a [`SessionTable`].
#[derive(Clone, Debug)]
pub struct Builder(pub(super) Limits);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub max_sessions: u32,
    pub window: u32,
    pub timeout: u64,
    pub max_response_len: u64,
    pub max_session_bytes: u64,
    pub max_bytes: u64,
}

/// The widest window.
pub(super) const MAX_WINDOW: u32 = 64;
/// A response's length has 32 bits.
const MAX_RESPONSE: u64 = 1 << 31;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 65_536,
            window: 16,
            timeout: 3_600_000,
            max_response_len: 1 << 20,
            max_session_bytes: 16 << 20,
            max_bytes: 256 << 20,
        }
    }
}

impl Limits {
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |detail: String| Err(Error::new(ErrorKind::Invalid, detail));
        if self.max_sessions == 0 || self.max_sessions == u32::MAX {
            return invalid(format!("max_sessions of {}: 1 to 4294967294", self.max_sessions));
        }
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return invalid(format!("a window of {}: 1 to {MAX_WINDOW}", self.window));
        }
        if self.timeout == 0 {
            return invalid("a timeout of 0 ms: sessions would expire at once".into());
        }
        if self.max_response_len > MAX_RESPONSE {
            return invalid(format!("max_response_len is {MAX_RESPONSE} at most"));
        }
        if self.max_session_bytes > self.max_bytes {
            return invalid(
                "max_session_bytes is more than max_bytes: one session may have all, not more"
                    .into(),
            );
        }
        Ok(())
    }
}

impl Builder {
    /// How many sessions there are at most (65,536). One more, and that whose last use is the longest
    /// ago goes.
    #[must_use]
    pub fn max_sessions(self, most: u32) -> Self {
        Self(Limits { max_sessions: most, ..self.0 })
    }

    /// W: how many requests a client may have in progress, 1 to 64 (16).
    #[must_use]
    pub fn window(self, window: u32) -> Self {
        Self(Limits { window, ..self.0 })
    }

    /// How long a session lives without being used, in milliseconds of the log's time (an hour).
    /// `u64::MAX`: sessions don't expire.
    #[must_use]
    pub fn timeout_ms(self, timeout: u64) -> Self {
        Self(Limits { timeout, ..self.0 })
    }

    /// The longest response that is kept, in bytes (1 MiB). Of a longer one it is only known that it
    /// was given.
    #[must_use]
    pub fn max_response_len(self, most: usize) -> Self {
        Self(Limits { max_response_len: most as u64, ..self.0 })
    }

    /// How many bytes of responses a session keeps at most (16 MiB). One that doesn't fit is like one
    /// that is too long.
    #[must_use]
    pub fn max_session_bytes(self, most: usize) -> Self {
        Self(Limits { max_session_bytes: most as u64, ..self.0 })
    }

    /// How many bytes of responses all sessions keep at most (256 MiB). Past that, whole sessions go,
    /// those whose last use is the longest ago first.
    #[must_use]
    pub fn max_bytes(self, most: usize) -> Self {
        Self(Limits { max_bytes: most as u64, ..self.0 })
    }

    /// The table, empty.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): a limit out of its range.
    pub fn build(self) -> Result<SessionTable, Error> {
        self.0.check()?;
        Ok(SessionTable::empty(self.0))
    }
}
