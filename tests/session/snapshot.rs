//! A table as it was at one moment: it comes back the same, and stays as it was.

use std::io::{self, Write};
use std::sync::Barrier;
use std::thread;

use onceflight::ErrorKind::{Conflict, Format, SeqStale, TooLarge};
use onceflight::SessionTable;
use onceflight::session::{SessionBegin, SessionRequest, Snapshot};

use crate::support::{A, B, Calls, Random, add, kind, table, with};

/// The first version's, of the table that [`of_all_kinds`] makes. It must be read for ever, and this
/// library, as long as it writes that version, must write these very bytes.
const V1: &[u8] = include_bytes!("v1.snapshot");

/// A table that has all there is in a snapshot: sessions of both kinds, names of all lengths, replies
/// with digests and without, and some that were too large.
fn of_all_kinds() -> SessionTable {
    let mut table = SessionTable::builder()
        .max_sessions(9)
        .window(5)
        .timeout_ms(1000)
        .max_response_len(20)
        .max_session_bytes(50)
        .max_bytes(200)
        .build()
        .unwrap();
    table.lead(&SessionRequest::implicit(b"implicit", 1), b"one");
    let long = [b'l'; 255];
    let life = table.register(long, long, 5).unwrap();
    table.lead(&SessionRequest::new(&long, life, 3), b"three");
    table.lead(&SessionRequest::new(&long, life, 1).digest([1; 16]), b"one");
    table.register("", "", 10).unwrap();
    let gone = table.register("gone", "", 10).unwrap();
    table.unregister("gone").unwrap();
    let life = table.register("moved on", "nonce", 20).unwrap();
    assert_eq!(gone + 1, life);
    for seq in [100, 103, 101] {
        table.lead(&SessionRequest::new(b"moved on", life, seq).ack(100), &seq.to_le_bytes());
    }
    for (seq, digest) in [(102, None), (104, Some([4; 16]))] {
        let request = SessionRequest::new(b"moved on", life, seq);
        let request = digest.map_or(request, |digest| request.digest(digest));
        assert_eq!(Ok(SessionBegin::Lead), table.begin(&request, 30));
        assert_eq!(TooLarge, kind(table.record(&request, -7, &[0; 21])));
    }
    table.keep_alive("implicit", 0, 40).unwrap();
    table
}

#[test]
fn the_first_version_is_read_and_written_for_ever() {
    assert_eq!(V1, of_all_kinds().bytes());
    let mut table = SessionTable::restore(V1).unwrap();
    assert_eq!(V1, table.bytes());
    assert_eq!(of_all_kinds().names(), table.names());
    assert_eq!(b"one", table.replay(&SessionRequest::implicit(b"implicit", 1)).data());
    let request = |seq| SessionRequest::new(b"moved on", 5, seq);
    assert_eq!(SeqStale, table.refusal(&request(99)));
    assert_eq!(103_u64.to_le_bytes(), table.replay(&request(103)).data());
    assert_eq!(TooLarge, table.refusal(&request(102)));
    assert_eq!(Conflict, table.refusal(&request(104)));
    assert_eq!(TooLarge, table.refusal(&request(104).digest([4; 16])));
    assert_eq!(6, table.register("new", "", 0).unwrap());
}

#[test]
fn every_flipped_bit_is_found() {
    let mut bytes = V1.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert_eq!(Format, kind(SessionTable::restore(&bytes)), "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
    SessionTable::restore(&bytes).unwrap();
}

#[test]
fn every_part_and_more_than_all_is_refused() {
    for len in 0..V1.len() {
        assert_eq!(Format, kind(SessionTable::restore(&V1[..len])), "the first {len} bytes");
        assert_eq!(Format, kind(SessionTable::restore(&V1[len + 1..])), "all but {}", len + 1);
    }
    for more in [&b"\0"[..], V1] {
        assert_eq!(Format, kind(SessionTable::restore(&[V1, more].concat())));
    }
}

/// One that was restored goes on as the other does: see `random` for the same with all there is.
#[test]
fn a_restored_table_goes_on_as_the_other() {
    let mut table = with(|builder| builder.max_sessions(3).timeout_ms(100));
    for client in [A, B, b"c"] {
        table.lead(&SessionRequest::implicit(client, 1), client);
    }
    table.keep_alive(A, 0, 10).unwrap();
    let mut restored = SessionTable::restore(&table.bytes()).unwrap();
    for table in [&mut table, &mut restored] {
        assert_eq!(b"b", table.replay(&SessionRequest::implicit(B, 1)).data());
        table.lead(&SessionRequest::implicit(b"d", 1), b"d");
        assert_eq!(["a", "b", "d"], *table.names());
        assert_eq!(0, table.expire(109).unwrap());
        assert_eq!(3, table.expire(110).unwrap());
        assert_eq!(5, table.life(A));
    }
    assert_eq!(table.bytes(), restored.bytes());
}

/// Whichever order they came in: it is the order of use that counts.
#[test]
fn order_is_that_of_use() {
    let bytes = |order: [&[u8]; 3]| {
        let mut table = table();
        for client in [A, B, b"c"] {
            table.life(client);
        }
        for client in order {
            table.keep_alive(client, table.peek_life(client), 0).unwrap();
        }
        table.bytes()
    };
    assert_eq!(bytes([A, B, b"c"]), bytes([A, B, b"c"]));
    assert_ne!(bytes([A, B, b"c"]), bytes([A, b"c", B]));
}

trait Life {
    fn peek_life(&self, client: &[u8]) -> u64;
}

impl Life for SessionTable {
    fn peek_life(&self, client: &[u8]) -> u64 {
        self.sessions().find(|session| session.client == client).unwrap().incarnation
    }
}

/// Changes whatever can change, of a table of some hundred sessions.
fn turn_over(table: &mut SessionTable, random: &mut Random, times: usize) {
    for _ in 0..times {
        let client = random.within(0..300).to_le_bytes();
        let now = table.now_ms() + random.within(0..3);
        match random.within(0..10) {
            0 => drop(table.unregister(client)),
            1 => drop(table.register(client, [0], now)),
            2 => drop(table.register(client, now.to_le_bytes(), now)),
            3 => drop(table.expire(now)),
            _ => {
                let seq = 1 + random.within(0..6);
                let request = SessionRequest::implicit(&client, seq).ack(random.within(0..seq));
                let _ = add(table, &request, now, &mut 0);
            }
        }
    }
}

fn crowded() -> (SessionTable, Random) {
    let (mut table, mut random) = (with(|builder| builder.timeout_ms(2000)), Random(1));
    turn_over(&mut table, &mut random, 2000);
    assert!(table.len() > 100);
    (table, random)
}

#[test]
fn a_frozen_one_stays_as_it_was() {
    let (mut table, mut random) = crowded();
    let mut frozen: Vec<(Snapshot, Vec<u8>)> = Vec::new();
    for _ in 0..20 {
        // Several at once, of different moments, which share what hasn't changed between them.
        let before = table.bytes();
        let snapshot = table.freeze().unwrap();
        assert_eq!((table.len(), table.is_empty()), (snapshot.len(), snapshot.is_empty()));
        frozen.push((snapshot, before));
        turn_over(&mut table, &mut random, 100);
        for (snapshot, before) in &frozen {
            assert_eq!(*before, snapshot.to_bytes());
        }
    }
    drop(table);
    for (snapshot, before) in frozen {
        assert_eq!(before, snapshot.to_bytes());
    }
}

/// It is written by one thread while another applies the next entries.
#[test]
fn a_frozen_one_is_written_by_another_thread() {
    let (mut table, mut random) = crowded();
    let both = Barrier::new(2);
    for _ in 0..20 {
        let before = table.bytes();
        let snapshot = table.freeze().unwrap();
        thread::scope(|scope| {
            let written = scope.spawn(|| {
                both.wait();
                let bytes = snapshot.to_bytes();
                drop(snapshot);
                bytes
            });
            both.wait();
            turn_over(&mut table, &mut random, 300);
            assert_eq!(before, written.join().unwrap());
        });
    }
}

/// A disk that takes some bytes only.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0).min(7);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_the_writer_says_is_handed_on() {
    let snapshot = of_all_kinds().freeze().unwrap();
    for room in [0, 1, V1.len() - 1] {
        let error = snapshot.write_to(Full(room)).unwrap_err();
        assert_eq!(io::ErrorKind::StorageFull, error.kind());
    }
    snapshot.write_to(Full(V1.len())).unwrap();
}

/// More than is written at once, and responses longer than that.
#[test]
fn large_ones_come_back_too() {
    let mut table = table();
    for client in 0_u32..2000 {
        let client = client.to_le_bytes();
        table.lead(&SessionRequest::implicit(&client, 1), &[1; 100]);
    }
    table.lead(&SessionRequest::implicit(A, 1), &vec![7; 300_000]);
    let bytes = table.bytes();
    let mut restored = SessionTable::restore(&bytes).unwrap();
    assert_eq!(bytes, restored.bytes());
    assert_eq!(vec![7; 300_000], restored.replay(&SessionRequest::implicit(A, 1)).data());
}

/// Of a table that nobody has used: its terms alone.
#[test]
fn an_empty_one_carries_the_terms() {
    let table = with(|builder| builder.window(1).max_sessions(1).timeout_ms(5).max_response_len(2));
    let mut table = SessionTable::restore(&table.bytes()).unwrap();
    assert!(table.freeze().unwrap().is_empty());
    table.lead(&SessionRequest::implicit(A, 1), b"22");
    table.life(B);
    assert_eq!(["b"], *table.names());
    assert_eq!(1, table.expire(5).unwrap());
}
