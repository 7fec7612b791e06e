//! Leaders that come back too late: whatever they try changes nothing.

use std::thread;
use std::time::Duration;

use onceflight::idempotency::Lead;
use onceflight::store::RecordState;
use onceflight::{Error, ErrorKind, IdempotencyTable};
use serde::{Deserialize, Serialize};

use crate::harness::{Found, PATIENCE, Place, eventually, on_every_store, response};
use crate::worker::{self, Worker};

on_every_store!(two_stale_leaders_change_nothing, a_frozen_leader_comes_back_too_late);

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(3600);

type Verb = fn(Lead<'_>) -> Result<(), Error>;

/// Each by itself, since a lead that was told that it is stale doesn't ask the store again.
const VERBS: [(&str, Verb); 6] = [
    ("complete", |lead| lead.complete(response("stale")).map_err(Error::from)),
    ("renew", |lead| lead.renew(LONG)),
    ("checkpoint", |lead| lead.set_checkpoint(b"stale")),
    ("cancel", |lead| lead.cancel()),
    ("abandon", |lead| lead.abandon()),
    ("decline", |lead| lead.decline()),
];

/// Two overtaken leaders of one key settle at the same time as the one who leads.
fn two_stale_leaders_change_nothing(place: &Place) {
    let stale = [(); 2].map(|()| place.table(|table| table.lease(SHORT).heartbeat(false)));
    let leader = place.table(|table| table.lease(LONG));
    for (name, verb) in VERBS {
        let leads = stale.each_ref().map(|table| table.begin(name).lead());
        let lead = leader.begin(name).lead();
        assert_eq!(lead.attempt(), 3, "{name}");
        assert!(leads[0].fence() < leads[1].fence() && leads[1].fence() < lead.fence());
        thread::scope(|scope| {
            for lead in leads {
                scope.spawn(move || assert_eq!(verb(lead).unwrap_err().kind(), ErrorKind::Stale));
            }
            scope.spawn(|| lead.complete(response("kept")).expect("the one who leads"));
        });
        assert_eq!(stale[0].begin(name).response().data(), b"kept", "{name}");
        assert_is_completed(&leader, name, "kept");
    }
}

fn assert_is_completed(table: &IdempotencyTable, key: &str, value: &str) {
    let record = table.look_up(key).expect("the store").expect("a record");
    assert_eq!(record.state, RecordState::Completed);
    assert_eq!(record.response, Some(response(value)));
}

/// In the frozen process: what its lead, and who followed it there, came to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    Leads { fence: u64 },
    Refused { why: String },
    Followed { data: Vec<u8> },
}

/// A process with its heartbeat is stopped for longer than its lease, and goes on as if nothing were.
fn a_frozen_leader_comes_back_too_late(place: &Place) {
    if worker::task::<()>().is_some() {
        return lead_and_wait(place);
    }
    let mut worker = Worker::start(place, ());
    let Said::Leads { fence } = worker.hear() else { panic!("it leads first") };
    let table = place.table(|table| table);
    let lead = eventually("a lead", || {
        worker.freeze();
        match table.begin_timeout("k", PATIENCE) {
            // Frozen in the middle of a renewal it keeps the lock of a file, and nobody can lead.
            Err(error) if error.kind() == ErrorKind::Store => {
                worker.thaw();
                None
            }
            begun => Some(begun.lead()),
        }
    });
    assert_eq!(lead.attempt(), 2);
    assert!(lead.fence() > fence);
    lead.complete(response("successor")).unwrap();
    worker.thaw();
    worker.tell("go on");
    assert_eq!(worker.hear::<Said>(), Said::Refused { why: ErrorKind::Stale.to_string() });
    assert_eq!(worker.hear::<Said>(), Said::Followed { data: b"successor".to_vec() });
    worker.succeed();
    assert_is_completed(&table, "k", "successor");
}

fn lead_and_wait(place: &Place) {
    let table = place.table(|table| table.lease(SHORT));
    let lead = table.begin("k").lead();
    thread::scope(|scope| {
        let follower = scope.spawn(|| table.begin("k").response().data().to_vec());
        eventually("a follower", || (table.stats().waiting > 0).then_some(()));
        worker::say(Said::Leads { fence: lead.fence() });
        worker::told();
        let refused = lead.complete(response("late")).unwrap_err();
        worker::say(Said::Refused { why: refused.error.kind().to_string() });
        worker::say(Said::Followed { data: follower.join().unwrap() });
    });
}
