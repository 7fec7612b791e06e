//! The workloads of sessions: a small write to a map, without a session and with one.

use std::collections::HashMap;
use std::hint::black_box;

use onceflight::SessionTable;
use onceflight::session::{SessionBegin, SessionRequest};

use crate::meter::{counted, keys};
use crate::{Workload, with_goal, workload};

/// The goals are one and a half times the write without a session.
pub const WORKLOADS: &[Workload] = &[
    workload("kv_write", plain),
    with_goal(1125, "session_write_w1", write::<1, 1>),
    with_goal(1125, "session_write_w16", write::<16, 1>),
    with_goal(1125, "session_write_100", write::<16, 100>),
    workload("session_begin_record", begin_record),
    workload("session_replay", replay),
    workload("session_peek", peek),
];

/// How many keys the map has.
const KEYS: usize = 1000;

/// A state machine: bytes by bytes.
struct Map {
    map: HashMap<Vec<u8>, Vec<u8>>,
    keys: Vec<[u8; 16]>,
}

impl Map {
    fn new() -> Self {
        Self { map: HashMap::new(), keys: keys() }
    }

    fn write(&mut self, round: usize) -> &'static [u8] {
        let key = self.keys[round % KEYS].to_vec();
        self.map.insert(key, black_box(b"a value of twenty-four b").to_vec());
        b"ok"
    }
}

/// The reply has bytes of its own, as it has with a session: it is on its way when the next entry comes.
fn plain(rounds: usize) -> usize {
    let mut map = Map::new();
    counted(rounds, |round| {
        black_box((0, map.write(round).to_vec()));
    })
}

/// Clients that have up to `W` requests under way, in turn.
struct Clients<const W: u64> {
    table: SessionTable,
    /// Who, and which of its incarnations.
    names: Vec<([u8; 16], u64)>,
    turn: usize,
    seq: u64,
}

impl<const W: u64> Clients<W> {
    fn new(count: usize) -> Self {
        let window = u32::try_from(W).expect("64 at most");
        let mut table = SessionTable::builder().window(window).build().expect("limits");
        let mut names = keys();
        names.truncate(count);
        let register = |client| (client, table.register(client, b"nonce", 0).expect("a session"));
        let names = names.into_iter().map(register).collect();
        Self { table, names, turn: 0, seq: 1 }
    }

    /// The next request. All but the last `W` are acknowledged.
    fn next(&mut self) -> (&mut SessionTable, SessionRequest<'_>) {
        if self.turn == self.names.len() {
            (self.turn, self.seq) = (0, self.seq + 1);
        }
        let (client, incarnation) = &self.names[self.turn];
        self.turn += 1;
        let request = SessionRequest::new(client, *incarnation, self.seq);
        (&mut self.table, request.ack((self.seq + 1).saturating_sub(W)))
    }
}

fn write<const W: u64, const CLIENTS: usize>(rounds: usize) -> usize {
    let mut map = Map::new();
    let mut clients = Clients::<W>::new(CLIENTS);
    counted(rounds, |round| {
        let (table, request) = clients.next();
        let applied = table.apply(&request, round as u64, || (0, map.write(round))).unwrap();
        assert!(!black_box(applied).replayed);
    })
}

/// The two halves alone, as who executes between them calls them.
fn begin_record(rounds: usize) -> usize {
    let mut clients = Clients::<1>::new(1);
    counted(rounds, |round| {
        let (table, request) = clients.next();
        assert_eq!(SessionBegin::Lead, table.begin(&request, round as u64).unwrap());
        black_box(table.record(&request, 0, b"ok").unwrap());
    })
}

/// A table in which each client has one reply, to be asked for again.
fn replied() -> Clients<1> {
    let mut clients = Clients::new(KEYS);
    for _ in 0..KEYS {
        let (table, request) = clients.next();
        table.apply(&request, 0, || (0, b"ok")).unwrap();
    }
    clients.turn = 0;
    clients
}

/// A retry that reaches the log.
fn replay(rounds: usize) -> usize {
    let mut clients = replied();
    counted(rounds, |round| {
        clients.turn = round % KEYS;
        let (table, request) = clients.next();
        let begun = table.begin(&request, round as u64).unwrap();
        assert!(matches!(begun, SessionBegin::Replayed(_)));
    })
}

/// A retry that doesn't.
fn peek(rounds: usize) -> usize {
    let Clients { table, names, .. } = replied();
    counted(rounds, |round| {
        let (client, incarnation) = names[round % KEYS];
        assert!(table.peek(client, incarnation, 1).unwrap().is_some());
    })
}
