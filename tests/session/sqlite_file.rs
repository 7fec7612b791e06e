//! What the file of durable sessions may be, and what happens to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{env, fs, process};

use onceflight::ErrorKind::{self, Format, Invalid, Store};
use onceflight::session::{Builder, DurableSessions};
use onceflight::store::SqliteStore;
use rusqlite::{Connection, Transaction};

use crate::sqlite::{Failed, Place, Sums, limits, request, same};
use crate::support::{B, kind};

/// They stand in the file: whoever opens it with others is told.
#[test]
fn other_limits_than_the_files_are_refused() {
    let place = Place::new();
    place.open().add(1).unwrap();
    let others: [fn(Builder) -> Builder; 6] = [
        |limits| limits.max_sessions(7),
        |limits| limits.window(5),
        |limits| limits.timeout_ms(7),
        |limits| limits.max_response_len(7),
        |limits| limits.max_session_bytes(7),
        |limits| limits.max_bytes(1 << 40),
    ];
    for other in others {
        let error = DurableSessions::open(place.file(), other(limits())).unwrap_err();
        assert_eq!(Invalid, error.kind());
        assert!(error.to_string().contains("other limits"), "{error}");
    }
    let none = DurableSessions::open(place.file(), limits().window(0));
    assert_eq!(Invalid, kind(none));
    place.open();
}

#[test]
fn tables_of_another_version_are_left_alone() {
    let place = Place::new();
    let mut sessions = place.open();
    sessions.add(1).unwrap();
    let version = |version: u32| {
        let set = format!("UPDATE onceflight_session_table SET version = {version}");
        place.other().execute_batch(&set).unwrap();
    };
    version(2);
    assert!(matches!(sessions.add(2), Err(Failed::Sessions(Store))));
    assert_eq!(Store, kind(sessions.sessions()));
    assert!(place.error().to_string().contains("version 2"));
    version(1);
    sessions.add(2).unwrap();
}

#[test]
fn rows_that_others_have_changed_are_told() {
    let spoils = [
        "UPDATE onceflight_sessions SET row = x'00'",
        "DELETE FROM onceflight_sessions",
        "INSERT INTO onceflight_sessions SELECT x'62', row FROM onceflight_sessions",
        "UPDATE onceflight_session_table SET row = x'00'",
    ];
    for spoil in spoils {
        let place = Place::new();
        place.open().add(1).unwrap();
        place.other().execute_batch(spoil).unwrap();
        assert_eq!(Format, place.error().kind(), "{spoil}");
    }
    let place = Place::new();
    place.open().add(1).unwrap();
    place.other().execute_batch("DELETE FROM onceflight_session_table").unwrap();
    assert_eq!(Store, place.error().kind());
}

#[test]
fn what_is_no_database_is_told() {
    let place = Place::new();
    fs::write(place.file(), "no database\n".repeat(1000)).unwrap();
    assert!(place.error().to_string().contains("no SQLite database"));
    let nowhere = DurableSessions::open(place.0.join("no/such.db"), limits()).unwrap_err();
    assert_eq!(Store, nowhere.kind());
}

/// Nothing is executed for nobody.
#[test]
fn a_file_that_was_replaced_is_written_to_no_more() {
    let place = Place::new();
    let mut sessions = place.open();
    sessions.add(1).unwrap();
    fs::rename(place.file(), place.0.join("moved.db")).unwrap();
    assert!(matches!(sessions.add(2), Err(Failed::Sessions(Store))));
    assert_eq!(Store, kind(sessions.sessions()));
    fs::rename(place.0.join("moved.db"), place.file()).unwrap();
    assert_eq!(b"2", sessions.add(2).unwrap().response.data());
}

/// As SQLite says of a full disk; with room again, all goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    let mut sessions = place.open();
    let room = |sessions: &DurableSessions, pages: u32| {
        let set = format!("PRAGMA max_page_count = {pages}");
        sessions.connection().query_row(&set, [], |row| row.get::<_, i64>(0)).unwrap();
    };
    room(&sessions, 20);
    let large = |transaction: &Transaction<'_>| {
        transaction.execute("INSERT INTO sums VALUES (zeroblob(3000))", [])?;
        Ok::<_, Failed>((0, "done"))
    };
    let full = (1..100).find(|seq| sessions.apply(&request(*seq), 0, large).is_err());
    let full = full.expect("it has an end");
    assert_eq!(i64::try_from(full).unwrap() - 1, sessions.sum());
    assert!(sessions.apply(&request(full - 1), 0, large).unwrap().replayed);
    room(&sessions, 1000);
    assert!(!sessions.apply(&request(full), 0, large).unwrap().replayed);
    same(&place, &mut sessions);
}

/// It stays as the user has set it up: here in memory, and without WAL.
#[test]
fn a_connection_of_the_users_own() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE sums (number INTEGER)").unwrap();
    let mut sessions = DurableSessions::with_connection(connection, limits()).unwrap();
    sessions.add(1).unwrap();
    assert!(sessions.add(1).unwrap().replayed);

    let place = Place::new();
    let connection = place.other();
    connection.execute_batch("CREATE TABLE sums (number INTEGER)").unwrap();
    let mut sessions = DurableSessions::with_connection(connection, limits()).unwrap();
    sessions.add(1).unwrap();
    let mode = |name| {
        let ask = format!("PRAGMA {name}");
        sessions.connection().query_row(&ask, [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!("delete", mode("journal_mode"));
    drop(sessions);
    let mut sessions = place.open();
    assert!(sessions.add(1).unwrap().replayed);
    let mode = |name| {
        let ask = format!("SELECT {name} FROM pragma_{name}");
        sessions
            .connection()
            .query_row(&ask, [], |row| row.get_ref(0).map(|it| format!("{it:?}")))
            .unwrap()
    };
    assert!(mode("journal_mode").contains("Text"), "{}", mode("journal_mode"));
    // 2: FULL.
    assert_eq!("Integer(2)", mode("synchronous"));
}

/// One transaction at a time: the second is told, and nothing of it is executed.
#[test]
fn a_writer_elsewhere_is_waited_for_and_then_told() {
    let place = Place::new();
    place.open().add(1).unwrap();
    let connection = place.other();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let mut sessions = DurableSessions::with_connection(connection, limits()).unwrap();
    let other = place.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(sessions.add(2), Err(Failed::Sessions(Store))));
    // Who only looks needn't wait.
    assert_eq!(1, sessions.sessions().unwrap().len());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(b"2", sessions.add(2).unwrap().response.data());
}

/// Its tables are beside those of a store, whoever comes first.
#[test]
fn a_store_may_have_the_same_file() {
    for store_first in [true, false] {
        let place = Place::new();
        let store = || SqliteStore::open(&format!("sqlite:{}", place.file().display())).unwrap();
        let early = store_first.then(store);
        let mut sessions = place.open();
        sessions.add(1).unwrap();
        drop(store());
        assert!(sessions.add(1).unwrap().replayed);
        drop(early);
        assert!(sessions.add(1).unwrap().replayed);
        drop(sessions);
        drop(store());
    }
}

/// Set in the process that forks. It runs this test alone, so no other thread holds a lock that its
/// child inherits.
#[cfg(unix)]
const ALONE: &str = "ONCEFLIGHT_FORKS";

#[test]
#[cfg(unix)]
fn a_forked_child_is_told_and_takes_no_lock_away() {
    if env::var_os(ALONE).is_some() {
        return forks();
    }
    let this = "sqlite_file::a_forked_child_is_told_and_takes_no_lock_away";
    let alone = process::Command::new(env::current_exe().unwrap())
        .args([this, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
}

#[cfg(unix)]
fn forks() {
    let place = Place::new();
    let mut sessions = Some(place.open());
    sessions.as_mut().unwrap().add(1).unwrap();
    // SAFETY: the process runs this test alone; the child ends without unwinding into the harness.
    #[allow(unsafe_code)]
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = catch_unwind(AssertUnwindSafe(|| {
            let ours = sessions.as_mut().unwrap();
            assert!(matches!(ours.add(2), Err(Failed::Sessions(ErrorKind::Forked))));
            assert_eq!(ErrorKind::Forked, kind(ours.sessions()));
            assert_eq!(ErrorKind::Forked, kind(ours.register(B, "n", 0)));
            assert_eq!(ErrorKind::Forked, place.error().kind());
            drop(sessions.take());
            // A file that the parent hasn't open.
            let own = place.0.join("own.db");
            DurableSessions::open(own, limits()).unwrap().register(B, "n", 0).unwrap();
        }));
        // SAFETY: ends the child.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(i32::from(told.is_err()))
        };
    }
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    #[allow(unsafe_code)]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((child, 0), (waited, status));
    assert_eq!(b"2", sessions.unwrap().add(2).unwrap().response.data());
}
