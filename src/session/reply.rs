//! What was said to a request that was executed.

use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::response::Response;

/// One pointer; all of it stands in the response's block, whose label is the digest, if there is one.
/// Where the data couldn't be kept, that has one byte more.
#[derive(Clone, Debug)]
pub(super) struct Reply(Response);

/// The length of a label's mark that the data wasn't kept.
const MARK: usize = 1;

impl Reply {
    #[inline]
    pub fn kept(status: i32, data: &[u8], digest: Option<&Fingerprint>) -> (Self, Response) {
        let (response, told) = Response::twice(status, data, label(digest));
        (Self(response), told)
    }

    /// In place of one that isn't needed any more: replies of one client tend to have one length.
    #[inline(always)]
    pub fn over(
        spare: Option<Self>,
        status: i32,
        data: &[u8],
        digest: Option<&Fingerprint>,
    ) -> (Self, Response) {
        if let Some(mut reply) = spare
            && let Some(told) = reply.0.rewrite(status, data, label(digest))
        {
            return (reply, told);
        }
        Self::kept(status, data, digest)
    }

    #[cold]
    pub fn tombstone(status: i32, digest: Option<&Fingerprint>) -> Self {
        Self(Response::twice(status, &[], &[label(digest), &[0; MARK]].concat()).0)
    }

    pub fn is_tombstone(&self) -> bool {
        self.0.label().len() & MARK != 0
    }

    pub fn status(&self) -> i32 {
        self.0.status()
    }

    /// Of a tombstone, nothing.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.0.data()
    }

    /// Empty: there is none.
    pub fn digest(&self) -> &[u8] {
        let label = self.0.label();
        &label[..label.len() & !MARK]
    }

    /// What whoever asks is told.
    ///
    /// # Errors
    /// `TooLarge`: it is a tombstone.
    #[inline]
    pub fn response(&self) -> Result<Response, Error> {
        if self.is_tombstone() { Err(too_large()) } else { Ok(self.0.clone()) }
    }

    /// What a request with that digest is told.
    ///
    /// # Errors
    /// `Conflict`: its digest is another. `TooLarge`: it is a tombstone.
    #[inline]
    pub fn tell(&self, digest: Option<&Fingerprint>) -> Result<Response, Error> {
        if self.digest() == label(digest) {
            self.response()
        } else {
            Err(ErrorKind::Conflict.into())
        }
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
