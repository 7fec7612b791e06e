//! What a leader completes with, where keys and responses are bytes: over a store, and in a session.

use std::fmt;

use crate::table::internal::Response as Block;

/// What a leader completed with: a status and bytes. They never change, and clones share them.
#[derive(Clone)]
pub struct Response(Block);

impl Response {
    /// A status of your choosing, and bytes, which are copied.
    ///
    /// # Panics
    /// With 4 GiB of data or more; every table's limit is below that.
    pub fn new(status: i32, data: &[u8]) -> Self {
        Self(Block::of(status, data, &[]))
    }

    /// Two holds on one, with a label beside the data, in the same allocation.
    pub(crate) fn twice(status: i32, data: &[u8], label: &[u8]) -> (Self, Self) {
        let (one, other) = Block::twice(status, data, label);
        (Self(one), Self(other))
    }

    /// Writes another one of the same lengths over it, if nobody else has it; a second hold on that.
    #[inline]
    pub(crate) fn rewrite(&mut self, status: i32, data: &[u8], label: &[u8]) -> Option<Self> {
        self.0.rewrite(status, data, label).map(Self)
    }

    pub(crate) fn label(&self) -> &[u8] {
        self.0.key()
    }

    /// The status that the leader gave.
    pub fn status(&self) -> i32 {
        self.0.status()
    }

    /// The bytes.
    pub fn data(&self) -> &[u8] {
        self.0.data()
    }

    #[cfg(feature = "capi")]
    pub(crate) fn into_block(self) -> Block {
        self.0
    }
}

impl PartialEq for Response {
    fn eq(&self, other: &Self) -> bool {
        self.status() == other.status() && self.data() == other.data()
    }
}

impl Eq for Response {}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.data().len();
        f.debug_struct("Response").field("status", &self.status()).field("len", &len).finish()
    }
}
