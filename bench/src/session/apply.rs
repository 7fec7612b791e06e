//! A small write to a map, as a state machine applies it: without sessions, and within one.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Mutex;

use super::clients::Clients;
use crate::crowd;
use crate::keys::{Short, uniform};
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds;

const BATCH: usize = 256;
const PLAIN: &str = "no sessions";

pub fn run(plan: &Plan, report: &mut Report) {
    let many = if plan.quick { 10_000 } else { 100_000 };
    for keys in [1000, many] {
        let contestants = [
            (PLAIN, None),
            ("1 session", Some((1, 1))),
            ("1 session, W 16", Some((1, 16))),
            ("1,000 sessions", Some((1000, 1))),
            ("1,000 sessions, W 16", Some((1000, 16))),
            ("100,000 sessions", Some((many, 1))),
            ("100,000 sessions, W 16", Some((many, 16))),
        ];
        let names = contestants.iter().map(|(name, _)| *name).collect();
        let made: Vec<_> =
            contestants.iter().map(|(_, how)| Mutex::new(Machine::new(keys, *how))).collect();
        let rounds = rounds::take(plan.rounds, 1, names, |contestant| {
            let machine = &made[contestant];
            crowd::measure(1, plan.time(40), |_, _| machine.lock().expect("one thread").writes())
        });
        let table = Table {
            work: "session-write",
            title: &format!("a write to a map of {keys} keys"),
            unit: "ns",
            threads: 1,
            n: keys,
            figure: 0,
            against: &[PLAIN],
        };
        report.table(&rounds, &table);
    }
}

/// A state machine: a map of bytes by bytes, and its clients' sessions if it has some.
struct Machine {
    map: HashMap<Vec<u8>, Vec<u8>>,
    order: Vec<Short>,
    next: usize,
    clients: Option<Clients>,
}

impl Machine {
    fn new(keys: u64, how: Option<(u64, u32)>) -> Self {
        let clients = how.map(|(count, window)| {
            let mut clients = Clients::new(count, window);
            clients.fill(b"ok");
            clients
        });
        let order = uniform(keys, 1 << 16, 5);
        let mut machine = Self { map: HashMap::new(), order, next: 0, clients };
        for _ in 0..machine.order.len() / BATCH {
            machine.writes();
        }
        machine
    }

    fn writes(&mut self) -> u64 {
        let Self { map, order, next, clients } = self;
        for _ in 0..BATCH {
            *next = (*next + 1) % order.len();
            let key = &order[*next];
            match clients {
                // The reply's bytes are its own: it is on its way when the next entry is applied.
                None => drop(black_box((0, write(map, key).to_vec()))),
                Some(clients) => drop(black_box(clients.apply(|| write(map, key)))),
            }
        }
        BATCH as u64
    }
}

/// Executes a write: the entry's bytes become the map's. Says what the client is told.
#[inline]
fn write(map: &mut HashMap<Vec<u8>, Vec<u8>>, key: &Short) -> &'static [u8] {
    map.insert(key.to_vec(), black_box(b"a value of twenty-four b").to_vec());
    b"ok"
}
