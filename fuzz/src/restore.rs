//! Any bytes, with a seal that is theirs: a snapshot that is read and written the same, or an error; and
//! a table that was read takes any calls.
//!
//! The fuzzer can't guess a hash, nor should it have to find the version. So both are put right, and what
//! follows is its own.

#![no_main]

use std::hash::Hasher;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use onceflight::session::{SessionBegin, SessionRequest};
use onceflight::{ErrorKind, SessionTable};
use siphasher::sip::SipHasher24;

/// What is done with a table that was read. Numbers count from what a session has.
#[derive(Arbitrary, Debug)]
enum Step {
    Begin { session: u8, life: i8, ahead: i8, ack: i8, digest: Option<[u8; 16]>, len: u8 },
    Register { session: u8, nonce: u8, later: u16 },
    KeepAlive { session: u8, now: u64 },
    Unregister { session: u8 },
    Expire { now: u64 },
    Snapshot,
}

fuzz_target!(|input: (Vec<Step>, &[u8])| {
    let (steps, body) = input;
    let _ = SessionTable::restore(body);
    let bytes = sealed(body);
    let mut table = match SessionTable::restore(&bytes) {
        Ok(table) => table,
        Err(error) => return assert_eq!(ErrorKind::Format, error.kind()),
    };
    assert_eq!(bytes, table.freeze().unwrap().to_bytes(), "it was written otherwise");
    for step in steps {
        take(&mut table, &step);
    }
    let bytes = table.freeze().unwrap().to_bytes();
    let restored = SessionTable::restore(&bytes).expect("what was written can be read");
    assert_eq!(bytes, restored.freeze().unwrap().to_bytes());
    assert_eq!(table.response_bytes(), restored.response_bytes());
});

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = [b"1flight\n", &1_u32.to_le_bytes()[..], body].concat();
    let mut seal = SipHasher24::new();
    seal.write(&bytes);
    bytes.extend(seal.finish().to_le_bytes());
    bytes
}

fn take(table: &mut SessionTable, step: &Step) {
    let find = |number: u8| {
        let session = table.sessions().nth(number.into())?;
        Some((session.client.to_vec(), session.incarnation, session.floor))
    };
    let none = || (b"new".to_vec(), 0, 1);
    match step {
        Step::Begin { session, life, ahead, ack, digest, len } => {
            let (client, incarnation, floor) = find(*session).unwrap_or_else(none);
            let life = incarnation.saturating_add_signed((*life).into());
            let seq = floor.saturating_add_signed((*ahead).into());
            let request = SessionRequest::new(&client, life, seq);
            let request = request.ack(seq.saturating_add_signed((*ack).into()));
            let request = digest.map_or(request, |digest| request.digest(digest));
            if let Ok(SessionBegin::Lead) = table.begin(&request, 0) {
                let _ = table.record(&request, 0, &vec![0; (*len).into()]);
            }
            let _ = table.peek(&client, life, seq);
        }
        Step::Register { session, nonce, later } => {
            let now = table.now_ms().saturating_add((*later).into());
            let client = find(*session).unwrap_or_else(none).0;
            table.register(client, [*nonce], now).unwrap();
        }
        Step::KeepAlive { session, now } => {
            let (client, incarnation, _) = find(*session).unwrap_or_else(none);
            let _ = table.keep_alive(client, incarnation, *now);
        }
        Step::Unregister { session } => {
            let client = find(*session).unwrap_or_else(none).0;
            let _ = table.unregister(client);
        }
        Step::Expire { now } => drop(table.expire(*now)),
        Step::Snapshot => {
            *table = SessionTable::restore(&table.freeze().unwrap().to_bytes()).unwrap();
        }
    }
}
