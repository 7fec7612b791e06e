//! Sessions done wrong, each in one of the ways in which they are done wrong. The simulation must
//! notice, or it would not notice in the real table either.

use super::kv::Sessions;
use super::plan::Plan;
use super::watch::{Clock, Table, sessions};
use super::world::{Violation, run};
use onceflight::session::{Applied, Node, SessionRequest};
use onceflight::{Error, ErrorKind, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Seeds within which a control must be caught.
const SEEDS: u64 = 20;

/// The first violation that the seeds bring.
fn caught(way: Way) -> Violation {
    let sessions = move |plan: &Plan, clock: &Clock| Broken::new(way, plan, clock);
    let mut runs = (1..=SEEDS).map(|seed| run(seed, sessions).1);
    runs.find_map(Result::err).expect("a violation")
}

#[test]
fn without_a_table_what_is_retried_happens_twice() {
    let caught = caught(Way::NoTable);
    assert!(matches!(caught, Violation::NotLinearizable(_)), "{caught:?}");
}

#[test]
fn a_table_outside_the_snapshot_makes_replicas_diverge() {
    let caught = caught(Way::NotInSnapshot);
    assert!(matches!(caught, Violation::Diverged(_)), "{caught:?}");
}

#[test]
fn each_nodes_own_clock_makes_replicas_diverge() {
    let caught = caught(Way::OwnClock);
    assert!(matches!(caught, Violation::Diverged(_)), "{caught:?}");
}

#[test]
fn an_older_request_is_not_answered_with_the_latest_reply() {
    let caught = caught(Way::LatestReply);
    assert!(matches!(caught, Violation::NotLinearizable(_)), "{caught:?}");
}

#[derive(Clone, Copy)]
enum Way {
    /// Everything that is logged is executed.
    NoTable,
    /// A snapshot holds the values alone.
    NotInSnapshot,
    /// Sessions expire by the clock of the node that applies.
    OwnClock,
    /// Only the last reply is kept, and any request that isn't newer gets it.
    LatestReply,
}

struct Broken {
    way: Way,
    table: Arc<Node>,
    /// What the table was before the first command.
    fresh: Vec<u8>,
    /// By client: incarnation, sequence number, status and data.
    latest: BTreeMap<Vec<u8>, (u64, u64, i32, Vec<u8>)>,
    clock: Clock,
}

impl Broken {
    fn new(way: Way, plan: &Plan, clock: &Clock) -> Self {
        let table = sessions(plan);
        let fresh = table.save();
        Self { way, table, fresh, latest: BTreeMap::new(), clock: Clock::clone(clock) }
    }

    fn time(&self, now_ms: u64) -> u64 {
        if matches!(self.way, Way::OwnClock) { self.clock.get() } else { now_ms }
    }

    fn latest_or(
        &mut self,
        request: &SessionRequest<'_>,
        execute: impl FnOnce() -> (i32, Vec<u8>),
    ) -> Applied {
        let now = (request.incarnation(), request.seq());
        let latest = self.latest.get(request.client());
        if let Some((_, _, status, data)) = latest.filter(|&&(i, seq, ..)| now <= (i, seq)) {
            return Applied { response: Response::new(*status, data), replayed: true };
        }
        let (status, data) = execute();
        let response = Response::new(status, &data);
        self.latest.insert(request.client().to_vec(), (now.0, now.1, status, data));
        Applied { response, replayed: false }
    }
}

impl Sessions for Broken {
    fn apply(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, Vec<u8>),
    ) -> Result<Applied, Error> {
        match self.way {
            Way::NoTable => {
                let (status, data) = execute();
                Ok(Applied { response: Response::new(status, &data), replayed: false })
            }
            Way::LatestReply => Ok(self.latest_or(request, execute)),
            Way::NotInSnapshot => Sessions::apply(&mut self.table, request, now_ms, execute),
            Way::OwnClock => {
                let now_ms = self.time(now_ms);
                Sessions::apply(&mut self.table, request, now_ms, execute)
            }
        }
    }

    fn register(&mut self, client: &str, nonce: &str, now_ms: u64) -> Result<u64, Error> {
        let now_ms = self.time(now_ms);
        Sessions::register(&mut self.table, client, nonce, now_ms)
    }

    fn keep_alive(&mut self, client: &str, incarnation: u64, now_ms: u64) -> Result<(), Error> {
        let now_ms = self.time(now_ms);
        Sessions::keep_alive(&mut self.table, client, incarnation, now_ms)
    }

    fn unregister(&mut self, client: &str) -> Result<(), Error> {
        Sessions::unregister(&mut self.table, client)
    }

    fn expire(&mut self, now_ms: u64) -> Result<u64, Error> {
        let now_ms = self.time(now_ms);
        Sessions::expire(&mut self.table, now_ms)
    }

    fn save(&self) -> Vec<u8> {
        let table = match self.way {
            Way::NotInSnapshot => self.fresh.clone(),
            _ => self.table.save(),
        };
        postcard::to_allocvec(&(table, &self.latest)).expect("memory to write into")
    }

    fn load(&mut self, data: &[u8]) -> Result<(), Error> {
        let (table, latest): (Vec<u8>, _) =
            postcard::from_bytes(data).map_err(|_| ErrorKind::Format)?;
        self.latest = latest;
        self.table.load(&table)
    }
}

/// They know nothing without the log.
impl Table for Broken {}
