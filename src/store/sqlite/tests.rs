//! What can only be shown from inside: a disk that is full; several changes in one commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::SqliteStore;
use crate::store::{Claim, Claimed, Held, RecordKey, Response, Settled, Store, Token};
use crate::{Error, ErrorKind};

const LONG: Duration = Duration::from_secs(3600);

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn claim(token: Token) -> Claim<'static> {
    Claim {
        token,
        fingerprint: None,
        lease: Some(LONG),
        keep: None,
        take_over: true,
        watch: false,
        following: None,
    }
}

fn key(number: usize) -> RecordKey {
    RecordKey::new("scope", number.to_string()).unwrap()
}

/// A store in a file of its own, and that.
fn store(name: &str) -> (SqliteStore, PathBuf) {
    let path = std::env::temp_dir().join(format!("onceflight-{name}-{:?}", Token::draw().unwrap()));
    (SqliteStore::open(&format!("sqlite:{}", path.display())).unwrap(), path)
}

/// How often was committed, by the log's frames: those that end a transaction say how long the file is.
fn commits(path: &Path) -> usize {
    let log = fs::read(format!("{}-wal", path.display())).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

/// So many calls, each made once those before it stand in line; then their turn comes.
fn in_line<T: Send>(
    store: &SqliteStore,
    calls: usize,
    call: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Vec<Result<T, Error>> {
    let (held, waiting) = store.file.writer.hold();
    thread::scope(|scope| {
        let call = &call;
        let callers: Vec<_> = (0..calls)
            .map(|number| {
                let caller = scope.spawn(move || call(number));
                while waiting() <= number {
                    thread::yield_now();
                }
                caller
            })
            .collect();
        drop(held);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

#[test]
fn those_who_wait_are_committed_at_once() {
    let (store, path) = store("together");
    let token = Token::draw().unwrap();
    let before = commits(&path);
    let claimed = in_line(&store, 8, |number| store.claim(&key(number), &claim(token), soon()));
    assert_eq!(commits(&path), before + 1);
    let held: Vec<Held> = claimed
        .into_iter()
        .map(|claimed| match claimed {
            Ok(Claimed::Lead(grant)) => Held { token, epoch: grant.epoch },
            other => panic!("{other:?}"),
        })
        .collect();
    let response = |number: usize| Response::new(200, number.to_string().as_bytes());
    let settled = in_line(&store, 8, |number| {
        store.complete(&key(number), held[number], &response(number), LONG, soon())
    });
    assert!(settled.iter().all(|settled| *settled == Ok(Settled::Done)), "{settled:?}");
    assert_eq!(commits(&path), before + 2);
    // Of one key, one.
    let claimed =
        in_line(&store, 8, |_| store.claim(&key(99), &claim(Token::draw().unwrap()), soon()));
    let leads = claimed.iter().filter(|claimed| matches!(claimed, Ok(Claimed::Lead(_)))).count();
    assert_eq!(leads, 1, "{claimed:?}");
    for number in 0..8 {
        let Claimed::Completed(found) = store.claim(&key(number), &claim(token), soon()).unwrap()
        else {
            panic!("it was completed")
        };
        assert_eq!(found, response(number));
    }
    drop(store);
    fs::remove_file(path).unwrap();
}

/// One of those who are committed together fails: nobody else does, and what it did is undone.
#[test]
fn an_error_is_its_own_callers_alone() {
    let (store, path) = store("poison");
    let token = Token::draw().unwrap();
    let Claimed::Lead(_) = store.claim(&key(3), &claim(token), soon()).unwrap() else {
        panic!("a lead was due")
    };
    {
        let db = store.file.writer.connection(soon());
        let spoil = "UPDATE onceflight_records SET attempt = 1 << 40";
        assert_eq!(db.connection().execute(spoil, []), Ok(1));
    }
    let done = in_line(&store, 8, |number| match number {
        3 => store.withdraw(&key(3), token, soon()).map(|()| None),
        _ => store.claim(&key(number), &claim(token), soon()).map(Some),
    });
    for (number, done) in done.into_iter().enumerate() {
        match (number, done) {
            (3, Err(error)) => assert_eq!(error.kind(), ErrorKind::Store),
            (3, Ok(_)) => panic!("what can't be read was withdrawn"),
            (_, Ok(Some(Claimed::Lead(grant)))) => {
                let held = Held { token, epoch: grant.epoch };
                let renewed = store.renew(&key(number), held, Some(LONG), soon());
                assert_eq!(renewed, Ok(Settled::Done));
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    drop(store);
    fs::remove_file(path).unwrap();
}

/// What was acknowledged stays, what can't be is an error, and with room again all goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let token = Token::draw().unwrap();
    let (store, path) = store("full");
    let claim = claim(token);
    let limit = |pages: i64| {
        let db = store.file.writer.connection(soon());
        let set = format!("PRAGMA max_page_count = {pages}");
        db.connection().query_row(&set, [], |row| row.get::<_, i64>(0)).unwrap();
    };
    // SQLite says FULL at that limit as it does on a full disk.
    limit(40);
    let response = Response::new(200, &[1; 4000]);
    let mut leads = Vec::new();
    let refused = (0..100).find_map(|number| {
        match store.claim(&key(number), &claim, soon()) {
            Ok(Claimed::Lead(grant)) => leads.push(Held { token, epoch: grant.epoch }),
            other => return Some(other.map(drop).unwrap_err()),
        }
        match store.complete(&key(number), leads[number], &response, LONG, soon()) {
            Ok(settled) => assert_eq!(settled, Settled::Done),
            Err(error) => return Some(error),
        }
        None
    });
    let refused = refused.expect("the file has an end");
    assert_eq!(refused.kind(), ErrorKind::Store);
    assert!(refused.to_string().contains("make room"), "{refused}");

    let completed = (0..leads.len())
        .filter(|number| match store.claim(&key(*number), &claim, soon()).unwrap() {
            Claimed::Completed(replayed) => replayed == response,
            Claimed::Lead(_) => false,
            other => panic!("{other:?}"),
        })
        .count();
    assert!(completed > 5 && completed >= leads.len() - 1, "{completed} of {}", leads.len());

    limit(1 << 20);
    for number in completed..completed + 5 {
        let Claimed::Lead(grant) = store.claim(&key(number), &claim, soon()).unwrap() else {
            panic!("a lead was due")
        };
        let held = Held { token, epoch: grant.epoch };
        assert_eq!(store.complete(&key(number), held, &response, LONG, soon()), Ok(Settled::Done));
    }
    drop(store);
    fs::remove_file(path).unwrap();
}

/// A lease in a caller's transaction begins when that has the lock.
#[test]
fn a_lease_in_a_transaction_is_as_long_as_asked_for() {
    const LEASE: Duration = Duration::from_millis(500);
    let (store, path) = store("late");
    let connect = || {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    };
    let (mut ours, other) = (connect(), connect());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(LEASE);
            other.execute_batch("COMMIT").unwrap();
        });
        let transaction = ours.transaction().unwrap();
        let claim = Claim { lease: Some(LEASE), ..claim(Token::draw().unwrap()) };
        let claimed = store.claim_in(&transaction, &key(1), &claim);
        assert!(matches!(claimed, Ok(Claimed::Lead(_))), "{claimed:?}");
        transaction.commit().unwrap();
    });
    let claimed = store.claim(&key(1), &claim(Token::draw().unwrap()), soon());
    assert!(matches!(claimed, Ok(Claimed::InProgress { .. })), "{claimed:?}");
    drop((store, ours));
    fs::remove_file(path).unwrap();
}
