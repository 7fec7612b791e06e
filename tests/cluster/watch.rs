//! A state machine under watch: all replicas must say the same to the same command, and be the same
//! after as many of them.

use super::kv::{Command, Reply, Sessions, Store, Update};
use super::node::Machine;
use super::plan::Plan;
use onceflight::session::{Node, SessionTable};
use onceflight::{Error, ErrorKind, Response};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A node's own clock, in milliseconds.
pub type Clock = Rc<Cell<u64>>;

/// The sessions under test: the real ones, or a control.
pub trait Table: Sessions {
    /// What this node knows for certain about a request without asking the log.
    fn peek(&self, _update: &Update) -> Option<Result<Response, Error>> {
        None
    }
}

/// As all replicas of a run must have them.
pub fn sessions(plan: &Plan) -> Arc<Node> {
    let table = SessionTable::builder()
        .window(plan.window)
        .max_sessions(plan.max_sessions)
        .timeout_ms(plan.session_timeout_ms);
    Arc::new(Node::new(table.build().expect("limits that can be")))
}

impl Table for Arc<Node> {
    fn peek(&self, update: &Update) -> Option<Result<Response, Error>> {
        let not_proposed = || Err(None);
        match self.submit(&update.request(), Duration::ZERO, not_proposed) {
            Ok(known) => Some(Ok(known)),
            Err(refused) => refused.map(Err),
        }
    }
}

/// What all replicas have said and been so far, by the number of commands applied.
#[derive(Default)]
pub struct Ledger {
    replies: Vec<String>,
    states: BTreeMap<u64, Vec<u8>>,
    /// The first difference between two replicas.
    pub difference: Option<String>,
    pub executed: u64,
    /// Requests that were in the log once more, and answered from the table.
    pub logged_again: u64,
    /// Clients by name: the last one's nonce and incarnation.
    registered: BTreeMap<String, (String, u64)>,
    /// Registrations that were in the log once more, and found their session.
    pub registered_again: u64,
    pub expired: u64,
    pub fenced: u64,
    pub stale: u64,
    pub window_full: u64,
}

/// States are compared after each as many commands, and at the end.
const EVERY: u64 = 16;

impl Ledger {
    fn said(&mut self, count: u64, command: &Command, reply: &Result<Reply, Error>) {
        let said = format!("{command:?} → {reply:?}");
        let at = usize::try_from(count - 1).expect("few commands");
        if let Some(before) = self.replies.get(at) {
            if *before != said {
                self.differs(format!("command {count}:\n  {before}\n  {said}"));
            }
            return;
        }
        assert_eq!(self.replies.len(), at, "no replica skips a command that none has applied");
        self.replies.push(said);
        match reply {
            Ok(Reply::Updated(applied)) if applied.replayed => self.logged_again += 1,
            Ok(Reply::Updated(_)) => self.executed += 1,
            Ok(Reply::Registered(incarnation)) => self.registered(command, *incarnation),
            Ok(Reply::Value(_) | Reply::Ok) => {}
            Err(error) => match error.kind() {
                ErrorKind::Expired => self.expired += 1,
                ErrorKind::Fenced => self.fenced += 1,
                ErrorKind::SeqStale => self.stale += 1,
                ErrorKind::WindowFull => self.window_full += 1,
                kind => self.differs(format!("no honest client is told {kind:?}: {command:?}")),
            },
        }
    }

    fn registered(&mut self, command: &Command, incarnation: u64) {
        let Command::Register { client, nonce } = command else {
            return self.differs(format!("not a registration: {command:?}"));
        };
        let now = (nonce.clone(), incarnation);
        let before = self.registered.insert(client.clone(), now.clone());
        self.registered_again += u64::from(before == Some(now));
    }

    fn is(&mut self, count: u64, state: &[u8]) {
        let before = self.states.entry(count).or_insert_with(|| state.to_vec());
        if *before != state {
            self.differs(format!("states after {count} commands"));
        }
    }

    fn differs(&mut self, what: String) {
        self.difference.get_or_insert(what);
    }
}

/// A store whose deeds go into the ledger.
pub struct Watched<T> {
    store: Store<T>,
    /// How many commands it has applied, those in the snapshot it began from included.
    count: u64,
    ledger: Rc<RefCell<Ledger>>,
}

impl<T: Table> Watched<T> {
    pub fn new(sessions: T, ledger: &Rc<RefCell<Ledger>>) -> Self {
        Self { store: Store::new(sessions), count: 0, ledger: Rc::clone(ledger) }
    }

    pub fn peek(&self, update: &Update) -> Option<Result<Response, Error>> {
        self.store.sessions().peek(update)
    }

    /// Compares the state with that of others after as many commands.
    pub fn compare(&self) {
        let state = self.store.save();
        self.ledger.borrow_mut().is(self.count, &state);
    }
}

impl<T: Table> Machine for Watched<T> {
    type Command = Command;
    type Reply = Result<Reply, Error>;

    fn apply(&mut self, now_ms: u64, command: &Command) -> Self::Reply {
        let reply = self.store.apply(now_ms, command);
        self.count += 1;
        self.ledger.borrow_mut().said(self.count, command, &reply);
        if self.count.is_multiple_of(EVERY) {
            self.compare();
        }
        reply
    }

    fn save(&self) -> Vec<u8> {
        let mut data = self.count.to_le_bytes().to_vec();
        data.extend(self.store.save());
        data
    }

    fn load(&mut self, data: &[u8]) -> Result<(), Error> {
        let (count, data) = data.split_first_chunk().expect("a count");
        self.count = u64::from_le_bytes(*count);
        self.store.load(data)?;
        self.compare();
        Ok(())
    }
}
