//! The wall clock jumps, under processes that share records: who leads is never for a process's wall
//! clock to say. (What a server's own does is in `server_clocks`.)
//!
//! A worker under `faketime` lives some time ago, or some time hence; the clock of the boot, which
//! nobody can set, is left to it.

use std::env;
use std::process::{self, Command};
use std::time::{Duration, SystemTime};

use onceflight::ErrorKind;
use onceflight::idempotency::{Begin, Lead};
use serde::{Deserialize, Serialize};

use crate::harness::{Found, PATIENCE, Place, on_every_store, response};
use crate::worker::{self, Worker};

on_every_store!(
    no_lease_ends_by_the_wall_clock,
    a_lead_of_another_year_keeps_others_out,
    a_lease_ends_whatever_the_wall_clock_says,
    retention_goes_by_one_clock,
);

const LONG: Duration = Duration::from_secs(3600);
const YEAR: i64 = 365 * 24 * 3600;

#[derive(Serialize, Deserialize)]
enum Task {
    Begin {
        key: String,
    },
    /// Leads until it is told to end.
    Lead {
        key: String,
    },
    /// Leads, and ends without a word.
    Leave {
        key: String,
    },
    Purge,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    Leads { attempt: u32, fence: u64 },
    Replayed { data: Vec<u8> },
    Refused { why: String },
    Purged,
}

/// What a worker says whose wall clock is set that many seconds off.
fn elsewhen(place: &Place, seconds: i64, task: Task) -> Said {
    let mut worker = start(place, seconds, task);
    let said = worker.hear();
    worker.succeed(); // killed, it would leave what faketime has in shared memory
    said
}

fn start(place: &Place, seconds: i64, task: Task) -> Worker {
    let mut faketime = Command::new("faketime");
    faketime.args(["--exclude-monotonic", "-f", &format!("{seconds:+}s")]);
    faketime.arg(env::current_exe().expect("this program"));
    let mut worker = Worker::start_by(faketime, place, task);
    let clock: u64 = worker.hear_or_end().expect("no faketime? scripts/setup.sh installs it");
    let off = i64::try_from(clock).unwrap() - i64::try_from(now()).unwrap() - seconds;
    assert!(off.abs() < 24 * 3600, "its clock isn't set: {off} s off");
    worker
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

/// The worker's part, where this is one.
fn is_worker(place: &Place) -> bool {
    let Some(task) = worker::task() else { return false };
    worker::say(now());
    let table = place.table(|table| table);
    worker::say(match task {
        Task::Begin { key } => match table.begin_timeout(key, Duration::ZERO) {
            Ok(Begin::Lead(lead)) => {
                let said = leads(&lead);
                lead.cancel().unwrap();
                said
            }
            Ok(Begin::Replayed(response)) => Said::Replayed { data: response.data().into() },
            Ok(other) => panic!("{other:?}"),
            Err(error) => Said::Refused { why: error.kind().to_string() },
        },
        Task::Lead { key } => {
            let lead = table.request(&key).lease(LONG).begin().lead();
            worker::say(leads(&lead));
            worker::told();
            lead.cancel().expect("nobody took over");
            return true;
        }
        Task::Leave { key } => {
            let lead = table.request(&key).lease(Duration::from_millis(50)).begin().lead();
            worker::say(leads(&lead));
            process::exit(0); // and nothing is settled
        }
        Task::Purge => {
            table.purge(1000).unwrap();
            Said::Purged
        }
    });
    true
}

fn leads(lead: &Lead<'_>) -> Said {
    Said::Leads { attempt: lead.attempt(), fence: lead.fence() }
}

fn begin(key: &str) -> Task {
    Task::Begin { key: key.into() }
}

fn in_progress() -> Said {
    Said::Refused { why: ErrorKind::Timeout.to_string() }
}

fn no_lease_ends_by_the_wall_clock(place: &Place) {
    if is_worker(place) {
        return;
    }
    let table = place.table(|table| table.lease(LONG).ttl(LONG));
    let lead = table.begin("k").lead();
    for years in [-10, 10] {
        assert_eq!(elsewhen(place, years * YEAR, begin("k")), in_progress());
    }
    assert_eq!(elsewhen(place, 10 * YEAR, Task::Purge), Said::Purged);
    lead.complete(response("done")).expect("nobody took over, and nobody purged it");
    assert_eq!(table.begin("k").response().data(), b"done");
}

fn a_lead_of_another_year_keeps_others_out(place: &Place) {
    if is_worker(place) {
        return;
    }
    let table = place.table(|table| table);
    for years in [-10, 10] {
        let mut worker = start(place, years * YEAR, Task::Lead { key: "k".into() });
        assert!(matches!(worker.hear(), Said::Leads { attempt: 1, .. }));
        let error = table.begin_timeout("k", Duration::ZERO).expect_err("somebody leads");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        worker.tell("end");
        worker.succeed();
    }
}

/// Nor does a lease last for longer because its process lived in another year.
fn a_lease_ends_whatever_the_wall_clock_says(place: &Place) {
    if is_worker(place) {
        return;
    }
    for (key, years) in [("past", -10), ("future", 10)] {
        let task = Task::Leave { key: key.into() };
        let Said::Leads { attempt: 1, fence } = elsewhen(place, years * YEAR, task) else {
            panic!("a first attempt")
        };
        let table = place.table(|table| table);
        // Its record may be forgotten by then, where it ended years ago.
        let lead = table.begin_timeout(key, PATIENCE).lead();
        assert!(lead.fence() > fence, "{} after {fence}", lead.fence());
        lead.complete(response("done")).unwrap();
    }
}

/// As documented, a server's own, or each process's wall clock: set forward, that forgets responses so
/// much earlier; set back, later.
fn retention_goes_by_one_clock(place: &Place) {
    if is_worker(place) {
        return;
    }
    let table = place.table(|table| table.ttl(LONG));
    let lead = table.begin("k").lead();
    lead.complete(response("done")).unwrap();
    let replayed = || Said::Replayed { data: b"done".into() };
    for seconds in [-10 * YEAR, 0] {
        assert_eq!(elsewhen(place, seconds, begin("k")), replayed());
        assert_eq!(elsewhen(place, seconds, Task::Purge), Said::Purged);
    }
    let later = elsewhen(place, 2 * 3600, begin("k"));
    if ["sqlite", "memcached"].contains(&place.store) {
        assert!(matches!(later, Said::Leads { attempt: 1, .. }), "{later:?}");
    } else {
        assert_eq!(elsewhen(place, 10 * YEAR, Task::Purge), Said::Purged);
        assert_eq!([later, elsewhen(place, 10 * YEAR, begin("k"))], [replayed(), replayed()]);
    }
}
