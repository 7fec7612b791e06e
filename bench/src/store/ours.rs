//! onceflight over a store: the store alone, and a table over it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onceflight::IdempotencyTable;
use onceflight::idempotency::Begin;
use onceflight::store::{self, Claim, Claimed, Held, RecordKey, Response, Settled, Store, Token};

use super::{Client, Clients, FINGERPRINT, RESPONSE, STATUS, TTL_SECONDS};
use crate::keys::Short;

pub fn contestants(url: &str, clients: usize) -> [(&'static str, Clients); 2] {
    let (store, table) = (open(url), Arc::new(table(url)));
    let bare = |_| -> Box<dyn Client> { Box::new(Bare(Arc::clone(&store))) };
    let whole = |_| -> Box<dyn Client> { Box::new(Whole(Arc::clone(&table))) };
    [("store", (0..clients).map(bare).collect()), ("onceflight", (0..clients).map(whole).collect())]
}

fn open(url: &str) -> Arc<dyn Store> {
    store::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

pub fn table(url: &str) -> IdempotencyTable {
    let builder = IdempotencyTable::builder().ttl(Duration::from_secs(TTL_SECONDS));
    builder.over(open(url)).expect("a table")
}

struct Whole(Arc<IdempotencyTable>);

impl Client for Whole {
    fn flight(&mut self, key: &Short) {
        match self.0.request(key).fingerprint(&FINGERPRINT).begin().expect("begin") {
            Begin::Lead(lead) => {
                lead.complete(Response::new(STATUS, &RESPONSE)).expect("complete");
            }
            other => panic!("a new key: {other:?}"),
        }
    }

    fn replay(&mut self, key: &Short) {
        match self.0.request(key).fingerprint(&FINGERPRINT).begin().expect("begin") {
            Begin::Replayed(response) => assert_eq!(black_box(response.data())[0], RESPONSE[0]),
            other => panic!("a completed key: {other:?}"),
        }
    }
}

struct Bare(Arc<dyn Store>);

impl Bare {
    fn claim(&self, key: &RecordKey, token: Token, deadline: Instant) -> Claimed {
        let claim = Claim {
            token,
            fingerprint: Some(&FINGERPRINT),
            lease: Some(Duration::from_secs(30)),
            keep: Some(Duration::from_secs(TTL_SECONDS)),
            take_over: true,
            watch: true,
            following: None,
        };
        self.0.claim(key, &claim, deadline).expect("claim")
    }
}

impl Client for Bare {
    fn flight(&mut self, key: &Short) {
        let (key, token) = (record(key), Token::draw().expect("a token"));
        let deadline = Instant::now() + Duration::from_secs(60);
        let Claimed::Lead(grant) = self.claim(&key, token, deadline) else {
            panic!("a new key is led by another")
        };
        let (held, response) =
            (Held { token, epoch: grant.epoch }, Response::new(STATUS, &RESPONSE));
        let ttl = Duration::from_secs(TTL_SECONDS);
        let settled = self.0.complete(&key, held, &response, ttl, deadline);
        assert_eq!(settled, Ok(Settled::Done));
    }

    fn replay(&mut self, key: &Short) {
        let token = Token::draw().expect("a token");
        let deadline = Instant::now() + Duration::from_secs(60);
        let Claimed::Completed(response) = self.claim(&record(key), token, deadline) else {
            panic!("a completed key isn't replayed")
        };
        assert_eq!(black_box(response.data())[0], RESPONSE[0]);
    }
}

fn record(key: &Short) -> RecordKey {
    RecordKey::new("", key).expect("a key")
}
