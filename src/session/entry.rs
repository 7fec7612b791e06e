//! The entry that leads: it stands between its begin and its record, and nothing else does.
//!
//! `apply` does both in one, and so needn't write it down.

use super::builder::Limits;
use super::client::Session;
use super::reply::{Reply, too_large};
use super::request::SessionRequest;
use super::roster::Slot;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::response::Response;

/// The entry that leads and isn't recorded yet.
pub(super) struct Open {
    pub slot: Slot,
    pub incarnation: u64,
    pub seq: u64,
    pub digest: Option<Fingerprint>,
    /// A reply that it acknowledges.
    pub spare: Option<Reply>,
}

/// What a begin found, and where.
pub(super) enum Entered<'a> {
    Lead(Place<'a>),
    Replayed(Response),
}

/// Where an entry that leads belongs.
pub(super) struct Place<'a> {
    pub slot: Slot,
    pub session: &'a mut Session,
    pub limits: &'a Limits,
    pub spare: Option<Reply>,
    pub open: &'a mut Option<Open>,
}

impl<'a> Place<'a> {
    /// Opens the entry, until its record.
    #[inline(always)]
    pub fn open(&mut self, request: &SessionRequest<'_>) {
        let SessionRequest { incarnation, seq, digest, .. } = *request;
        let spare = self.spare.take();
        *self.open = Some(Open { slot: self.slot, incarnation, seq, digest, spare });
    }

    /// While it is executed: the entry is open only if that panics.
    #[inline(always)]
    pub fn executing<'e, 'r>(
        &'e mut self,
        request: &'e SessionRequest<'r>,
    ) -> Executing<'e, 'a, 'r> {
        Executing(self, request)
    }

    /// Keeps what it was executed with, or that it was.
    #[inline(always)]
    pub fn answer(
        self,
        seq: u64,
        digest: Option<&Fingerprint>,
        status: i32,
        data: &[u8],
    ) -> Result<Response, Error> {
        let Self { session, limits, spare, .. } = self;
        let len = data.len() as u64;
        if len > limits.max_response_len || len > limits.max_session_bytes - session.bytes() {
            session.put(seq, Reply::tombstone(status, digest));
            return Err(too_large());
        }
        let (reply, response) = Reply::over(spare, status, data, digest);
        session.put(seq, reply);
        Ok(response)
    }
}

/// See [`Place::executing`].
pub(super) struct Executing<'e, 'a, 'r>(&'e mut Place<'a>, &'e SessionRequest<'r>);

impl Drop for Executing<'_, '_, '_> {
    #[cold]
    fn drop(&mut self) {
        self.0.open(self.1);
    }
}
