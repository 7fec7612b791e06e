//! The network between the nodes: each connection of one to another comes through here, and what it
//! carries is lost, delayed, doubled, put out of order or cut off, frame by frame.
//!
//! What befalls a frame is drawn from the seed, the link and the frame's number on it; when frames
//! come is the processes' doing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::{HELLO, read_frame, write_frame};
use crate::random::Random;

/// What happens to frames, in percent. Delays are drawn up to `delay_ms`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub lost: u64,
    pub doubled: u64,
    pub delayed: u64,
    pub delay_ms: u64,
}

/// How often it happened.
#[derive(Debug, Default)]
pub struct Tally {
    pub carried: AtomicU64,
    pub lost: AtomicU64,
    pub doubled: AtomicU64,
    pub delayed: AtomicU64,
    /// Delivered after one that was sent later.
    pub overtaken: AtomicU64,
    /// Stopped by a cut.
    pub cut: AtomicU64,
}

#[derive(Default)]
struct State {
    weather: Mutex<Weather>,
    /// Links that carry nothing.
    cuts: Mutex<Vec<(u64, u64)>>,
    tally: Tally,
}

/// Where each node listens; those that don't are missing.
pub type Addresses = Arc<Mutex<BTreeMap<u64, SocketAddr>>>;

pub struct Router {
    state: Arc<State>,
    /// Where `from` finds `to`.
    links: BTreeMap<(u64, u64), SocketAddr>,
}

impl Router {
    /// Between all of these.
    pub fn new(nodes: &[u64], addresses: &Addresses, seed: u64) -> Self {
        let state = Arc::new(State::default());
        let mut links = BTreeMap::new();
        for &from in nodes {
            for &to in nodes.iter().filter(|to| **to != from) {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
                links.insert((from, to), listener.local_addr().unwrap());
                let link = Link {
                    ends: (from, to),
                    state: Arc::clone(&state),
                    addresses: Arc::clone(addresses),
                };
                let random = Random(seed ^ (from << 8 | to) << 48);
                thread::spawn(move || link.serve(&listener, random));
            }
        }
        Self { state, links }
    }

    /// Where `from` finds `to`, for as long as the router lives.
    pub fn address(&self, from: u64, to: u64) -> SocketAddr {
        self.links[&(from, to)]
    }

    pub fn set(&self, weather: Weather) {
        *self.state.weather.lock() = weather;
    }

    /// These carry nothing any more, instead of those cut before.
    pub fn cut(&self, links: impl IntoIterator<Item = (u64, u64)>) {
        *self.state.cuts.lock() = links.into_iter().collect();
    }

    pub fn tally(&self) -> &Tally {
        &self.state.tally
    }
}

struct Link {
    ends: (u64, u64),
    state: Arc<State>,
    addresses: Addresses,
}

const A_DAY: Duration = Duration::from_secs(86_400);

/// When it is due, its number on the link, and what it says.
type Parcel = Reverse<(Instant, u64, Vec<u8>)>;

impl Link {
    fn serve(self, listener: &TcpListener, random: Random) {
        let (sender, parcels) = mpsc::channel();
        let fates = Arc::new(Mutex::new((random, 0)));
        let link = Arc::new(self);
        let deliverer = Arc::clone(&link);
        thread::spawn(move || deliverer.deliver(&parcels));
        for stream in listener.incoming().map_while(Result::ok) {
            let (link, sender, fates) = (Arc::clone(&link), sender.clone(), Arc::clone(&fates));
            thread::spawn(move || link.read(stream, &sender, &fates));
        }
    }

    /// One connection, until it ends.
    fn read(&self, stream: TcpStream, sender: &Sender<Parcel>, fates: &Mutex<(Random, u64)>) {
        let mut stream = BufReader::new(stream);
        let mut hello = [0; HELLO.len()];
        if stream.read_exact(&mut hello).is_err() {
            return;
        }
        assert_eq!(hello, HELLO, "only nodes connect here");
        while let Ok(frame) = read_frame(&mut stream) {
            let mut fates = fates.lock();
            for parcel in self.fate(frame, &mut fates) {
                let _ = sender.send(parcel);
            }
        }
    }

    /// Not at all, once or twice; at once or late.
    fn fate(&self, frame: Vec<u8>, (random, number): &mut (Random, u64)) -> Vec<Parcel> {
        let weather = *self.state.weather.lock();
        let tally = &self.state.tally;
        *number += 1;
        // As many draws for each frame, so that the weather changes nobody else's.
        let [lost, doubled, delayed] =
            [weather.lost, weather.doubled, weather.delayed].map(|part| random.percent(part));
        let delays =
            [(); 2].map(|()| Duration::from_millis(random.within(0..weather.delay_ms + 1)));
        count(&tally.carried);
        if lost {
            count(&tally.lost);
            return Vec::new();
        }
        let mut due = Instant::now();
        if delayed {
            count(&tally.delayed);
            due += delays[0];
        }
        let mut parcels = Vec::new();
        if doubled {
            count(&tally.doubled);
            parcels.push(Reverse((due + delays[1], *number, frame.clone())));
        }
        parcels.push(Reverse((due, *number, frame)));
        parcels
    }

    /// Hands over what is due, by a connection of its own.
    fn deliver(&self, parcels: &Receiver<Parcel>) {
        let (from, to) = self.ends;
        let mut waiting: BinaryHeap<Parcel> = BinaryHeap::new();
        let mut connection = None;
        let mut latest = 0;
        loop {
            let due = waiting.peek().map(|Reverse((due, ..))| *due);
            match parcels.recv_timeout(due.map_or(A_DAY, |due| due - Instant::now().min(due))) {
                Ok(parcel) => waiting.push(parcel),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
                let Some(Reverse((_, number, frame))) = waiting.pop() else { break };
                if self.state.cuts.lock().contains(&(from, to)) {
                    count(&self.state.tally.cut);
                    continue;
                }
                if number < latest {
                    count(&self.state.tally.overtaken);
                }
                latest = latest.max(number);
                let at = self.addresses.lock().get(&to).copied();
                connection = pass_on(connection, at, &frame);
            }
        }
    }
}

/// A node that isn't there loses what is sent to it.
fn pass_on(
    connection: Option<(SocketAddr, TcpStream)>,
    to: Option<SocketAddr>,
    frame: &[u8],
) -> Option<(SocketAddr, TcpStream)> {
    let to = to?;
    let mut stream = match connection {
        Some((address, stream)) if address == to => stream,
        _ => {
            let mut stream = TcpStream::connect(to).ok()?;
            stream.set_nodelay(true).ok()?;
            // A node that is stopped, not killed, must not stop the network for ever.
            stream.set_write_timeout(Some(Duration::from_secs(1))).ok()?;
            stream.write_all(&HELLO).ok()?;
            stream
        }
    };
    write_frame(&mut stream, frame).ok()?;
    Some((to, stream))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
