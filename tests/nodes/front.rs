//! The network between clients and nodes: a door for each node, at an address that outlives its
//! processes. Questions and answers get lost, each with its connection, and questions come twice.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::random::Random;
use crate::router::Addresses;

/// What happens to questions and answers, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// The question never arrives.
    pub deaf: u64,
    /// It arrives, and its answer doesn't.
    pub mute: u64,
    /// It is asked of any node at the same time.
    pub echo: u64,
}

/// How often it happened.
#[derive(Debug, Default)]
pub struct Tally {
    pub asked: AtomicU64,
    pub deaf: AtomicU64,
    pub mute: AtomicU64,
    pub echo: AtomicU64,
}

pub struct Front {
    doors: Vec<(u64, SocketAddr)>,
    state: Arc<State>,
}

struct State {
    addresses: Addresses,
    manners: Mutex<Manners>,
    random: Mutex<Random>,
    tally: Tally,
}

impl Front {
    pub fn new(nodes: &[u64], addresses: &Addresses, seed: u64) -> Self {
        let state = Arc::new(State {
            addresses: Arc::clone(addresses),
            manners: Mutex::default(),
            random: Mutex::new(Random(seed)),
            tally: Tally::default(),
        });
        let doors = nodes.iter().map(|&node| (node, open(node, &state))).collect();
        Self { doors, state }
    }

    /// Where clients find each node.
    pub fn doors(&self) -> Vec<(u64, SocketAddr)> {
        self.doors.clone()
    }

    pub fn set(&self, manners: Manners) {
        *self.state.manners.lock() = manners;
    }

    pub fn tally(&self) -> &Tally {
        &self.state.tally
    }
}

fn open(node: u64, state: &Arc<State>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let state = Arc::clone(state);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let state = Arc::clone(&state);
            // Whatever goes wrong ends the client's connection, and that tells it enough.
            thread::spawn(move || state.serve(node, client));
        }
    });
    address
}

impl State {
    fn serve(&self, node: u64, mut client: TcpStream) -> io::Result<()> {
        let mut questions = BufReader::new(client.try_clone()?);
        let mut through = None;
        loop {
            let mut question = String::new();
            if questions.read_line(&mut question)? == 0 {
                return Ok(());
            }
            count(&self.tally.asked);
            let (deaf, mute, echo) = self.fate();
            if deaf {
                count(&self.tally.deaf);
                return Ok(());
            }
            if let Some(other) = echo {
                count(&self.tally.echo);
                let question = question.clone();
                thread::spawn(move || ask(&mut connect(other)?, &question));
            }
            if through.is_none() {
                through = Some(connect(self.address(node)?)?);
            }
            let Some(connection) = &mut through else { continue };
            let answer = ask(connection, &question)?;
            if mute {
                count(&self.tally.mute);
                return Ok(());
            }
            client.write_all(answer.as_bytes())?;
        }
    }

    /// Whether the question gets lost, whether the answer does, and who else is asked.
    fn fate(&self) -> (bool, bool, Option<SocketAddr>) {
        let manners = *self.manners.lock();
        let mut random = self.random.lock();
        let addresses = self.addresses.lock();
        let other = addresses.values().nth(random.index(addresses.len().max(1))).copied();
        let echo = random.percent(manners.echo);
        (random.percent(manners.deaf), random.percent(manners.mute), other.filter(|_| echo))
    }

    fn address(&self, node: u64) -> io::Result<SocketAddr> {
        self.addresses.lock().get(&node).copied().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn ask(connection: &mut BufReader<TcpStream>, question: &str) -> io::Result<String> {
    connection.get_mut().write_all(question.as_bytes())?;
    let mut answer = String::new();
    if connection.read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
