//! Checkpoints of a lead for whoever doesn't have it in hand: the HTTP handler, whose lead settles itself.

use std::fmt;
use std::sync::{Arc, Weak};

use super::shared::Shared;
use crate::error::{Error, ErrorKind};

/// Where a lead's checkpoint can be left. It keeps neither the lead nor its table: past the settle, or
/// without the table, the lead is stale.
#[derive(Clone)]
pub(crate) struct Checkpoints {
    shared: Weak<Shared>,
    lead: u64,
}

impl Checkpoints {
    pub(super) fn of(shared: &Arc<Shared>, lead: u64) -> Self {
        Self { shared: Arc::downgrade(shared), lead }
    }

    /// [`Lead::set_checkpoint`](super::Lead::set_checkpoint).
    pub fn set(&self, data: &[u8]) -> Result<(), Error> {
        let shared = self.shared.upgrade().ok_or(ErrorKind::Stale)?;
        shared.checkpoint(self.lead, data)
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").finish_non_exhaustive()
    }
}
