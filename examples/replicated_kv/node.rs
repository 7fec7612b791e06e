//! A replica: Raft, its log, and the state machine that the log drives. No I/O but the [`Disk`],
//! no thread, no clock, no randomness.
//!
//! ```text
//!   packets, proposals, timeouts → Raft → remember (disk) → send → apply → reply, compact
//! ```
//!
//! Each call goes that way once, from left to right, so whatever the [`Output`]s say is durable.
//! One thread drives it: it calls [`receive`](Replica::receive), [`propose`](Replica::propose)
//! and [`timeout`](Replica::timeout), and after each carries out the [`outputs`](Replica::outputs).
//!
//! A command carries the time by its leader's clock: all replicas apply it at that same time, and
//! none ever asks its own clock. Members are fixed; a snapshot travels as one packet.

use super::disk::Disk;
use super::log::{Ballot, Entry, Log, Position, Recovered, Snapshot, Suffix, Write, raft_entries};
use super::packet::{Body, Packet};
use noraft::{
    Action, ClusterConfig, LogEntries, LogEntry, LogIndex, LogPosition, Message, NodeId, Term,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::{io, mem};

/// A deterministic state machine.
pub trait Machine {
    type Command: Clone + Serialize + DeserializeOwned;
    type Reply;

    /// Applies the next command of the log, stamped with the time by the clock of its leader.
    fn apply(&mut self, now_ms: u64, command: &Self::Command) -> Self::Reply;

    /// All that later commands may depend on: equal on all replicas that applied as many.
    fn save(&self) -> Vec<u8>;

    /// Becomes what `data` says. It was [saved](Self::save) here or by another replica.
    fn load(&mut self, data: &[u8]) -> Result<(), onceflight::Error>;
}

/// What its owner must do for a replica.
#[derive(Debug)]
pub enum Output<C, R> {
    /// Send this. It may get lost, or arrive twice or late.
    Send { to: u64, packet: Packet<C> },
    /// Call [`Replica::timeout`] once, instead of what was asked before: after the interval of
    /// heartbeats if this node leads, or else after a random time of several of them.
    Timer { leads: bool },
    /// What became of a proposal.
    Reply { ticket: u64, outcome: Outcome<R> },
    /// This node led, and leads no more. The replies that are lost by that were given before.
    SteppedDown,
}

/// What became of a proposal.
#[derive(Clone, Debug)]
pub enum Outcome<R> {
    /// It was applied, and this is what the state machine said.
    Done(R),
    /// This node doesn't lead; it may know who does. Nothing was logged.
    NotLeader(Option<u64>),
    /// It was logged, and leadership lost: it may or may not be applied one day.
    Lost,
}

/// What may differ between replicas.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// After how many applied entries the log is replaced by a snapshot.
    pub compact_after: u64,
}

/// A command and its leader's time.
struct Stamped<C> {
    now_ms: u64,
    command: C,
}

/// One node's copy of the state machine.
pub struct Replica<M: Machine, D> {
    raft: noraft::Node,
    log: Log<D, M::Command>,
    /// What the commands of Raft's log say, by index. May hold more: Raft forgets silently.
    commands: BTreeMap<u64, Stamped<M::Command>>,
    /// Where Raft's log begins.
    snapshot: Snapshot,
    machine: M,
    /// The last entry that the machine has seen.
    applied: u64,
    /// Whom to tell when an entry of this tenure is applied: tickets by index.
    waiting: BTreeMap<u64, u64>,
    /// The term in which this node leads.
    tenure: Option<Term>,
    outputs: Vec<Output<M::Command, M::Reply>>,
    options: Options,
    installed: u64,
}

/// Entries past so many, or past so many bytes of commands, go with the next packet.
const ENTRIES_A_PACKET: usize = 256;
const BYTES_A_PACKET: usize = 1 << 20;

impl<M: Machine, D: Disk> Replica<M, D> {
    /// A replica with what its disk remembers. `machine` is in the state before the first command,
    /// and the `voters`, this node among them, are the same at each start of each node.
    pub fn open(
        id: u64,
        voters: &[u64],
        mut machine: M,
        disk: D,
        options: Options,
    ) -> io::Result<Self> {
        let (log, Recovered { ballot, snapshot, entries, .. }) = Log::open(disk)?;
        if snapshot.position != Position::default() {
            machine.load(&snapshot.data).map_err(io::Error::other)?;
        }
        let mut members = ClusterConfig::new();
        members.voters.extend(voters.iter().copied().map(NodeId::new));
        let raft = noraft::Node::restart(
            NodeId::new(id),
            Term::new(ballot.term),
            ballot.voted_for.map(NodeId::new),
            noraft::Log::new(members, raft_entries(snapshot.position, &entries)),
        );
        let mut replica = Self {
            raft,
            log,
            commands: BTreeMap::new(),
            applied: snapshot.position.index,
            snapshot,
            machine,
            waiting: BTreeMap::new(),
            tenure: None,
            outputs: Vec::new(),
            options,
            installed: 0,
        };
        replica.keep(replica.applied, entries);
        replica.go_on()?;
        Ok(replica)
    }

    /// Another node said something.
    ///
    /// # Errors
    ///
    /// Of the disk, or one that says that memories contradict each other: this replica is over.
    pub fn receive(&mut self, packet: Packet<M::Command>) -> io::Result<()> {
        self.raft.handle_message(&packet.message()).map_err(io::Error::other)?;
        match packet.body {
            Body::Append { prev, entries, .. } => self.adopt(prev, entries),
            Body::Install(snapshot) if packet.term == self.raft.current_term().get() => {
                self.install(snapshot)?;
            }
            _ => {}
        }
        self.go_on()
    }

    /// Commands for the log, each with a ticket for its reply and the time by this node's clock.
    /// They become durable together.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive)'s.
    pub fn propose(
        &mut self,
        batch: impl IntoIterator<Item = (u64, u64, M::Command)>,
    ) -> io::Result<()> {
        for (ticket, now_ms, command) in batch {
            let position = self.raft.propose_command();
            if position.is_invalid() {
                let outcome = Outcome::NotLeader(self.leader_hint());
                self.outputs.push(Output::Reply { ticket, outcome });
            } else {
                self.commands.insert(position.index.get(), Stamped { now_ms, command });
                self.waiting.insert(position.index.get(), ticket);
            }
        }
        self.go_on()
    }

    /// The time has passed that [`Output::Timer`] asked for.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive)'s.
    pub fn timeout(&mut self) -> io::Result<()> {
        self.raft.handle_election_timeout();
        self.go_on()
    }

    /// What is to be done now, in this order.
    pub fn outputs(&mut self) -> Vec<Output<M::Command, M::Reply>> {
        mem::take(&mut self.outputs)
    }

    pub fn term(&self) -> u64 {
        self.raft.current_term().get()
    }

    /// The last entry of this node's log, committed or not.
    pub fn logged(&self) -> u64 {
        self.raft.log().last_position().index.get()
    }

    /// How often a leader's snapshot was installed here.
    pub fn installed(&self) -> u64 {
        self.installed
    }

    pub fn leads(&self) -> bool {
        self.tenure.is_some()
    }

    /// Who leads, as far as this node knows.
    pub fn leader_hint(&self) -> Option<u64> {
        let voted_for = self.raft.voted_for().map(NodeId::get);
        voted_for.filter(|&id| self.leads() || id != self.raft.id().get())
    }

    /// How many entries the machine has seen.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Lets what Raft decided take its course.
    fn go_on(&mut self) -> io::Result<()> {
        self.note_tenure();
        self.remember()?;
        self.send();
        self.apply();
        if self.applied - self.snapshot.position.index >= self.options.compact_after {
            self.compact()?;
        }
        Ok(())
    }

    fn note_tenure(&mut self) {
        let tenure = self.raft.role().is_leader().then(|| self.raft.current_term());
        if self.tenure.is_some() && self.tenure != tenure {
            for (_, ticket) in mem::take(&mut self.waiting) {
                self.outputs.push(Output::Reply { ticket, outcome: Outcome::Lost });
            }
            self.outputs.push(Output::SteppedDown);
        }
        self.tenure = tenure;
    }

    fn remember(&mut self) -> io::Result<()> {
        let actions = self.raft.actions_mut();
        let voted =
            mem::take(&mut actions.save_current_term) | mem::take(&mut actions.save_voted_for);
        let appended = actions.append_log_entries.take();
        if !voted && appended.is_none() {
            return Ok(());
        }
        let suffix = appended.map(|entries| self.suffix(&entries));
        self.log.append(&Write { ballot: self.ballot(), suffix })
    }

    fn send(&mut self) {
        while let Some(action) = self.raft.actions_mut().next() {
            match action {
                Action::SetElectionTimeout => {
                    self.outputs.push(Output::Timer { leads: self.leads() });
                }
                Action::BroadcastMessage(message) => {
                    let packet = self.packet(message);
                    let peers = self.raft.peers().map(NodeId::get);
                    let copies = peers.map(|to| Output::Send { to, packet: packet.clone() });
                    self.outputs.extend(copies);
                }
                Action::SendMessage(to, message) => {
                    let packet = self.packet(message);
                    self.outputs.push(Output::Send { to: to.get(), packet });
                }
                Action::InstallSnapshot(to) => {
                    let (from, term) = (self.raft.id().get(), self.raft.current_term().get());
                    let packet = Packet { from, term, body: Body::Install(self.snapshot.clone()) };
                    self.outputs.push(Output::Send { to: to.get(), packet });
                }
                Action::SaveCurrentTerm | Action::SaveVotedFor | Action::AppendLogEntries(_) => {
                    unreachable!("remembered before anything is sent")
                }
            }
        }
    }

    fn apply(&mut self) {
        while self.applied < self.raft.commit_index().get() {
            self.applied += 1;
            let entry = self.raft.log().entries().get_entry(LogIndex::new(self.applied));
            if entry != Some(LogEntry::Command) {
                continue;
            }
            let Stamped { now_ms, command } = &self.commands[&self.applied];
            let reply = self.machine.apply(*now_ms, command);
            if let Some(ticket) = self.waiting.remove(&self.applied) {
                self.outputs.push(Output::Reply { ticket, outcome: Outcome::Done(reply) });
            }
        }
    }

    /// Puts a snapshot in the place of what is applied.
    fn compact(&mut self) -> io::Result<()> {
        let applied = LogIndex::new(self.applied);
        let at = self.raft.log().get_position_and_config(applied);
        let (position, members) = at.expect("what is applied stands in the log");
        let (position, members) = (position, members.clone());
        let snapshot = Snapshot { position: position.into(), data: self.machine.save() };
        assert!(self.raft.handle_snapshot_installed(position, members), "it is committed");
        self.begin_at(snapshot)
    }

    /// Begins from a leader's snapshot, if it is ahead.
    fn install(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let members = self.raft.config().clone();
        if snapshot.position.index <= self.applied
            || !self.raft.handle_snapshot_installed(snapshot.position.into(), members)
        {
            return Ok(());
        }
        self.machine.load(&snapshot.data).map_err(io::Error::other)?;
        self.applied = snapshot.position.index;
        self.installed += 1;
        self.begin_at(snapshot)
    }

    fn begin_at(&mut self, snapshot: Snapshot) -> io::Result<()> {
        self.commands = self.commands.split_off(&(snapshot.position.index + 1));
        self.snapshot = snapshot;
        let suffix = Some(self.suffix(self.raft.log().entries()));
        self.log.compact(&self.snapshot, &Write { ballot: self.ballot(), suffix })
    }

    /// Keeps what the commands say that Raft has just taken from a packet into its log.
    fn adopt(&mut self, prev: Position, mut entries: Vec<Entry<M::Command>>) {
        let Some(taken) = &self.raft.actions().append_log_entries else { return };
        let first = taken.prev_position().index.get();
        let known = usize::try_from(first - prev.index).expect("the packet's length");
        self.keep(first, entries.drain(known..));
    }

    fn keep(&mut self, prev: u64, entries: impl IntoIterator<Item = Entry<M::Command>>) {
        for (index, entry) in (prev + 1..).zip(entries) {
            if let Entry::Command { now_ms, command } = entry {
                self.commands.insert(index, Stamped { now_ms, command });
            }
        }
    }

    fn ballot(&self) -> Ballot {
        let voted_for = self.raft.voted_for().map(NodeId::get);
        Ballot { term: self.raft.current_term().get(), voted_for }
    }

    fn suffix(&self, entries: &LogEntries) -> Suffix<M::Command> {
        let whole = entries.iter_with_positions().map(|(position, entry)| match entry {
            LogEntry::Term(term) => Entry::Term(term.get()),
            LogEntry::Command => {
                let Stamped { now_ms, command } = &self.commands[&position.index.get()];
                Entry::Command { now_ms: *now_ms, command: command.clone() }
            }
            LogEntry::ClusterConfig(_) => unreachable!("members are fixed"),
        });
        Suffix { prev: entries.prev_position().into(), entries: whole.collect() }
    }

    /// How many of them a packet takes: at least one.
    fn fitting(&self, entries: &LogEntries) -> usize {
        let mut bytes = 0;
        let mut fits = |position: LogPosition| {
            let command = self.commands.get(&position.index.get()).map(|it| &it.command);
            bytes += postcard::to_allocvec(&command).map_or(0, |it| it.len());
            bytes <= BYTES_A_PACKET
        };
        let positions = entries.iter_with_positions().map(|(position, _)| position);
        positions.take(ENTRIES_A_PACKET).take_while(|&it| fits(it)).count().max(1)
    }

    fn packet(&self, message: Message) -> Packet<M::Command> {
        let (from, term) = (message.from().get(), message.term().get());
        let body = match message {
            Message::RequestVoteCall { last_position, .. } => {
                Body::Vote { last: last_position.into() }
            }
            Message::RequestVoteReply { vote_granted, .. } => Body::Voted { granted: vote_granted },
            Message::AppendEntriesCall { commit_index, mut entries, .. } => {
                entries.truncate(self.fitting(&entries));
                let Suffix { prev, entries } = self.suffix(&entries);
                Body::Append { commit: commit_index.get(), prev, entries }
            }
            Message::AppendEntriesReply { last_position, .. } => {
                Body::Appended { last: last_position.into() }
            }
        };
        Packet { from, term, body }
    }
}
