//! What clients and nodes say to each other: one JSON object a line, each answered by one, in order.
//!
//! ```text
//! {"ask":"register","client":"ann","nonce":"7c1"}           {"answer":"registered","incarnation":3}
//! {"ask":"update","key":"x","add":5,"client":"ann","incarnation":3,"seq":1,"ack":1}
//!                                                           {"answer":"done","value":"5"}
//! {"ask":"read","key":"x"}                                  {"answer":"done","value":"5"}
//! ```

use serde::{Deserialize, Serialize};

use super::op::Op;

/// A request. A line is one of these, or it is refused as malformed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// A session for this client. Asked again with the same nonce, it is the same session.
    Register { client: String, nonce: String },
    /// The client lives, though it has nothing to ask.
    KeepAlive { client: String, incarnation: u64 },
    /// The client is done.
    Unregister { client: String },
    /// The value, as of some instant between this question and its answer.
    Read { key: String },
    /// `"write":"v"`, `"cas":{"from":"v","to":"w"}`, `"add":1` or `"append":"v"`, once a number.
    Update {
        key: String,
        #[serde(flatten)]
        op: Op,
        client: String,
        /// What `register` answered. Without it, number 1 registers the client.
        #[serde(default)]
        incarnation: u64,
        seq: u64,
        /// The lowest number that the client has no answer to.
        #[serde(default)]
        ack: u64,
    },
    /// How far this node, of all, is. Takes it as long as a snapshot.
    Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The session is this client's.
    Registered { incarnation: u64 },
    /// Executed once, now or when it was first asked.
    Done { value: Option<String> },
    /// Executed once, and this is what came of it: 20, there is no such key; 22, it has another value,
    /// or none that can be added to.
    Failed { code: i32 },
    /// Nothing happened. Ask that node, if one is named.
    NotLeader { leader: Option<u64> },
    /// It may have happened, or may yet. Ask again under the same number, here or elsewhere.
    Retry { why: String },
    /// This question does nothing, however often it is asked. An earlier one under its number may have
    /// done something: after `expired` and `fenced` nobody can tell any more.
    Refused { kind: Refusal, why: String },
    /// How far this node is.
    Status(Status),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session has expired, or never was.
    Expired,
    /// The client has registered anew since.
    Fenced,
    /// The client has acknowledged this number's answer.
    SeqStale,
    /// Too far above the lowest number that isn't acknowledged: the one refusal that ends by itself.
    WindowFull,
    /// Another request had this number.
    Conflict,
    /// It was executed, with an answer too large to keep. Of a registration: a name or nonce is too long.
    TooLarge,
    /// The line can't be read, or says what can't be.
    Malformed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The last election that this node knows of, and who leads since.
    pub term: u64,
    pub leader: Option<u64>,
    /// The last entry of its log, which may still be lost.
    pub logged: u64,
    /// The last entry that was applied.
    pub applied: u64,
    /// A hash of values and sessions: equal on all nodes that applied as many.
    pub state: String,
    /// Snapshots that came from a leader, since this process began.
    pub installed: u64,
}
