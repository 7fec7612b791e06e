//! What a SQLite file may be, and what happens to it.

use std::fs;
use std::thread;
use std::time::Duration;

use onceflight::ErrorKind;
use onceflight::store::{Claim, Claimed, Heard, RecordKey, Settled, SqliteStore, Store};
use rusqlite::Connection;

use crate::harness::*;

/// Records in a temporary file, and another program's connection to it.
fn world() -> (World, Connection) {
    let world = World::new(&SQLITE);
    let other = connect(&world);
    (world, other)
}

pub fn connect(world: &World) -> Connection {
    let other = Connection::open(path(world)).expect("a connection");
    other.busy_timeout(PATIENCE).expect("patience");
    other
}

pub fn path(world: &World) -> &str {
    world.url.strip_prefix("sqlite:").expect("its URL")
}

fn kind_of(url: &str) -> ErrorKind {
    SqliteStore::open(url).expect_err("an error was due").kind()
}

#[test]
fn urls_without_a_file_are_invalid() {
    for url in ["sqlite:", "sqlite::memory:", "sqlit:/x", ""] {
        assert_eq!(kind_of(url), ErrorKind::Invalid, "{url}");
    }
    let hint = SqliteStore::open("sqlite::memory:").expect_err("an error was due").to_string();
    assert!(hint.contains("use memory:"), "{hint}");
}

#[test]
fn what_cannot_be_opened_is_told() {
    let directory = std::env::temp_dir();
    for path in [directory.join("no/such/directory.db"), directory] {
        let error = SqliteStore::open(&format!("sqlite:{}", path.display())).expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
    }
}

#[test]
fn what_is_no_database_is_told_and_left_alone() {
    let path = std::env::temp_dir().join(unique());
    let text = "no database\n".repeat(1000);
    fs::write(&path, &text).expect("a file");
    let error = SqliteStore::open(&format!("sqlite:{}", path.display())).expect_err("an error");
    assert!(error.to_string().contains("no SQLite database"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    fs::remove_file(path).expect("it is there");
}

/// A name means the file of that name, whatever SQLite makes of such names.
#[test]
fn a_path_is_taken_as_it_stands() {
    let path = std::env::temp_dir().join(format!("file:{}?mode=memory", unique()));
    let store = SqliteStore::open(&format!("sqlite:{}", path.display())).expect("a store");
    assert!(path.exists());
    drop(store);
    fs::remove_file(path).expect("it is there");
}

#[test]
fn tables_of_a_later_version_are_refused() {
    let (world, other) = world();
    other.execute("UPDATE onceflight_meta SET value = 3 WHERE name = 'schema'", []).expect("done");
    let url = world.url.clone();
    // A file that is open isn't looked at again.
    let path = path(&world).to_owned();
    let copy = format!("{path}.copy");
    other.execute("VACUUM INTO ?1", [&copy]).expect("a copy");
    let error = SqliteStore::open(&format!("sqlite:{copy}")).expect_err("an error was due");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("version 3"), "{error}");
    assert!(SqliteStore::open(&url).is_ok());
}

/// Version 1 had an index over what is in progress, too.
#[test]
fn tables_of_version_1_are_brought_up_to_date() {
    let (world, other) = world();
    let key = world.key("k");
    let held = world.store().lead(&key, &claim()).held;
    assert_eq!(world.store().complete(&key, held, b"response", LONG), Settled::Done);
    let copy = format!("{}.copy", path(&world));
    other.execute("VACUUM INTO ?1", [&copy]).expect("a copy");
    let old = Connection::open(&copy).expect("the copy");
    old.execute_batch(
        "DROP INDEX onceflight_records_expires;
        CREATE INDEX onceflight_records_expires ON onceflight_records (expires) WHERE expires IS NOT NULL;
        UPDATE onceflight_meta SET value = 1 WHERE name = 'schema';",
    )
    .expect("as version 1 was");
    let store = SqliteStore::open(&format!("sqlite:{copy}")).expect("a store");
    let schema = |db: &Connection| -> (i64, Vec<String>) {
        let version = "SELECT value FROM onceflight_meta WHERE name = 'schema'";
        let version = db.query_row(version, [], |row| row.get(0)).expect("a version");
        let tables = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
        let mut tables = db.prepare(tables).expect("a statement");
        let rows = tables.query_map([], |row| row.get(0)).expect("rows");
        // But for how it is set.
        let words = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
        (version, rows.map(|row| words(row.expect("text"))).collect())
    };
    assert_eq!(schema(&old), schema(&other));
    assert!(matches!(store.claim(&key, &claim(), soon()), Ok(Claimed::Completed(_))));
    drop((store, old));
    fs::remove_file(copy).expect("it is there");
}

/// They stand in no index: a purge looks at some thousand records in a transaction.
#[test]
fn lost_leads_are_purged_wherever_they_stand() {
    let (world, other) = world();
    let lost = |name: &str| {
        let key = world.key(name);
        world.store().lead(&key, &claim());
        let lose = "UPDATE onceflight_records SET expires = 1, boot = zeroblob(16) WHERE id = ?1";
        assert_eq!(other.execute(lose, [key.id().0]), Ok(1));
    };
    lost("first");
    other
        .execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9000)
            INSERT INTO onceflight_records (id, scope, key, state, token, attempt, boot, status, body)
            SELECT randomblob(16), x'', x'', 2, zeroblob(16), 1, zeroblob(16), 200, x'' FROM numbers",
            [],
        )
        .expect("many records");
    lost("last");
    assert_eq!(world.store().purge(1), 1);
    assert_eq!(world.store().purge(100), 1);
    lost("another");
    assert_eq!(world.store().purge(100), 1, "it begins again");
}

#[test]
fn an_applications_file_keeps_what_it_has() {
    let path = std::env::temp_dir().join(unique());
    let other = Connection::open(&path).expect("a connection");
    other
        .execute_batch(
            "PRAGMA user_version = 7; CREATE TABLE orders (id); INSERT INTO orders VALUES (1)",
        )
        .expect("an application's tables");
    let store = SqliteStore::open(&format!("sqlite:{}", path.display())).expect("a store");
    let key = RecordKey::new("s", "k").expect("a key");
    assert!(matches!(store.claim(&key, &claim(), soon()), Ok(Claimed::Lead(_))));
    let count: i64 =
        other.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).expect("1");
    let version: i64 = other.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("7");
    assert_eq!((count, version), (1, 7));
    drop((store, other));
    fs::remove_file(path).expect("it is there");
}

/// Whoever writes to a file that is no longer there leads for nobody.
#[test]
fn a_file_that_was_deleted_leads_nobody() {
    let (world, _other) = world();
    world.store().lead(&world.key("k"), &claim());
    fs::remove_file(path(&world)).expect("it is there");
    failed(world.store().0.claim(&world.key("l"), &claim(), soon()));
    // Opened anew, it is a new file.
    world.another().lead(&world.key("l"), &claim());
    failed(world.store().0.claim(&world.key("m"), &claim(), soon()));
}

/// Each way in which a row can be wrong, as far as our own constraints let it be.
#[test]
fn a_record_that_cannot_be_read_is_an_error_with_its_name() {
    let (world, other) = world();
    other.execute_batch("PRAGMA ignore_check_constraints = ON").expect("no constraints");
    let wrongs = [
        "state = 9",
        "token = x'00'",
        "boot = x''",
        "attempt = -1",
        "attempt = 4294967296",
        "epoch = -epoch",
        "body = NULL",
        "status = NULL",
        "status = 4294967296",
        "scope = x'00'",
        "key = x'00'",
    ];
    for (number, wrong) in wrongs.iter().enumerate() {
        let key = world.key(&format!("{number}"));
        let held = world.store().lead(&key, &claim()).held;
        let _ = world.store().complete(&key, held, b"response", LONG);
        let update = format!("UPDATE onceflight_records SET {wrong} WHERE id = ?1");
        assert_eq!(other.execute(&update, [key.id().0]), Ok(1), "{wrong}");
        let before =
            other.query_row("SELECT * FROM onceflight_records WHERE id = ?1", [key.id().0], dump);
        let error = world.store().0.claim(&key, &claim(), soon()).expect_err(wrong);
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(&key.id().to_string()), "{wrong}: {error}");
        failed(world.store().0.read(&key, soon()));
        let after =
            other.query_row("SELECT * FROM onceflight_records WHERE id = ?1", [key.id().0], dump);
        assert_eq!(before, after, "{wrong}");
        assert!(world.store().evict(&key), "{wrong}");
    }
    // A list that leaves out what it can't read would say that it isn't there.
    let key = world.key("listed");
    world.store().lead(&key, &claim());
    other.execute("UPDATE onceflight_records SET state = 9", []).expect("done");
    failed(world.store().0.list(&world.scope, None, 100, soon()));
}

fn dump(row: &rusqlite::Row<'_>) -> rusqlite::Result<Vec<rusqlite::types::Value>> {
    (0..16).map(|column| row.get(column)).collect()
}

/// A lease of another boot has passed, whatever its number says; and it is no reason to run again
/// where that isn't allowed.
#[test]
fn no_lease_outlives_a_boot() {
    let (world, other) = world();
    let key = world.key("k");
    let before = world.store().lead(&key, &claim()).held;
    in_progress(world.store().claim(&key, &claim()));
    other.execute("UPDATE onceflight_records SET boot = zeroblob(16)", []).expect("a reboot");
    assert_eq!(world.store().record(&key).lease_left, Some(Duration::ZERO));
    unknown(&world.store().claim(&key, &Claim { take_over: false, ..claim() }));
    let after = world.store().lead(&key, &claim());
    assert!(after.grant.taken_over && after.held.epoch > before.epoch);
}

/// The wall clock is for retention alone: set forward by years, it ends no lease.
#[test]
fn no_step_of_the_wall_clock_ends_a_lease() {
    let (world, other) = world();
    let key = world.key("k");
    let held = world.store().lead(&key, &claim()).held;
    other.execute("UPDATE onceflight_records SET expires = 1", []).expect("a later time");
    in_progress(world.store().claim(&key, &claim()));
    assert_eq!(world.store().purge(100), 0);
    let _ = world.store().complete(&key, held, b"response", LONG);
    completed(world.store().claim(&key, &claim()));
}

/// News are kept for so long; whoever was away for longer is told to look at everything.
#[test]
fn news_that_were_dropped_are_told() {
    let (world, other) = world();
    let mut news = world.store().listen();
    let key = world.key("k");
    world.store().lead(&key, &claim());
    other.execute_batch("BEGIN").expect("a transaction");
    for _ in 0..1100 {
        for watched in ["1", "0"] {
            let mark = format!("UPDATE onceflight_records SET watched = {watched}");
            assert_eq!(other.execute(&mark, []), Ok(1));
        }
    }
    other.execute_batch("COMMIT").expect("done");
    let mut heard = Vec::new();
    news.wait(soon(), &mut |what| heard.push(what)).expect("news");
    assert_eq!(heard[0], Heard::Any);
    assert_eq!(heard[1..], vec![Heard::Record(key.id()); 1024]);
}

/// What one record costs doesn't grow with those that nobody asks for.
#[test]
fn purges_and_lists_use_their_indexes() {
    let (_world, other) = world();
    let plan = |sql: &str| -> String {
        let mut statement =
            other.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
        let lines = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get(3));
        let rows = lines.expect("a plan");
        rows.map(|row| row.expect("a line")).collect::<Vec<String>>().join("; ")
    };
    let expired =
        plan("SELECT epoch FROM onceflight_records WHERE state <> 1 AND expires <= 1 LIMIT 1");
    assert!(expired.contains("onceflight_records_expires"), "{expired}");
    let listed =
        plan("SELECT * FROM onceflight_records WHERE scope = x'' AND id > x'' ORDER BY id");
    assert!(
        listed.contains("onceflight_records_scope") && !listed.contains("TEMP B-TREE"),
        "{listed}"
    );
    let look = plan(SqliteStore::sql().look);
    assert!(look.contains("SEARCH") && !look.contains("SCAN"), "{look}");
}

/// Another program's transaction holds the write lock: writers end at their deadlines, replays go on.
#[test]
fn a_long_transaction_elsewhere_holds_nobody_past_the_deadline() {
    let (world, other) = world();
    let (key, replayed) = (world.key("k"), world.key("r"));
    let held = world.store().lead(&replayed, &claim()).held;
    let _ = world.store().complete(&replayed, held, b"response", LONG);
    let held = world.store().lead(&key, &claim()).held;
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let store = &world.store().0;
    let at = || std::time::Instant::now() + SHORT;
    let waits = at_once(8, |number| {
        let start = std::time::Instant::now();
        failed(store.claim(&world.key(&format!("new{number}")), &claim(), at()));
        start.elapsed()
    });
    assert!(waits.iter().all(|waited| *waited >= SHORT && *waited < PATIENCE / 2), "{waits:?}");
    failed(store.renew(&key, held, Some(LONG), at()));
    failed(store.purge(1, at()));
    completed(world.store().claim(&replayed, &claim()));
    in_progress(world.store().claim(&key, &claim()));
    // Who waits gets it.
    thread::scope(|scope| {
        let waiter = scope.spawn(|| world.store().lead(&world.key("waited for"), &claim()));
        thread::sleep(SHORT);
        other.execute_batch("COMMIT").expect("done");
        waiter.join().expect("a lead");
    });
}
