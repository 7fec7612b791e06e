//! Claims and completions as a part of the caller's own transaction.

use std::thread;

use onceflight::ErrorKind;
use onceflight::store::{Claimed, Held, Response, Settled, SqliteStore, Token};
use rusqlite::{Connection, TransactionBehavior, named_params};

use crate::harness::*;
use crate::sqlite_file::connect;

/// The store of a temporary file, and an application's connection to it, with a table of its own.
fn application(world: &World) -> (SqliteStore, Connection) {
    let application = connect(world);
    application.execute_batch("CREATE TABLE IF NOT EXISTS orders (what TEXT)").expect("a table");
    (SqliteStore::open(&world.url).expect("a store"), application)
}

fn orders(application: &Connection) -> i64 {
    application.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).expect("a number")
}

#[test]
fn a_commit_publishes_record_and_rows_together() {
    let world = World::new(&SQLITE);
    let ((store, mut application), key) = (application(&world), world.key("k"));
    let transaction =
        application.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock");
    let claim = claim();
    let held = led(&claim, store.claim_in(&transaction, &key, &claim).expect("an answer")).held;
    transaction.execute("INSERT INTO orders VALUES ('a')", []).expect("a row");
    let response = Response::new(201, b"made");
    let settled = store.complete_in(&transaction, &key, held, &response, LONG);
    assert_eq!(settled, Ok(Settled::Done));
    assert!(world.store().read(&key).is_none(), "nobody sees what isn't committed");
    transaction.commit().expect("a commit");
    assert_eq!(completed(world.store().claim(&key, &claim)), response);
    assert_eq!(orders(&application), 1);
}

/// (#47)
#[test]
fn a_rollback_leaves_neither_record_nor_rows() {
    let world = World::new(&SQLITE);
    let ((store, mut application), key) = (application(&world), world.key("k"));
    for release in [None, Some(CANCEL)] {
        let transaction = application
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .expect("the lock");
        let claim = claim();
        let held = led(&claim, store.claim_in(&transaction, &key, &claim).expect("an answer")).held;
        transaction.execute("INSERT INTO orders VALUES ('a')", []).expect("a row");
        if let Some(release) = release {
            assert_eq!(store.release_in(&transaction, &key, held, release), Ok(Settled::Done));
        } else {
            let settled =
                store.complete_in(&transaction, &key, held, &Response::new(200, b""), LONG);
            assert_eq!(settled, Ok(Settled::Done));
        }
        drop(transaction);
        assert!(world.store().read(&key).is_none());
        assert_eq!(orders(&application), 0);
    }
    assert_eq!(world.store().lead(&key, &claim()).grant.attempt, 1);
}

/// Threads with connections of their own, all with the same key: one makes the order.
#[test]
fn whoever_comes_second_waits_and_reads() {
    let world = World::new(&SQLITE);
    let (store, application) = application(&world);
    for round in 0..5 {
        let key = world.key(&format!("k{round}"));
        let leads = at_once(6, |_| {
            let mut connection = connect(&world);
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .expect("the lock");
            let claim = claim();
            match store.claim_in(&transaction, &key, &claim).expect("an answer") {
                Claimed::Lead(grant) => {
                    transaction.execute("INSERT INTO orders VALUES ('a')", []).expect("a row");
                    let held = Held { token: claim.token, epoch: grant.epoch };
                    let response = Response::new(201, b"made");
                    let settled = store.complete_in(&transaction, &key, held, &response, LONG);
                    assert_eq!(settled, Ok(Settled::Done));
                    transaction.commit().expect("a commit");
                    1
                }
                answer => {
                    assert_eq!(completed(answer).data(), b"made");
                    0
                }
            }
        });
        assert_eq!(leads.iter().sum::<i32>(), 1);
        assert_eq!(orders(&application), round + 1);
    }
}

#[test]
fn a_transaction_on_another_file_is_invalid() {
    let (world, elsewhere) = (World::new(&SQLITE), World::new(&SQLITE));
    let (store, _) = application(&world);
    let mut other = connect(&elsewhere);
    let transaction = other.transaction().expect("a transaction");
    let error = store.claim_in(&transaction, &world.key("k"), &claim()).expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// What began as a reader can't write any more once somebody else has; it is told how to begin.
#[test]
fn a_transaction_that_began_by_reading_is_told_why_it_fails() {
    let world = World::new(&SQLITE);
    let (store, mut application) = application(&world);
    let transaction = application.transaction().expect("a transaction");
    assert_eq!(orders(&transaction), 0);
    world.store().lead(&world.key("k"), &claim());
    let error = store.claim_in(&transaction, &world.key("l"), &claim()).expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("BEGIN IMMEDIATE"), "{error}");
}

/// Those who wait elsewhere hear of a commit made by an application, and of no rollback.
#[test]
fn a_completion_in_a_transaction_is_heard() {
    let world = World::new(&SQLITE);
    let ((store, mut application), key) = (application(&world), world.key("k"));
    let held = world.store().lead(&key, &claim()).held;
    let mut news = world.store().listen();
    in_progress(world.store().claim(&key, &onceflight::store::Claim { watch: true, ..claim() }));
    let response = Response::new(200, b"response");
    thread::scope(|scope| {
        let listener = scope.spawn(|| {
            let mut heard = Vec::new();
            news.wait(soon(), &mut |what| heard.push(what)).expect("news");
            assert_eq!(heard, [onceflight::store::Heard::Record(key.id())]);
            completed(world.store().claim(&key, &claim()))
        });
        for commits in [false, true] {
            let transaction = application
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .expect("the lock");
            let settled = store.complete_in(&transaction, &key, held, &response, LONG);
            assert_eq!(settled, Ok(Settled::Done));
            if commits {
                transaction.commit().expect("a commit");
            }
        }
        assert_eq!(listener.join().expect("a listener"), response);
    });
}

/// As a program in another language would: by the statements, and its own clocks.
#[test]
fn the_statements_serve_other_programs() {
    let world = World::new(&SQLITE);
    let (_, application) = application(&world);
    let (sql, key, token) = (SqliteStore::sql(), world.key("k"), Token([7; 16]));
    let verdict = || {
        let mut look = application.prepare(sql.look).expect("a statement");
        let parameters = named_params! {
            ":id": key.id().0, ":token": token.0, ":fingerprint": b"payload", ":following": None::<i64>,
            ":take_over": true, ":boot": [0_u8; 16], ":now": 0, ":wall": 0,
        };
        let mut rows = look.query(parameters).expect("rows");
        let row = rows.next().expect("an answer");
        row.map(|row| row.get::<_, String>("verdict").expect("a verdict"))
    };
    let lead = || -> i64 {
        let parameters = named_params! {
            ":id": key.id().0, ":scope": key.scope(), ":key": key.key(), ":fingerprint": b"payload",
            ":token": token.0, ":attempt": 1, ":checkpoint": None::<Vec<u8>>, ":boot": [0_u8; 16],
            ":lease_until": None::<i64>, ":ends": None::<i64>, ":keep": None::<i64>,
        };
        application.query_row(sql.lead, parameters, |row| row.get(0)).expect("an epoch")
    };
    assert_eq!(verdict(), None);
    let first = lead();
    assert_eq!(verdict().as_deref(), Some("held"));
    in_progress(world.store().claim(&key, &claim()));
    let held = named_params! {":id": key.id().0, ":token": token.0, ":epoch": first};
    assert_eq!(application.execute(sql.cancel, held), Ok(1));
    assert_eq!(application.execute(sql.cancel, held), Ok(0));
    let second = lead();
    assert!(second > first);
    let parameters = named_params! {
        ":id": key.id().0, ":token": token.0, ":epoch": second,
        ":status": 201, ":body": b"made", ":expires": None::<i64>,
    };
    assert_eq!(application.execute(sql.complete, parameters), Ok(1));
    assert_eq!(verdict().as_deref(), Some("completed"));
    assert_eq!(completed(world.store().claim(&key, &claim())), Response::new(201, b"made"));
    assert_eq!(world.store().record(&key).expires_in, None);
}
