//! A client that asks until it knows: on the next node if one is silent, always under the same number.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::op::Op;
use super::protocol::{Answer, Ask, Refusal};

/// Between two questions when nobody leads, or nobody is there.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a node may keep silent before another is asked.
const SILENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub enum Lost {
    /// Nobody knew it in time. It may have happened, and may yet: its number stays taken.
    Silence,
    /// Nobody will ever know it. After `Expired` and `Fenced` a client needs a new session.
    Refused { kind: Refusal, why: String },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => f.write_str("nobody answers"),
            Self::Refused { why, .. } => f.write_str(why),
        }
    }
}

/// One client, one session, one request at a time.
pub struct Client {
    nodes: Nodes,
    name: String,
    incarnation: u64,
    /// The last number that was given.
    seq: u64,
    /// Numbers without an answer. All below the lowest are acknowledged.
    open: Vec<u64>,
    patience: Duration,
}

impl Client {
    /// Not registered yet. A request is given up after `patience`.
    pub fn new(nodes: Nodes, name: &str, patience: Duration) -> Self {
        Self { nodes, name: name.into(), incarnation: 0, seq: 0, open: Vec::new(), patience }
    }

    /// Begins a session; what was asked in an earlier one is refused from now on. The nonce, another
    /// for each session, makes one registration of however many questions this takes.
    pub fn register(&mut self, nonce: &str) -> Result<(), Lost> {
        let ask = Ask::Register { client: self.name.clone(), nonce: nonce.into() };
        let answer = self.nodes.ask(&ask, self.patience)?;
        let Answer::Registered { incarnation } = answer else {
            let why = format!("{answer:?} to a registration");
            return Err(Lost::Refused { kind: Refusal::Malformed, why });
        };
        (self.incarnation, self.seq) = (incarnation, 0);
        self.open.clear();
        Ok(())
    }

    /// Executed exactly once if there is an answer, at most once if there is none.
    pub fn update(&mut self, key: &str, op: Op) -> Result<Answer, Lost> {
        let question = self.next_question(key, op);
        self.seq += 1;
        self.open.push(self.seq);
        let answer = self.nodes.ask(&question, self.patience)?;
        self.open.pop();
        Ok(answer)
    }

    /// What [`update`](Self::update) would ask.
    pub fn next_question(&self, key: &str, op: Op) -> Ask {
        let seq = self.seq + 1;
        Ask::Update {
            key: key.into(),
            op,
            client: self.name.clone(),
            incarnation: self.incarnation,
            seq,
            ack: self.open.first().copied().unwrap_or(seq),
        }
    }

    /// The value as of some instant while this runs.
    pub fn read(&mut self, key: &str) -> Result<Answer, Lost> {
        self.nodes.ask(&Ask::Read { key: key.into() }, self.patience)
    }
}

/// The nodes that a client knows, by number, and a connection to the one that it asked last.
pub struct Nodes {
    addresses: Vec<(u64, SocketAddr)>,
    current: usize,
    connection: Option<BufReader<TcpStream>>,
}

impl Nodes {
    pub fn new(addresses: Vec<(u64, SocketAddr)>) -> Self {
        Self { addresses, current: 0, connection: None }
    }

    /// Asks until somebody knows the answer.
    pub fn ask(&mut self, ask: &Ask, patience: Duration) -> Result<Answer, Lost> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Lost::Silence);
            }
            match self.ask_once(ask, left.min(SILENCE)) {
                Ok(Answer::NotLeader { leader: Some(id) }) if self.turn_to(id) => continue,
                Ok(Answer::NotLeader { .. } | Answer::Retry { .. }) | Err(_) => self.turn(),
                Ok(Answer::Refused { kind, why }) => return Err(Lost::Refused { kind, why }),
                Ok(answer) => return Ok(answer),
            }
            thread::sleep(PAUSE.min(left));
        }
    }

    /// One question to one node. After an error it may have got through or not.
    pub fn ask_once(&mut self, ask: &Ask, wait: Duration) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(connect(self.addresses[self.current].1, wait)?),
        };
        let stream = connection.get_mut();
        stream.set_read_timeout(Some(wait))?;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        if connection.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let answer = serde_json::from_str(&answer)?;
        // Kept only now: an answer that comes too late must not be taken for the next one's.
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Whether that is another node than the one just asked.
    fn turn_to(&mut self, id: u64) -> bool {
        let found = self.addresses.iter().position(|(node, _)| *node == id);
        let other = found.filter(|place| *place != self.current);
        if let Some(place) = other {
            (self.current, self.connection) = (place, None);
        }
        other.is_some()
    }

    fn turn(&mut self) {
        self.current = (self.current + 1) % self.addresses.len();
        self.connection = None;
    }
}

fn connect(address: SocketAddr, wait: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, wait)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(wait))?;
    Ok(stream)
}
