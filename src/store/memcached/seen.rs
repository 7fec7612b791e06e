//! What this store object has seen of others' leads, and since when.
//!
//! memcached has no clock that could be asked, and other processes' clocks are theirs. So a lease is
//! taken for passed when the lead has said nothing for that long by this process's own monotonic clock:
//! whoever renews, changes the record's beat. The time counts from when an answer came to when a later
//! question went out, so that the server had the same version all the while.
//!
//! Bounded: of more than [`MOST`] records some are forgotten, which costs their observers one more
//! lease.

use std::collections::HashMap;

use crate::clock::{self, Moment, Span};
use crate::store::RecordId;
use crate::sync::Mutex;

const MOST: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<RecordId, Sight>>);

#[derive(Clone, Copy, Debug)]
struct Sight {
    version: Version,
    since: Moment,
}

/// What stands in a record as long as its lead says nothing. Not the server's number of the version:
/// who waits for the record changes that too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub epoch: u64,
    pub beat: u32,
}

impl Seen {
    /// For how long a record has been as it is, if it was asked for at `asked` and the answer is here.
    pub fn unchanged(&self, id: RecordId, version: Version, asked: Moment) -> Span {
        let mut seen = self.0.lock();
        if let Some(sight) = seen.get(&id).filter(|sight| sight.version == version) {
            return asked.saturating_sub(sight.since);
        }
        if seen.len() >= MOST
            && !seen.contains_key(&id)
            && let Some(any) = seen.keys().next().copied()
        {
            seen.remove(&any);
        }
        seen.insert(id, Sight { version, since: clock::now() });
        0
    }

    /// Nobody is led by any more.
    pub fn forget(&self, id: RecordId) {
        self.0.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Version = Version { epoch: 1, beat: 1 };

    fn id(number: u64) -> RecordId {
        RecordId(u128::from(number).to_be_bytes())
    }

    #[test]
    fn counts_from_the_answer_to_the_next_question() {
        let seen = Seen::default();
        let first = clock::now();
        assert_eq!(seen.unchanged(id(1), ONE, first), 0);
        // The same answer to a question from before the first one came says nothing.
        assert_eq!(seen.unchanged(id(1), ONE, first), 0);
        let later = clock::now() + 1000;
        let unchanged = seen.unchanged(id(1), ONE, later);
        assert!((1000..=later - first).contains(&unchanged));
    }

    #[test]
    fn any_change_begins_anew() {
        let seen = Seen::default();
        let later = || clock::now() + 1000;
        for version in [ONE, Version { beat: 2, ..ONE }, Version { epoch: 2, beat: 2 }] {
            assert_eq!(seen.unchanged(id(1), version, later()), 0);
            assert!(seen.unchanged(id(1), version, later()) > 0);
        }
        seen.forget(id(1));
        assert_eq!(seen.unchanged(id(1), ONE, later()), 0);
    }

    #[test]
    fn is_bounded() {
        let seen = Seen::default();
        for number in 0..2 * MOST as u64 {
            seen.unchanged(id(number), ONE, 0);
        }
        assert_eq!(seen.0.lock().len(), MOST);
    }
}
