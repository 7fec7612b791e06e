//! What a client sends with each request.

use super::MAX_NAME;
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;

/// Which request of which client this is, and what the client has received so far.
///
/// All of it comes from the client, and the log carries it: every replica must see the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRequest<'a> {
    pub(super) client: &'a [u8],
    pub(super) incarnation: u64,
    pub(super) seq: u64,
    pub(super) ack: u64,
    pub(super) digest: Option<Fingerprint>,
}

impl<'a> SessionRequest<'a> {
    /// Request number `seq` (from 1 on) of the incarnation that
    /// [`register`](super::SessionTable::register) gave this client.
    pub fn new(client: &'a [u8], incarnation: u64, seq: u64) -> Self {
        Self { client, incarnation, seq, ack: 0, digest: None }
    }

    /// Of a client that doesn't register: its request number 1 does. Without [`ack`](Self::ack), the
    /// window follows the highest number: a client that waits for each reply needs to say no more.
    ///
    /// Weaker than a registered session: a request number 1 that comes again after the session has
    /// expired is executed again, and two clients of one name aren't told apart.
    pub fn implicit(client: &'a [u8], seq: u64) -> Self {
        Self::new(client, 0, seq)
    }

    /// The lowest number that the client has no reply of; what is below is forgotten. At most `seq`.
    /// Zero, the default, says nothing.
    #[must_use]
    pub fn ack(self, ack: u64) -> Self {
        Self { ack, ..self }
    }

    /// What tells this payload from another under the same number: a [`Fingerprint`] of it, or any
    /// sixteen bytes.
    #[must_use]
    pub fn digest(self, digest: impl Into<Fingerprint>) -> Self {
        Self { digest: Some(digest.into()), ..self }
    }

    /// Who sends it.
    pub fn client(&self) -> &'a [u8] {
        self.client
    }

    /// Which registration of that client; 0: the implicit form.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Its number.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether a client can have sent it.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Error> {
        let Self { client, seq, ack, .. } = *self;
        let good = client.len() <= MAX_NAME && (1..u64::MAX).contains(&seq) && ack <= seq;
        if good { Ok(()) } else { Err(self.malformed()) }
    }

    /// A name too long too, and not `TooLarge`: that says that it was executed.
    #[cold]
    fn malformed(&self) -> Error {
        let detail = match *self {
            Self { client, .. } if client.len() > MAX_NAME => {
                format!("a client of {} bytes; {MAX_NAME} are allowed", client.len())
            }
            Self { seq: 0, .. } => "a sequence number of 0: they start at 1".to_owned(),
            Self { seq: u64::MAX, .. } => {
                format!("a sequence number of {}: that is past the end", u64::MAX)
            }
            Self { seq, ack, .. } => format!(
                "request {seq} acknowledges all below {ack}: a client can't have received what it hasn't sent"
            ),
        };
        Error::new(ErrorKind::Malformed, detail)
    }
}
