//! What can only be shown from inside: a disk that is full.

use std::fs;
use std::time::{Duration, Instant};

use super::SqliteStore;
use crate::ErrorKind;
use crate::store::{Claim, Claimed, Held, RecordKey, Response, Settled, Store, Token};

const LONG: Duration = Duration::from_secs(3600);

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// What was acknowledged stays, what can't be is an error, and with room again all goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let token = Token::draw().unwrap();
    let path = std::env::temp_dir().join(format!("onceflight-full-{token:?}"));
    let store = SqliteStore::open(&format!("sqlite:{}", path.display())).unwrap();
    let key = |number: usize| RecordKey::new("scope", number.to_string()).unwrap();
    let claim = Claim {
        token,
        fingerprint: None,
        lease: Some(LONG),
        keep: None,
        take_over: true,
        watch: false,
        following: None,
    };
    let limit = |pages: i64| {
        let db = store.file.writer.get(soon()).unwrap();
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
