//! Durable sessions: whoever is killed wherever, each request is executed once, with one response for
//! ever.

use std::collections::BTreeMap;
use std::path::Path;

use onceflight::session::{Applied, DurableSessions, SessionRequest};
use onceflight::{Error, ErrorKind, SessionTable};
use serde::{Deserialize, Serialize};

use crate::harness::{Place, Random, on_sqlite, seed};
use crate::kills::{Task, kill_many};
use crate::ledger::{self, Entry, Ledger};
use crate::worker;

on_sqlite!(increments);

/// Where a process dies, if it isn't killed from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Point {
    Begun,
    RowWritten,
    AfterCommit,
}

const POINTS: [Point; 3] = [Point::Begun, Point::RowWritten, Point::AfterCommit];

fn open(place: &Place) -> DurableSessions {
    // A client that is behind by a few workers' windows still gets its replies.
    let limits = SessionTable::builder().window(64);
    DurableSessions::open(place.file(), limits).expect("a file")
}

fn ledger(place: &Place) -> std::path::PathBuf {
    place.dir.path.join("ledger")
}

fn increments(place: &Place) {
    if let Some(task) = worker::task() {
        return work(place, &task);
    }
    let mut sessions = open(place);
    assert_eq!(1, sessions.register("client", "nonce", 0).expect("a session"));
    let set_up = "CREATE TABLE counters (sum INTEGER); INSERT INTO counters VALUES (0);
        CREATE TABLE increments (seq INTEGER, sum INTEGER)";
    sessions.connection().execute_batch(set_up).expect("tables");
    let kills = kill_many(place, seed(), &POINTS);

    let done = increments_of(place.file());
    let requests: BTreeMap<_, _> = done.iter().copied().collect();
    assert_eq!(done.len(), requests.len(), "a request was executed twice");
    assert_eq!(done.len() as u64, sum(place.file()), "the sum isn't that of the requests");
    let replies = ledger::read(&ledger(place));
    assert!(!replies.is_empty(), "nobody was answered: no proof");
    for (seq, history) in &replies {
        let reply = requests.get(seq).expect("an answer to what wasn't executed");
        assert!(history.values.iter().all(|value| value == reply), "{seq}: {history:?}");
    }
    println!("{kills} kills, {} requests, of which {} were answered", done.len(), replies.len());
}

fn increments_of(file: &Path) -> Vec<(u64, u64)> {
    let reader = rusqlite::Connection::open(file).expect("a file");
    let mut all = reader.prepare("SELECT seq, sum FROM increments").expect("a table");
    let rows = all.query_map([], |row| Ok((number(row, 0)?, number(row, 1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("numbers")
}

fn sum(file: &Path) -> u64 {
    let reader = rusqlite::Connection::open(file).expect("a file");
    reader.query_row("SELECT sum FROM counters", [], |row| number(row, 0)).expect("a number")
}

fn number(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// Retries what its predecessors may have done, and goes on. Several do so at once.
fn work(place: &Place, task: &Task<Point>) {
    let (mut sessions, fate, ledger) = (open(place), task.fate(), Ledger::open(&ledger(place)));
    let mut now = 0;
    task.go_through_keys(&mut Random(task.seed), |key, random| {
        let seq = key + 1;
        let request = SessionRequest::new(b"client", 1, seq).ack(seq.saturating_sub(40).max(1));
        now += random.within(0..3);
        let applied = sessions.apply(&request, now, |transaction| {
            fate.pass(Point::Begun);
            let add = "UPDATE counters SET sum = sum + 1 RETURNING sum";
            let sum = transaction
                .query_row(add, [], |row| number(row, 0))
                .map_err(|error| failed(&error))?;
            let note = "INSERT INTO increments VALUES (?1, ?2)";
            transaction
                .execute(note, [seq, sum].map(u64::cast_signed))
                .map_err(|error| failed(&error))?;
            fate.pass(Point::RowWritten);
            Ok::<_, Error>((0, sum.to_string()))
        });
        match applied {
            Ok(Applied { response, .. }) => {
                fate.pass(Point::AfterCommit);
                let text = String::from_utf8(response.data().to_vec()).expect("a number");
                ledger.note(&Entry::Saw { key: seq, value: text.parse().expect("a number") });
                true
            }
            // The others are far ahead.
            Err(error) if error.kind() == ErrorKind::SeqStale => true,
            // Another has the lock for long: this machine is busy.
            Err(error) if error.kind() == ErrorKind::Store => false,
            Err(error) => panic!("{error}"),
        }
    })
}

fn failed(error: &rusqlite::Error) -> Error {
    Error::store(error.to_string())
}
