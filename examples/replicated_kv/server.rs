//! The port: peers' frames go to the driver, clients' lines are answered.
//!
//! Each connection has a thread of its own, which blocks. Updates enter through
//! [`onceflight::session::Node`]: one that is a duplicate is answered, or joins the other, without
//! going through the log.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use onceflight::session::Node;
use onceflight::{ErrorKind, Response};

use super::driver::{Fate, Input};
use super::kv::{Command, Reply, Update, status};
use super::net::{HELLO, read_frame};
use super::protocol::{Answer, Ask, Refusal};

/// A longer line ends its connection.
const MAX_LINE: u64 = 1 << 20;

/// What the connections share.
#[derive(Clone)]
pub struct Server {
    pub inputs: Sender<Input>,
    pub sessions: Arc<Node>,
    /// How long an answer may take. Then the client is told to ask again, and finds what became of it.
    pub patience: Duration,
}

impl Server {
    /// For ever.
    pub fn serve(&self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let server = self.clone();
                    thread::spawn(move || server.connection(stream));
                }
                // Out of file descriptors, say: let some end.
                Err(error) => {
                    eprintln!("accept: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream) {
        let done = stream.set_nodelay(true).and_then(|()| {
            let mut input = BufReader::new(stream.try_clone()?);
            if input.fill_buf()?.first() == Some(&HELLO[0]) {
                self.peer(input)
            } else {
                self.client(input, stream)
            }
        });
        match done {
            // That one breaks off is no news; that somebody talks nonsense is.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => eprintln!("{error}"),
            _ => {}
        }
    }

    fn peer(&self, mut input: impl Read) -> io::Result<()> {
        let mut hello = HELLO;
        input.read_exact(&mut hello)?;
        if hello != HELLO {
            return Err(nonsense("neither a node nor a client"));
        }
        loop {
            let packet = postcard::from_bytes(&read_frame(&mut input)?).map_err(nonsense)?;
            let _ = self.inputs.send(Input::Packet(packet));
        }
    }

    fn client(&self, mut input: impl BufRead, mut output: TcpStream) -> io::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            if input.by_ref().take(MAX_LINE).read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.len() as u64 == MAX_LINE && !line.ends_with('\n') {
                return Err(nonsense("too long a line"));
            }
            let answer = match serde_json::from_str(&line) {
                Ok(ask) => self.answer(ask),
                Err(error) => Answer::Refused { kind: Refusal::Malformed, why: error.to_string() },
            };
            let mut line = serde_json::to_vec(&answer)?;
            line.push(b'\n');
            output.write_all(&line)?;
        }
    }

    fn answer(&self, ask: Ask) -> Answer {
        let command = match ask {
            Ask::Register { client, nonce } => return self.register(&client, &nonce),
            Ask::KeepAlive { client, incarnation } => Command::KeepAlive { client, incarnation },
            Ask::Unregister { client } => Command::Unregister { client },
            Ask::Read { key } => Command::Read { key },
            Ask::Update { key, op, client, incarnation, seq, ack } => {
                return self.update(&Update { client, incarnation, seq, ack, key, op });
            }
            Ask::Status => {
                let (listener, status) = bounded(1);
                let _ = self.inputs.send(Input::Status(listener));
                let stopping = |_| Answer::Retry { why: "this node is stopping".into() };
                return status.recv().map_or_else(stopping, Answer::Status);
            }
        };
        let fates = self.propose(command);
        loop {
            match fates.recv_timeout(self.patience) {
                Ok(Fate::Accepted) => {}
                Ok(Fate::NotLeader(leader)) => return Answer::NotLeader { leader },
                Ok(Fate::Applied(Ok(Reply::Value(value)))) => return Answer::Done { value },
                Ok(Fate::Applied(Ok(_))) => return Answer::Done { value: None },
                Ok(Fate::Applied(Err(error))) => return error.into(),
                Ok(Fate::Lost) => return Answer::Retry { why: "this node leads no more".into() },
                Err(_) => return Answer::Retry { why: "it takes long".into() },
            }
        }
    }

    /// The one way in for an update: executed before, in flight, or neither.
    fn update(&self, update: &Update) -> Answer {
        let propose = || self.accepted(Command::Update(update.clone()));
        self.sessions
            .submit(&update.request(), self.patience, propose)
            .map_or_else(|it| it, |it| told(&it))
    }

    fn register(&self, client: &str, nonce: &str) -> Answer {
        let command = || Command::Register { client: client.into(), nonce: nonce.into() };
        let propose = || self.accepted(command());
        self.sessions
            .submit_registration(client.as_bytes(), nonce.as_bytes(), self.patience, propose)
            .map_or_else(|it| it, |incarnation| Answer::Registered { incarnation })
    }

    /// Whether it is in the log, or may be: then the thread that applies the log tells the rest.
    fn accepted(&self, command: Command) -> Result<(), Answer> {
        match self.propose(command).recv() {
            Ok(Fate::NotLeader(leader)) => Err(Answer::NotLeader { leader }),
            _ => Ok(()),
        }
    }

    fn propose(&self, command: Command) -> Receiver<Fate> {
        let (listener, fates) = unbounded();
        let _ = self.inputs.send(Input::Propose(command, listener));
        fates
    }
}

fn told(response: &Response) -> Answer {
    match response.status() {
        status::OK => {
            let value = String::from_utf8_lossy(response.data()).into_owned();
            Answer::Done { value: (!value.is_empty()).then_some(value) }
        }
        code => Answer::Failed { code },
    }
}

impl From<onceflight::Error> for Answer {
    fn from(error: onceflight::Error) -> Self {
        let why = error.to_string();
        let kind = match error.kind() {
            ErrorKind::Expired => Refusal::Expired,
            ErrorKind::Fenced => Refusal::Fenced,
            ErrorKind::SeqStale => Refusal::SeqStale,
            ErrorKind::WindowFull => Refusal::WindowFull,
            ErrorKind::Conflict => Refusal::Conflict,
            ErrorKind::TooLarge => Refusal::TooLarge,
            ErrorKind::Malformed | ErrorKind::Invalid => Refusal::Malformed,
            _ => return Self::Retry { why },
        };
        Self::Refused { kind, why }
    }
}

fn nonsense(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
