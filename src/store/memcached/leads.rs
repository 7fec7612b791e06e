//! What this store object has written for its own leads: a settle begins from that, and not with a look.
//!
//! The number of a version is as good as the process that counts it: one that was restarted counts from
//! the beginning, and may give another's record the number that a lost one had. So what was written is
//! only believed on a connection that was open before: as long as that lasts, so does the process.
//!
//! Bounded: of more than [`MOST`] leads some are forgotten, and records longer than [`LONGEST`] aren't
//! kept. Either costs a look.

use std::collections::HashMap;

use super::wire::Found;
use crate::clock::Moment;
use crate::store::Held;
use crate::sync::Mutex;

const MOST: usize = 8192;
/// In bytes.
const LONGEST: usize = 2048;

#[derive(Default)]
pub(super) struct Leads(Mutex<HashMap<Held, Lead>>);

/// A lead's record, as it was written.
pub(super) struct Lead {
    pub found: Found,
    /// No later than that.
    pub since: Moment,
}

impl Leads {
    pub fn keep(&self, held: Held, lead: Lead) {
        if lead.found.value.len() > LONGEST {
            return;
        }
        let mut leads = self.0.lock();
        if leads.len() >= MOST
            && let Some(any) = leads.keys().next().copied()
        {
            leads.remove(&any);
        }
        leads.insert(held, lead);
    }

    /// Whoever settles changes it, so it is good for once.
    pub fn take(&self, held: Held) -> Option<Lead> {
        self.0.lock().remove(&held)
    }
}
