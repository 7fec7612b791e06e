//! The state machine: strings by keys, and the client sessions beside them, in one snapshot.
//!
//! Updates go through the [session table](onceflight::SessionTable) when they are *applied*. So a
//! retry that was logged a second time, by this leader or the next, changes nothing and gets the
//! first one's response; and every replica, whoever leads next, knows that response too.

use super::node::Machine;
pub use super::op::{Op, status};
use onceflight::session::{Applied, Node, SessionRequest};
use onceflight::{Error, ErrorKind, Fingerprint, SessionTable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What may be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A client begins a session, by a nonce of its own: a retry finds the same one.
    Register {
        client: String,
        nonce: String,
    },
    KeepAlive {
        client: String,
        incarnation: u64,
    },
    Unregister {
        client: String,
    },
    /// The leader's clock goes on though nobody calls.
    Expire,
    /// Reads the latest value. Harmless when it is repeated, so it needs no session.
    Read {
        key: String,
    },
    /// Happens once, however often it is sent.
    Update(Update),
}

/// A numbered request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    pub client: String,
    pub incarnation: u64,
    pub seq: u64,
    /// The client's lowest request without a response.
    pub ack: u64,
    pub key: String,
    pub op: Op,
}

/// What a command came to.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The session's incarnation.
    Registered(u64),
    Value(Option<String>),
    Updated(Applied),
    Ok,
}

impl Update {
    /// The same request for the session table.
    pub fn request(&self) -> SessionRequest<'_> {
        let op = postcard::to_allocvec(&self.op).expect("memory to write into");
        let digest = Fingerprint::of([self.key.as_bytes(), &op]);
        SessionRequest::new(self.client.as_bytes(), self.incarnation, self.seq)
            .ack(self.ack)
            .digest(digest)
    }
}

/// What the store asks of its sessions: a [`Node`]'s, or sessions done wrong in a test.
pub trait Sessions {
    fn register(&mut self, client: &str, nonce: &str, now_ms: u64) -> Result<u64, Error>;

    fn apply(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, Vec<u8>),
    ) -> Result<Applied, Error>;

    fn keep_alive(&mut self, client: &str, incarnation: u64, now_ms: u64) -> Result<(), Error>;
    fn unregister(&mut self, client: &str) -> Result<(), Error>;
    fn expire(&mut self, now_ms: u64) -> Result<u64, Error>;
    fn save(&self) -> Vec<u8>;
    fn load(&mut self, data: &[u8]) -> Result<(), Error>;
}

/// The sessions of a node that also serves clients: those that its connections' threads wait at.
impl Sessions for Arc<Node> {
    fn register(&mut self, client: &str, nonce: &str, now_ms: u64) -> Result<u64, Error> {
        self.apply_registration(client.as_bytes(), nonce.as_bytes(), now_ms)
    }

    fn apply(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, Vec<u8>),
    ) -> Result<Applied, Error> {
        Node::apply(self, request, now_ms, execute)
    }

    fn keep_alive(&mut self, client: &str, incarnation: u64, now_ms: u64) -> Result<(), Error> {
        Node::keep_alive(self, client.as_bytes(), incarnation, now_ms)
    }

    fn unregister(&mut self, client: &str) -> Result<(), Error> {
        Node::unregister(self, client.as_bytes())
    }

    fn expire(&mut self, now_ms: u64) -> Result<u64, Error> {
        Node::expire(self, now_ms)
    }

    fn save(&self) -> Vec<u8> {
        self.freeze().expect("between two entries none is open").to_bytes()
    }

    fn load(&mut self, data: &[u8]) -> Result<(), Error> {
        let sessions = SessionTable::restore(data)?;
        // Whoever still waits here proposed to a log that is overtaken by this snapshot.
        self.step_down();
        self.install(sessions);
        Ok(())
    }
}

/// The values and the sessions.
pub struct Store<S> {
    values: BTreeMap<String, String>,
    sessions: S,
}

impl<S: Sessions> Store<S> {
    /// Empty, over an empty session table.
    pub fn new(sessions: S) -> Self {
        Self { values: BTreeMap::new(), sessions }
    }

    pub fn sessions(&self) -> &S {
        &self.sessions
    }
}

impl<S: Sessions> Machine for Store<S> {
    type Command = Command;
    type Reply = Result<Reply, Error>;

    fn apply(&mut self, now_ms: u64, command: &Command) -> Result<Reply, Error> {
        let Self { values, sessions } = self;
        match command {
            Command::Register { client, nonce } => {
                sessions.register(client, nonce, now_ms).map(Reply::Registered)
            }
            Command::KeepAlive { client, incarnation } => {
                sessions.keep_alive(client, *incarnation, now_ms).map(|()| Reply::Ok)
            }
            Command::Unregister { client } => sessions.unregister(client).map(|()| Reply::Ok),
            Command::Expire => sessions.expire(now_ms).map(|_| Reply::Ok),
            Command::Read { key } => Ok(Reply::Value(values.get(key).cloned())),
            Command::Update(update) => {
                let execute = || execute(values, &update.key, &update.op);
                sessions.apply(&update.request(), now_ms, execute).map(Reply::Updated)
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let parts = (&self.values, self.sessions.save());
        postcard::to_allocvec(&parts).expect("memory to write into")
    }

    fn load(&mut self, data: &[u8]) -> Result<(), Error> {
        let (values, sessions): (_, Vec<u8>) =
            postcard::from_bytes(data).map_err(|_| ErrorKind::Format)?;
        self.sessions.load(&sessions)?;
        self.values = values;
        Ok(())
    }
}

fn execute(values: &mut BTreeMap<String, String>, key: &str, op: &Op) -> (i32, Vec<u8>) {
    let old = values.get(key);
    let new = match op {
        Op::Write(value) => value.clone(),
        Op::Cas { from, to } => match old {
            None => return (status::NO_SUCH_KEY, Vec::new()),
            Some(old) if old != from => return (status::PRECONDITION_FAILED, Vec::new()),
            Some(_) => to.clone(),
        },
        Op::Add(by) => {
            let sum = old.map_or("0", String::as_str).parse::<i64>().ok();
            let Some(sum) = sum.and_then(|sum| sum.checked_add(*by)) else {
                return (status::PRECONDITION_FAILED, Vec::new());
            };
            sum.to_string()
        }
        Op::Append(more) => old.cloned().unwrap_or_default() + more,
    };
    let answer = match op {
        Op::Write(_) | Op::Cas { .. } => Vec::new(),
        Op::Add(_) | Op::Append(_) => new.clone().into_bytes(),
    };
    values.insert(key.to_owned(), new);
    (status::OK, answer)
}
