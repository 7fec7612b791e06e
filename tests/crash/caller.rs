//! Who asks for a key, and notes what comes of it; and the judgement over all that was noted.
//!
//! For each key:
//!
//! | what | because |
//! |-|-|
//! | one value, whoever completed it, saw it, or finds it in the store | a completed key is replayed, and nothing acknowledged is lost |
//! | of several effects each has a higher fence and a higher attempt | each was a takeover, and could know |
//! | no effect has a higher fence than the one that was completed | nobody leads a completed key |
//! | each effect found a checkpoint no older than the last that was acknowledged before its lead | a checkpoint outlives its leader |

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};

use onceflight::idempotency::{Begin, Builder};
use onceflight::store::{RecordState, Response};
use onceflight::{Error, ErrorKind, IdempotencyTable};

use crate::harness::{PATIENCE, Random, response};
use crate::ledger::{self, Entry, History, Ledger};
use crate::mortal::Point;
use crate::worker::Fate;

/// Short, so that many leads are lost in little time.
const LEASE: Duration = Duration::from_millis(200);
/// What a table gives the store for an answer.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a begin gives the store, even if its own time is nearly up.
const A_LOOK: Duration = Duration::from_millis(250);
/// How long past its deadline a call may end on a machine that is busy.
const LATE: Duration = Duration::from_secs(3);

pub struct Caller<'t> {
    pub table: &'t IdempotencyTable,
    pub ledger: &'t Ledger,
    pub fate: &'t Fate<Point>,
    pub random: Random,
    pub tally: &'t Tally,
}

/// How callers fared.
#[derive(Default)]
pub struct Tally {
    pub responses: AtomicUsize,
    /// Calls that ended because the store failed.
    pub failures: AtomicUsize,
}

/// A table as callers use it.
pub fn terms(table: Builder) -> Builder {
    table.lease(LEASE).store_timeout(STORE_TIMEOUT)
}

impl Caller<'_> {
    /// One request. Answers whether it came to a response.
    pub fn visit(&mut self, key: u64, patience: Duration) -> bool {
        match self.ask(key, patience) {
            Ok(()) => {
                self.tally.responses.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            // Somebody else leads, or has taken over.
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Stale) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Store, "{error}");
                self.tally.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        false
    }

    fn ask(&mut self, key: u64, patience: Duration) -> Result<(), Error> {
        let name = name(key);
        let request = self.table.request(&name).fingerprint(b"the same").timeout(patience);
        let lead = match in_time(patience.max(A_LOOK), || request.begin())? {
            Begin::Lead(lead) => lead,
            Begin::Shared(response) | Begin::Replayed(response) => {
                self.ledger.note(&Entry::Saw { key, value: value_of(&response) });
                return Ok(());
            }
            Begin::Bypass => unreachable!("nobody declines"),
        };
        let (value, fence, attempt) = (self.random.next(), lead.fence(), lead.attempt());
        let checkpoint = lead.checkpoint().map(number);
        self.fate.pass(Point::BeforeEffect);
        let pid = process::id();
        self.ledger.note(&Entry::Effect { key, fence, attempt, value, checkpoint, pid });
        self.fate.pass(Point::AfterEffect);
        if self.random.one_in(3) {
            in_time(STORE_TIMEOUT, || lead.set_checkpoint(&fence.to_le_bytes()))?;
            self.ledger.note(&Entry::Left { key, fence });
        }
        if self.random.one_in(8) {
            // What a leader does may take longer than its lease: that is what its heart beats for.
            thread::sleep(LEASE + LEASE / 2);
        }
        in_time(STORE_TIMEOUT, || lead.complete(response(value.to_le_bytes())))?;
        self.ledger.note(&Entry::Done { key, value });
        self.fate.pass(Point::AfterComplete);
        Ok(())
    }
}

/// What a call comes to, which has that much time.
pub fn in_time<T>(time: Duration, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = call();
    let late = began.elapsed().saturating_sub(time);
    assert!(late < LATE, "it ended {late:?} after its deadline");
    outcome
}

/// What must hold of every key up to `end`, and of those after it that somebody has begun to work on, whoever
/// asked, once the last ones are completed.
pub fn judge(mut caller: Caller<'_>, ledger: &Path, end: u64) -> Verdict {
    let begun = ledger::read(ledger).keys().next_back().map_or(0, |last| last + 1);
    for key in 0..end.max(begun) {
        while !caller.visit(key, PATIENCE) {}
    }
    let keys = ledger::read(ledger);
    for (key, history) in &keys {
        judge_one(caller.table, *key, history);
    }
    let some = |what: fn(&History) -> bool| keys.values().filter(|history| what(history)).count();
    Verdict {
        keys: keys.len(),
        taken_over: some(|history| history.effects.iter().any(|effect| effect.attempt > 1)),
        doubled: some(|history| history.effects.len() > 1),
    }
}

/// How many keys there were, and what befell them.
#[derive(Debug)]
pub struct Verdict {
    #[allow(dead_code)] // for who reads it
    keys: usize,
    pub taken_over: usize,
    /// Those with more than one effect.
    pub doubled: usize,
}

fn judge_one(table: &IdempotencyTable, key: u64, history: &History) {
    let record = table.look_up(name(key)).expect("the store").expect("a record");
    assert_eq!(record.state, RecordState::Completed, "key {key}");
    let value = value_of(&record.response.expect("completed"));
    assert!(
        history.values.iter().all(|seen| *seen == value),
        "key {key} isn't {value}: {history:?}"
    );
    for pair in history.effects.windows(2) {
        assert!(
            pair[0].fence < pair[1].fence && pair[0].attempt < pair[1].attempt,
            "key {key} was led twice with one fence or attempt: {history:?}"
        );
    }
    let last = history.effects.last().expect("an effect");
    assert_eq!(
        (last.value, last.fence, last.attempt),
        (value, record.epoch, record.attempt),
        "key {key} was led after it was completed: {history:?}"
    );
    for effect in &history.effects {
        let before = history.left.iter().filter(|fence| **fence < effect.fence).max().copied();
        assert!(effect.checkpoint >= before, "key {key} lost a checkpoint: {history:?}");
    }
}

fn name(key: u64) -> String {
    format!("key {key}")
}

fn value_of(response: &Response) -> u64 {
    number(response.data())
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
