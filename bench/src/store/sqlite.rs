//! The floor of SQLite: an INSERT and an UPDATE, each a transaction of its own that is synced, in a file
//! with the store's own tables. One connection writes, since SQLite has one writer; every thread reads by
//! its own.

use std::hint::black_box;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, params};

use super::{Client, Clients, FINGERPRINT, RESPONSE, STATUS, TTL_SECONDS};
use crate::keys::Short;

const CLAIM: &str = "INSERT INTO onceflight_records
    (id, scope, key, fingerprint, state, token, attempt, boot, lease_until)
    VALUES (?1, x'', ?1, ?2, 1, ?3, 1, ?3, ?4) ON CONFLICT DO NOTHING RETURNING epoch";
const COMPLETE: &str = "UPDATE onceflight_records
    SET state = 2, status = ?1, body = ?2, lease_until = NULL, expires = ?3
    WHERE epoch = ?4 AND id = ?5 AND token = ?6 AND state = 1";
const READ: &str = "SELECT status, body FROM onceflight_records
    WHERE id = ?1 AND key = ?1 AND fingerprint = ?2 AND state = 2 AND expires > ?3";

struct Floor {
    writer: Arc<Mutex<Connection>>,
    reader: Connection,
}

pub fn floor(url: &str, clients: usize) -> Clients {
    let url = format!("{url}-floor");
    drop(onceflight::store::open(&url).expect("the store's tables"));
    let path = url.trim_start_matches("sqlite:");
    let writer = Arc::new(Mutex::new(open(path)));
    let client = |_| -> Box<dyn Client> {
        Box::new(Floor { writer: Arc::clone(&writer), reader: open(path) })
    };
    (0..clients).map(client).collect()
}

/// The file is in WAL mode already.
fn open(path: &str) -> Connection {
    let connection = Connection::open(path).expect("the floor's file");
    connection.pragma_update(None, "synchronous", "FULL").expect("synchronous");
    connection
}

impl Client for Floor {
    fn flight(&mut self, key: &Short) {
        let token = [1u8; 16];
        let epoch: i64 = {
            let writer = self.writer.lock().expect("the writer");
            let mut claim = writer.prepare_cached(CLAIM).expect("claim");
            claim
                .query_row(params![key, FINGERPRINT, token, i64::MAX], |row| row.get(0))
                .expect("a new key")
        };
        let writer = self.writer.lock().expect("the writer");
        let mut complete = writer.prepare_cached(COMPLETE).expect("complete");
        let expires = TTL_SECONDS as i64 * 1000;
        let row = params![STATUS, &RESPONSE[..], expires, epoch, key, token];
        assert_eq!(complete.execute(row), Ok(1));
    }

    fn replay(&mut self, key: &Short) {
        let mut read = self.reader.prepare_cached(READ).expect("read");
        let row = read.query_row(params![key, FINGERPRINT, 0], |row| {
            Ok((row.get::<_, i32>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        assert_eq!(black_box(row).expect("a completed key").1[0], RESPONSE[0]);
    }
}
