//! A record as one value of memcached's: what stands in it, byte by byte.
//!
//! | bytes | what |
//! |-|-|
//! | 1 | version of this format: 1 |
//! | 1 | state: 0 in progress, 1 completed, 2 released, 3 gone |
//! | 16 | token of the last lead |
//! | 8 | its epoch |
//! | 4 | its attempt |
//! | 8 | its lease in ns; all ones: none |
//! | 8 | how long past its lease it is remembered, in ns; all ones: until it is settled |
//! | 8 | when it expires, in µs since 1970; all ones: never, or not yet known |
//! | 4 | status of the response |
//! | 4 | how often the lead has said that it lives, or anything else |
//! | 1 | 1 if somebody waits elsewhere |
//! | 5 × (4 + n) | scope, key, fingerprint, checkpoint, body: the length, then the bytes; a length of all ones: there is none |
//! | 16 | the [`Fingerprint`] of all that stands before |
//!
//! Numbers are little-endian. Nothing follows the checksum. A value that isn't exactly so is
//! refused: cut off, changed on its way, or written by somebody else.

use std::time::Duration;

use super::wall;
use crate::clock::{self, ENDLESS, Span};
use crate::fingerprint::Fingerprint;
use crate::store::{GRACE, Held, RecordKey, RecordState, Response, Token};

const VERSION: u8 = 1;
const NONE: u32 = u32::MAX;
const CHECKSUM: usize = 16;
/// From here on memcached takes a duration for a time.
const RELATIVE: i32 = 30 * 24 * 3600;
/// In the order of their numbers.
const STATES: [Option<RecordState>; 4] = [
    Some(RecordState::InProgress),
    Some(RecordState::Completed),
    Some(RecordState::Released),
    None,
];

/// A record; its bytes are somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// `None`: gone. Nothing is left but an epoch to go on from: it was cancelled, forgotten or evicted.
    pub state: Option<RecordState>,
    pub held: Held,
    pub attempt: u32,
    /// How long the lead is safe after each write of the record.
    pub lease: Span,
    /// How long past that.
    pub keep: Span,
    /// By the wall clock. [`wall::NEVER`] while in progress: there the lease and `keep` say.
    pub expires: wall::Time,
    pub status: i32,
    /// Changed by the lead alone, so whoever looks knows that it lives.
    pub beat: u32,
    /// Whether somebody waits elsewhere.
    pub watched: bool,
    pub scope: &'a [u8],
    pub key: &'a [u8],
    pub fingerprint: Option<&'a [u8]>,
    pub checkpoint: Option<&'a [u8]>,
    pub body: Option<&'a [u8]>,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Of a later release's format.
    Version(u8),
    Corrupt,
}

impl<'a> Item<'a> {
    /// An epoch, and that there is nothing else.
    pub fn gone(key: &'a RecordKey, held: Held) -> Self {
        Self {
            state: None,
            held,
            attempt: 0,
            lease: 0,
            keep: 0,
            expires: 0,
            status: 0,
            beat: 0,
            watched: false,
            scope: key.scope(),
            key: key.key(),
            fingerprint: None,
            checkpoint: None,
            body: None,
        }
    }

    /// When the server may drop what is written now, in memcached's terms.
    pub fn exptime(&self) -> i32 {
        match self.state {
            // Never by this process's wall clock: one that is behind would have a lead dropped at once.
            Some(RecordState::InProgress) => match exptime(self.lease.saturating_add(self.keep)) {
                RELATIVE.. => 0,
                seconds => seconds,
            },
            _ => exptime(wall::until(self.expires)),
        }
    }

    /// Whether it counts as gone, if a record in progress has stood unchanged for so long.
    pub fn is_expired(&self, unchanged: Span) -> bool {
        match self.state {
            Some(RecordState::InProgress) => {
                let lasts = self.lease.saturating_add(self.keep);
                lasts != ENDLESS && unchanged >= lasts
            }
            _ => wall::passed(self.expires),
        }
    }

    /// Whether no other may lead.
    pub fn is_live(&self, unchanged: Span) -> bool {
        self.state == Some(RecordState::InProgress) && unchanged < self.lease
    }

    pub fn lease_left(&self, unchanged: Span) -> Option<Duration> {
        left(self.lease, unchanged).filter(|_| self.state == Some(RecordState::InProgress))
    }

    pub fn expires_in(&self, unchanged: Span) -> Option<Duration> {
        match self.state {
            Some(RecordState::InProgress) => left(self.lease.saturating_add(self.keep), unchanged),
            _ => left(wall::until(self.expires), 0),
        }
    }

    pub fn response(&self) -> Option<Response> {
        self.body.map(|body| Response::new(self.status, body))
    }

    pub fn encode(&self) -> Vec<u8> {
        let state = STATES.iter().position(|state| *state == self.state).unwrap_or_default();
        let fields =
            [Some(self.scope), Some(self.key), self.fingerprint, self.checkpoint, self.body];
        // The others, the lengths and the sum take less than the first.
        let room = 128 + fields.iter().flatten().map(|field| field.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(room);
        bytes.extend([VERSION, state.to_le_bytes()[0]]);
        bytes.extend(self.held.token.0);
        bytes.extend(self.held.epoch.to_le_bytes());
        bytes.extend(self.attempt.to_le_bytes());
        bytes.extend(self.lease.to_le_bytes());
        bytes.extend(self.keep.to_le_bytes());
        bytes.extend(self.expires.to_le_bytes());
        bytes.extend(self.status.to_le_bytes());
        bytes.extend(self.beat.to_le_bytes());
        bytes.push(u8::from(self.watched));
        for field in fields {
            // What is that long no server takes, so a length that is cut off here goes nowhere.
            let len = field.map_or(NONE, |field| u32::try_from(field.len()).unwrap_or(NONE - 1));
            bytes.extend(len.to_le_bytes());
            bytes.extend(field.unwrap_or_default());
        }
        let sum = *Fingerprint::of([&bytes]).as_bytes();
        bytes.extend(sum);
        bytes
    }

    /// What came from a server.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Flaw> {
        match bytes.first() {
            Some(&VERSION) => {}
            // It may have been written as it should, but not for us.
            Some(&version) if version > VERSION => return Err(Flaw::Version(version)),
            _ => return Err(Flaw::Corrupt),
        }
        let (rest, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Flaw::Corrupt)?;
        if Fingerprint::of([rest]).as_bytes() != sum {
            return Err(Flaw::Corrupt);
        }
        Self::own(bytes)
    }

    /// What this very process has encoded: the sum, two thirds of the work, isn't made again.
    pub fn own(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let rest = bytes.len().checked_sub(CHECKSUM).and_then(|len| bytes.get(1..len));
        let mut fields = Fields(rest.ok_or(Flaw::Corrupt)?);
        let item = fields.item().ok_or(Flaw::Corrupt)?;
        let completed = item.state == Some(RecordState::Completed);
        if !fields.0.is_empty() || completed != item.body.is_some() {
            return Err(Flaw::Corrupt);
        }
        Ok(item)
    }
}

/// When the server may drop what must last so long, in memcached's terms: seconds from now, the seconds
/// since 1970 if that is more than 30 days, or 0 for never.
fn exptime(lasts: Span) -> i32 {
    if lasts == ENDLESS {
        return 0;
    }
    // Followers may still ask for what has expired; and the server counts whole seconds.
    let seconds = Duration::from_nanos(lasts).as_secs() + GRACE.as_secs() + 2;
    let at = if seconds < RELATIVE.unsigned_abs().into() {
        seconds
    } else {
        wall::now() / 1_000_000 + seconds
    };
    i32::try_from(at).unwrap_or(0)
}

fn left(span: Span, passed: Span) -> Option<Duration> {
    (span != ENDLESS).then(|| Duration::from_nanos(span.saturating_sub(passed)))
}

/// A duration as it stands in an item.
pub(super) fn span(duration: Option<Duration>) -> Span {
    duration.map_or(ENDLESS, clock::span)
}

/// What is still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn item(&mut self) -> Option<Item<'a>> {
        Some(Item {
            state: *STATES.get(usize::from(self.array::<1>()?[0]))?,
            held: Held { token: Token(self.array()?), epoch: u64::from_le_bytes(self.array()?) },
            attempt: u32::from_le_bytes(self.array()?),
            lease: u64::from_le_bytes(self.array()?),
            keep: u64::from_le_bytes(self.array()?),
            expires: u64::from_le_bytes(self.array()?),
            status: i32::from_le_bytes(self.array()?),
            beat: u32::from_le_bytes(self.array()?),
            watched: match self.array()? {
                [0] => false,
                [1] => true,
                _ => return None,
            },
            scope: self.bytes()??,
            key: self.bytes()??,
            fingerprint: self.bytes()?,
            checkpoint: self.bytes()?,
            body: self.bytes()?,
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// `Some(None)`: a field that isn't there.
    #[allow(clippy::option_option)] // `None` is what every read says where the bytes end
    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        let len = u32::from_le_bytes(self.array()?);
        if len == NONE {
            return Some(None);
        }
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Item<'static> {
        Item {
            state: Some(RecordState::Completed),
            held: Held { token: Token([7; 16]), epoch: u64::MAX - 1 },
            attempt: 3,
            lease: 30,
            keep: ENDLESS,
            expires: wall::NEVER,
            status: -1,
            beat: 5,
            watched: true,
            scope: b"scope\0\r\n",
            key: b"",
            fingerprint: Some(b""),
            checkpoint: None,
            body: Some(b"body"),
        }
    }

    /// The version in place, and the sum made right again.
    fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - CHECKSUM);
        let sum = *Fingerprint::of([&bytes]).as_bytes();
        bytes.extend(sum);
        bytes
    }

    #[test]
    fn comes_back_as_it_was() {
        let key = RecordKey::new("s", "k").unwrap();
        let (held, large) = (some().held, vec![0xff; 70_000]);
        let items = [
            some(),
            Item::gone(&key, held),
            Item { state: Some(RecordState::InProgress), body: None, fingerprint: None, ..some() },
            Item {
                state: Some(RecordState::Released),
                body: None,
                checkpoint: Some(b""),
                ..some()
            },
            Item { body: Some(&large), ..some() },
        ];
        for item in items {
            let encoded = item.encode();
            assert_eq!(Item::own(&encoded).as_ref(), Ok(&item));
            assert_eq!(Item::decode(&encoded), Ok(item));
        }
    }

    /// Records outlive the release that wrote them: these bytes must be read for ever.
    #[test]
    fn version_1_is_laid_out_as_documented() {
        let fixed = [
            &[1, 1][..],
            &[7; 16],
            &(u64::MAX - 1).to_le_bytes(),
            &[3, 0, 0, 0],
            &[30, 0, 0, 0, 0, 0, 0, 0],
            &[0xff; 16],
            &[0xff; 4],
            &[5, 0, 0, 0, 1],
            b"\x08\0\0\0scope\0\r\n",
            &[0; 4],
            &[0; 4],
            &[0xff; 4],
            b"\x04\0\0\0body",
        ]
        .concat();
        let encoded = some().encode();
        assert_eq!(encoded[..encoded.len() - CHECKSUM], fixed);
        assert_eq!(encoded, summed(encoded.clone()));
    }

    #[test]
    fn what_is_cut_off_changed_or_longer_is_refused() {
        let whole = some().encode();
        for len in 0..whole.len() {
            assert_eq!(Item::decode(&whole[..len]), Err(Flaw::Corrupt), "{len} bytes");
        }
        for place in 1..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert_eq!(Item::decode(&changed), Err(Flaw::Corrupt), "byte {place}");
        }
        let longer = [&whole[..], b"\0"].concat();
        assert_eq!(Item::decode(&longer), Err(Flaw::Corrupt));
        assert_eq!(Item::decode(b"somebody else's"), Err(Flaw::Version(b's')));
    }

    /// Even where the checksum is right.
    #[test]
    fn what_means_nothing_is_refused() {
        let whole = some().encode();
        for len in 1..whole.len() - CHECKSUM {
            let cut = summed([&whole[..len], &[0; CHECKSUM]].concat());
            assert_eq!(Item::decode(&cut), Err(Flaw::Corrupt), "{len} bytes");
        }
        let state = |state: u8| {
            let mut bytes = whole.clone();
            bytes[1] = state;
            summed(bytes)
        };
        for other in [0, 2, 4] {
            assert_eq!(Item::decode(&state(other)), Err(Flaw::Corrupt), "state {other}");
        }
        let without_body = Item { body: None, ..some() }.encode();
        assert_eq!(Item::decode(&without_body), Err(Flaw::Corrupt));
    }

    #[test]
    fn a_later_version_is_told_from_rubbish() {
        let mut later = some().encode();
        later[0] = 2;
        assert_eq!(Item::decode(&later), Err(Flaw::Version(2)));
        later[0] = 0;
        assert_eq!(Item::decode(&later), Err(Flaw::Corrupt));
    }

    #[test]
    fn the_server_keeps_an_item_longer_than_it_is_wanted() {
        const SECOND: Span = 1_000_000_000;
        const DAY: Span = 24 * 3600 * SECOND;
        assert_eq!(exptime(ENDLESS), 0);
        assert_eq!(exptime(0), 12);
        assert_eq!(exptime(3 * SECOND / 2), 13);
        // Beyond 30 days memcached would take a duration for a time.
        let late = u64::try_from(exptime(31 * DAY)).unwrap();
        assert!(late > wall::now() / 1_000_000 + 31 * 24 * 3600);
        assert_eq!(exptime(100 * 365 * DAY), 0);
        assert_eq!(exptime(ENDLESS - 1), 0);
        let lead = |keep| Item { state: Some(RecordState::InProgress), keep, ..some() }.exptime();
        assert_eq!(lead(3 * SECOND), 15);
        assert_eq!(lead(31 * DAY), 0, "a lead's item goes by no wall clock");
    }
}
