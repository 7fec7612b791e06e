//! The floor of Postgres: an INSERT and an UPDATE, prepared, each a transaction of its own, in a table with
//! the columns and indexes of the store's.

use std::hint::black_box;

use postgres::{NoTls, Statement};

use super::{Client, Clients, FINGERPRINT, RESPONSE, STATUS};
use crate::keys::Short;

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS onceflight_floor (LIKE onceflight_records INCLUDING ALL)";
const CLAIM: &str = "INSERT INTO onceflight_floor
    (id, scope, key, fingerprint, state, token, epoch, attempt, taken_over, lease_until, expires_at, watched, created_at)
    VALUES ($1, '', $1, $2, 1, $3, nextval('onceflight_epochs'), 1, false, now() + interval '30 s', 'infinity', false,
        now())
    ON CONFLICT DO NOTHING RETURNING epoch";
const COMPLETE: &str = "UPDATE onceflight_floor
    SET state = 2, status = $1, body = $2, expires_at = now() + interval '1 hour'
    WHERE id = $3 AND token = $4 AND epoch = $5 AND state = 1";
const READ: &str = "SELECT status, body FROM onceflight_floor
    WHERE id = $1 AND key = $1 AND fingerprint = $2 AND state = 2 AND expires_at > now()";

struct Floor {
    client: postgres::Client,
    claim: Statement,
    complete: Statement,
    read: Statement,
}

pub fn floor(url: &str, clients: usize) -> Clients {
    drop(onceflight::store::open(url).expect("the store's tables"));
    let connect = || postgres::Client::connect(url, NoTls).expect("Postgres");
    connect().batch_execute(TABLE).expect("the floor's table");
    let prepared = |_| -> Box<dyn Client> {
        let mut client = connect();
        let mut prepare = |text| client.prepare(text).expect("a statement");
        let (claim, complete, read) = (prepare(CLAIM), prepare(COMPLETE), prepare(READ));
        Box::new(Floor { client, claim, complete, read })
    };
    (0..clients).map(prepared).collect()
}

impl Client for Floor {
    fn flight(&mut self, key: &Short) {
        let (key, token) = (&key[..], &[1u8; 16][..]);
        let claimed = self.client.query_one(&self.claim, &[&key, &&FINGERPRINT[..], &token]);
        let epoch: i64 = claimed.expect("a new key").get(0);
        let row: [&(dyn postgres::types::ToSql + Sync); 5] =
            [&STATUS, &&RESPONSE[..], &key, &token, &epoch];
        let completed = self.client.execute(&self.complete, &row).expect("complete");
        assert_eq!(completed, 1);
    }

    fn replay(&mut self, key: &Short) {
        let found = self.client.query_one(&self.read, &[&&key[..], &&FINGERPRINT[..]]);
        let body: Vec<u8> = black_box(found).expect("a completed key").get(1);
        assert_eq!(body[0], RESPONSE[0]);
    }
}
