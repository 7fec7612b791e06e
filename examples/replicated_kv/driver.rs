//! The thread that drives the replica: it has the clock, the timers and the links to the peers.
//!
//! ```text
//!   connections → inputs → this thread → replica → links to the peers
//!                                              ↘ whoever proposed
//! ```
//!
//! All proposals that wait when it comes to them are one write to the disk. It waits for nobody: a
//! peer that is slow or away loses what it is sent.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use onceflight::session::Node;
use onceflight::{Error, Fingerprint};

use super::disk::FileDisk;
use super::kv::{Command, Reply, Store};
use super::net::Link;
use super::node::{Machine, Outcome, Output, Replica};
use super::packet::Packet;
use super::protocol::Status;

/// Leaders look for sessions that have expired at least as often.
const A_WHILE: Duration = Duration::from_secs(3600);

/// Inputs taken together, so that the timers keep their time.
const BATCH: usize = 256;

pub enum Input {
    /// From a peer.
    Packet(Packet<Command>),
    /// For the log; its fate is told to whoever listens, as it unfolds.
    Propose(Command, Sender<Fate>),
    Status(Sender<Status>),
}

/// What becomes of a proposal.
pub enum Fate {
    /// It is in this leader's log. More will be told.
    Accepted,
    /// It was never logged.
    NotLeader(Option<u64>),
    Applied(Result<Reply, Error>),
    /// It was logged, and this node leads no more: it may be applied or not.
    Lost,
}

pub struct Driver {
    replica: Replica<Store<Arc<Node>>, FileDisk>,
    sessions: Arc<Node>,
    links: HashMap<u64, Link>,
    inputs: Receiver<Input>,
    /// Whom to tell, by ticket.
    waiting: HashMap<u64, Sender<Fate>>,
    tickets: u64,
    heartbeat: Duration,
    timer: Instant,
    /// When a leader looks, though nobody calls, for sessions whose time is up; and how often.
    expire: Instant,
    expire_every: Duration,
    leader: Option<u64>,
}

impl Driver {
    pub fn new(
        replica: Replica<Store<Arc<Node>>, FileDisk>,
        sessions: Arc<Node>,
        links: HashMap<u64, Link>,
        inputs: Receiver<Input>,
        heartbeat: Duration,
        session_timeout: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            replica,
            sessions,
            links,
            inputs,
            waiting: HashMap::new(),
            tickets: 0,
            heartbeat,
            timer: now,
            expire: now,
            expire_every: (session_timeout / 4).min(A_WHILE),
            leader: None,
        }
    }

    /// Returns when the disk fails: what of it is durable is known again only after a restart.
    pub fn run(mut self) -> io::Result<Infallible> {
        self.carry_out();
        loop {
            match self.inputs.recv_deadline(self.timer) {
                Ok(first) => self.take(first)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the listener never ends"),
            }
            let now = Instant::now();
            if now >= self.timer {
                self.replica.timeout()?;
                self.carry_out();
            }
            if now >= self.expire && self.replica.leads() {
                self.expire = now + self.expire_every;
                self.propose([Command::Expire])?;
            }
        }
    }

    fn take(&mut self, first: Input) -> io::Result<()> {
        let more: Vec<_> = self.inputs.try_iter().take(BATCH).collect();
        let (mut proposed, mut commands) = (Vec::new(), Vec::new());
        for input in std::iter::once(first).chain(more) {
            match input {
                Input::Packet(packet) if self.links.contains_key(&packet.from) => {
                    self.replica.receive(packet)?;
                    self.carry_out();
                }
                Input::Packet(packet) => eprintln!("node {} is none of ours", packet.from),
                Input::Propose(command, listener) => {
                    proposed.push(listener);
                    commands.push(command);
                }
                Input::Status(listener) => drop(listener.send(self.status())),
            }
        }
        if proposed.is_empty() {
            return Ok(());
        }
        let first = self.tickets;
        self.waiting.extend((first..).zip(proposed.iter().cloned()));
        self.propose(commands)?;
        // Whoever wasn't told anything else by now has it in the log.
        for (ticket, listener) in (first..).zip(proposed) {
            if self.waiting.contains_key(&ticket) {
                let _ = listener.send(Fate::Accepted);
            }
        }
        Ok(())
    }

    fn propose(&mut self, commands: impl IntoIterator<Item = Command>) -> io::Result<()> {
        let now = now_ms();
        let mut tickets = self.tickets..;
        let batch: Vec<_> = commands
            .into_iter()
            .zip(&mut tickets)
            .map(|(command, ticket)| (ticket, now, command))
            .collect();
        self.tickets += batch.len() as u64;
        self.replica.propose(batch)?;
        self.carry_out();
        Ok(())
    }

    /// What the replica wants done.
    fn carry_out(&mut self) {
        for output in self.replica.outputs() {
            match output {
                Output::Send { to, packet } => {
                    let frame = postcard::to_allocvec(&packet).expect("memory to write into");
                    self.links[&to].send(frame);
                }
                Output::Timer { leads } => {
                    let beats = if leads { 1.0 } else { 5.0 + 5.0 * draw() };
                    self.timer = Instant::now() + self.heartbeat.mul_f64(beats);
                }
                Output::Reply { ticket, outcome } => {
                    let fate = match outcome {
                        Outcome::Done(reply) => Fate::Applied(reply),
                        Outcome::NotLeader(leader) => Fate::NotLeader(leader),
                        Outcome::Lost => Fate::Lost,
                    };
                    // Expire has nobody who waits, and a caller may have left.
                    if let Some(listener) = self.waiting.remove(&ticket) {
                        let _ = listener.send(fate);
                    }
                }
                Output::SteppedDown => self.sessions.step_down(),
            }
        }
        let leader = self.replica.leader_hint();
        if leader != self.leader {
            self.leader = leader;
            match leader {
                Some(leader) => eprintln!("node {leader} leads"),
                None => eprintln!("nobody leads"),
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            term: self.replica.term(),
            leader: self.replica.leader_hint(),
            logged: self.replica.logged(),
            applied: self.replica.applied(),
            state: Fingerprint::of([self.replica.machine().save()]).to_string(),
            installed: self.replica.installed(),
        }
    }
}

/// The time by this node's clock, for the log: it means something to other nodes and after a restart.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis().try_into().unwrap_or(u64::MAX)
}

/// From 0 to 1: enough of a die to part two nodes that stand for election at once.
fn draw() -> f64 {
    let [byte, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    f64::from(byte) / 256.0
}
