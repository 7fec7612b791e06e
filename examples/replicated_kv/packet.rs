//! What nodes say to each other: Raft's messages with their commands in them, and snapshots.

use super::log::{Entry, Position, Snapshot, raft_entries};
use noraft::{LogIndex, Message, NodeId, Term};
use serde::{Deserialize, Serialize};

/// A message between nodes. It may get lost, or arrive twice, late, and after later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet<C> {
    pub from: u64,
    pub term: u64,
    pub body: Body<C>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<C> {
    /// Vote for me: my log ends there.
    Vote {
        last: Position,
    },
    Voted {
        granted: bool,
    },
    /// Append these after `prev`. Without entries: a heartbeat.
    Append {
        commit: u64,
        prev: Position,
        entries: Vec<Entry<C>>,
    },
    /// My log ends there now.
    Appended {
        last: Position,
    },
    /// What you lack is no longer in my log: begin from this.
    Install(Snapshot),
}

impl<C> Packet<C> {
    /// What Raft is told of it. A snapshot is announced as a heartbeat from its position.
    pub fn message(&self) -> Message {
        let (from, term) = (NodeId::new(self.from), Term::new(self.term));
        let append = |commit, prev, entries: &[Entry<C>]| Message::AppendEntriesCall {
            from,
            term,
            commit_index: LogIndex::new(commit),
            entries: raft_entries(prev, entries),
        };
        match &self.body {
            &Body::Vote { last } => {
                Message::RequestVoteCall { from, term, last_position: last.into() }
            }
            &Body::Voted { granted } => {
                Message::RequestVoteReply { from, term, vote_granted: granted }
            }
            Body::Append { commit, prev, entries } => append(*commit, *prev, entries),
            &Body::Appended { last } => {
                Message::AppendEntriesReply { from, term, last_position: last.into() }
            }
            Body::Install(snapshot) => append(0, snapshot.position, &[]),
        }
    }
}
