//! What can befall a SQLite file: an error each, nothing lost, and it works again where it can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use onceflight::idempotency::{Begin, Builder};
use onceflight::{ErrorKind, IdempotencyTable};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::disk::{self, User};
use crate::harness::{Found, PATIENCE, Place, Random, eventually, on_sqlite, response, seed};
use crate::worker::{self, Worker};

on_sqlite!(
    another_process_has_the_write_lock,
    the_disk_is_full,
    the_file_system_is_read_only,
    the_file_is_moved_away_and_back,
    the_file_is_replaced,
    pages_are_garbled,
);

/// How late a call may be that says that its time is over, on a machine that is busy.
const LATE: Duration = Duration::from_secs(5);

fn patient(table: Builder) -> Builder {
    table.store_timeout(PATIENCE)
}

fn impatient(table: Builder) -> Builder {
    table.store_timeout(Duration::from_millis(300))
}

fn complete(table: &IdempotencyTable, key: &str) {
    table.begin(key).lead().complete(response(key)).unwrap();
}

fn assert_replays(table: &IdempotencyTable, key: &str) {
    assert_eq!(table.begin(key).response().data(), key.as_bytes());
}

/// That a begin of a new key is refused in time, because the store fails.
#[track_caller]
fn assert_fails(table: &IdempotencyTable, key: &str) {
    let began = Instant::now();
    let error = table.begin(key).expect_err("the store fails");
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
}

fn another_process_has_the_write_lock(place: &Place) {
    if worker::task::<()>().is_some() {
        let connection = Connection::open(place.file()).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        worker::say(());
        worker::told();
        return connection.execute_batch("ROLLBACK").unwrap();
    }
    let (table, hasty) = (place.table(patient), place.table(impatient));
    complete(&table, "before");
    let lead = table.begin("during").lead();
    let mut worker = Worker::start(place, ());
    worker.hear::<()>();
    assert_fails(&hasty, "new");
    assert_replays(&hasty, "before"); // nobody who reads waits for who writes
    thread::scope(|scope| {
        let completion = scope.spawn(|| lead.complete(response("during")));
        let follower = scope.spawn(|| table.begin("during").response());
        worker.tell("let go");
        completion.join().unwrap().expect("the lock was let go in time");
        assert_eq!(follower.join().unwrap().data(), b"during");
    });
    worker.succeed();
    complete(&hasty, "new");
}

fn the_disk_is_full(place: &Place) {
    let Some(disk) = disk::small(place, "1m", User::Root) else { return };
    let url = format!("sqlite:{}", disk.join("records.db").display());
    let table = impatient(IdempotencyTable::builder()).open(&url).unwrap();
    complete(&table, "before");
    let lead = table.begin("during").lead();
    let filler = disk.join("filler");
    assert!(fs::write(&filler, vec![0; 2 << 20]).is_err(), "a disk of a megabyte");
    // Some room is left in what SQLite has allocated.
    let mut done = vec!["before".to_string()];
    loop {
        let key = format!("key {}", done.len());
        let begun = table.begin(&key);
        if begun.is_err() || begun.lead().complete(response(&key)).is_err() {
            break;
        }
        done.push(key);
        assert!(done.len() < 10_000, "a full disk has no end");
    }
    assert_fails(&table, "new");
    let refused = lead.complete(response(vec![0; 64 << 10])).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Store, "{}", refused.error);
    let lead = refused.lead.expect("what the store doesn't take leaves the lead live");
    for key in &done {
        assert_replays(&table, key);
    }

    fs::remove_file(&filler).unwrap();
    lead.complete(response("during")).expect("there is room again");
    complete(&table, "after");
    done.iter().map(String::as_str).chain(["during", "after"]).for_each(|key| {
        assert_replays(&table, key);
    });
}

fn the_file_system_is_read_only(place: &Place) {
    let Some(disk) = disk::small(place, "1m", User::Root) else { return };
    let url = format!("sqlite:{}", disk.join("records.db").display());
    complete(&IdempotencyTable::open(&url).unwrap(), "before");
    let remount = |how: &str| {
        // A table lets go of its file a moment after it is dropped, and until then the disk is busy.
        eventually("the disk is remounted", || {
            let mount = Command::new("mount").args(["-o", how]).arg(&disk).status().unwrap();
            mount.success().then_some(())
        });
    };
    remount("remount,ro");
    let error = IdempotencyTable::open(&url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    remount("remount,rw");
    let table = IdempotencyTable::open(&url).unwrap();
    assert_replays(&table, "before");
    complete(&table, "after");
}

fn the_file_is_moved_away_and_back(place: &Place) {
    let table = place.table(impatient);
    complete(&table, "before");
    let lead = table.begin("during").lead();
    let away = place.file().with_extension("away");
    fs::rename(place.file(), &away).unwrap();
    assert_fails(&table, "new");
    let refused = lead.complete(response("during")).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Store);
    fs::rename(&away, place.file()).unwrap();
    refused.lead.expect("a live lead").complete(response("during")).expect("it is there again");
    complete(&table, "new");
    for key in ["before", "during", "new"] {
        assert_replays(&table, key);
    }
}

/// By an older copy, which knows nothing of what was completed since: nobody may lead by either.
fn the_file_is_replaced(place: &Place) {
    let copy = place.file().with_extension("copy");
    drop(place.table(impatient));
    fs::copy(place.file(), &copy).unwrap();
    let table = place.table(impatient);
    complete(&table, "before");
    let lead = table.begin("during").lead();
    fs::rename(&copy, place.file()).unwrap();
    assert_fails(&table, "new");
    let refused = lead.complete(response("during")).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Store, "nobody else would see it");
}

/// Whatever page is lost, a completed key is replayed as it was or refused, and never led again.
fn pages_are_garbled(place: &Place) {
    const KEYS: usize = 200;
    const PAGE: usize = 4096;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("{key:->100}")).collect();
    if let Some(task) = worker::task() {
        let table = IdempotencyTable::builder().scope(&place.scope).open(&place.url);
        return match task {
            Part::Fill => keys.iter().for_each(|key| complete(table.as_ref().unwrap(), key)),
            Part::Ask => worker::say(table.map_or(KEYS, |table| refused(&table, &keys))),
        };
    }
    // A process each, so that the file is closed when it is changed.
    Worker::start(place, Part::Fill).succeed();
    let log = Connection::open(place.file()).unwrap();
    log.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(log);
    let sound = fs::read(place.file()).unwrap();
    let mut random = Random(seed());
    let mut refusals = 0;
    // The first page has the schema: without it the file can't even be opened.
    for page in 1..sound.len() / PAGE {
        let mut garbled = sound.clone();
        garbled[page * PAGE..][..PAGE].fill_with(|| random.next().to_le_bytes()[0]);
        restore(place.file(), &garbled);
        let mut worker = Worker::start(place, Part::Ask);
        refusals += worker.hear::<usize>();
        worker.succeed();
    }
    assert!(refusals >= KEYS, "every record was on a page: {refusals}");
    restore(place.file(), &sound);
    let table = place.table(patient);
    assert_eq!(refused(&table, &keys), 0);
    complete(&table, "new");
}

#[derive(Serialize, Deserialize)]
enum Part {
    Fill,
    Ask,
}

/// How many of them are refused; the others are replayed.
fn refused(table: &IdempotencyTable, keys: &[String]) -> usize {
    let refused = |key: &&String| match table.begin_timeout(key, Duration::ZERO) {
        Ok(Begin::Replayed(response)) => {
            assert_eq!(response.data(), key.as_bytes());
            false
        }
        Ok(other) => panic!("a completed key: {other:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Store, "{error}");
            true
        }
    };
    keys.iter().filter(refused).count()
}

fn restore(file: &Path, bytes: &[u8]) {
    for beside in ["-wal", "-shm"] {
        let mut path = file.as_os_str().to_owned();
        path.push(beside);
        let _ = fs::remove_file(PathBuf::from(path));
    }
    fs::write(file, bytes).unwrap();
}
