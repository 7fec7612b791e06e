//! The floor of Redis: two scripts that do nothing but claim a hash and fill it.

use std::hint::black_box;

use redis::{Connection, Script};

use super::{Client, Clients, FINGERPRINT, RESPONSE, STATUS, TTL_SECONDS};
use crate::keys::Short;

const CLAIM: &str = "
    if redis.call('HSETNX', KEYS[1], 'token', ARGV[1]) == 0 then return 0 end
    redis.call('HSET', KEYS[1], 'key', ARGV[2], 'fp', ARGV[3])
    return 1";
const COMPLETE: &str = "
    if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'status', ARGV[2], 'body', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return 1";

struct Floor {
    connection: Connection,
    claim: Script,
    complete: Script,
}

pub fn floor(url: &str, clients: usize) -> Clients {
    let client = redis::Client::open(url).expect("a URL of Redis");
    let connected = |_| -> Box<dyn Client> {
        let connection = client.get_connection().expect("Redis");
        Box::new(Floor { connection, claim: Script::new(CLAIM), complete: Script::new(COMPLETE) })
    };
    (0..clients).map(connected).collect()
}

impl Client for Floor {
    fn flight(&mut self, key: &Short) {
        let (name, token) = (name(key), [1u8; 16]);
        let mut claim = self.claim.key(&name);
        let led = claim.arg(&token).arg(key).arg(&FINGERPRINT).invoke(&mut self.connection);
        assert_eq!(led, Ok(1), "a new key");
        let mut complete = self.complete.key(&name);
        complete.arg(&token).arg(STATUS).arg(&RESPONSE[..]).arg(TTL_SECONDS * 1000);
        assert_eq!(complete.invoke(&mut self.connection), Ok(1), "a lead");
    }

    fn replay(&mut self, key: &Short) {
        let mut read = redis::cmd("HMGET");
        read.arg(name(key)).arg(&["key", "fp", "status", "body"]);
        let found: (Vec<u8>, Vec<u8>, i32, Vec<u8>) =
            read.query(&mut self.connection).expect("a completed key");
        assert_eq!(black_box(found).3[0], RESPONSE[0]);
    }
}

fn name(key: &Short) -> String {
    format!("floor:{:032x}", u128::from_be_bytes(*key))
}
