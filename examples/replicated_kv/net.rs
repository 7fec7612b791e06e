//! The sockets between nodes: frames that may get lost, but never in part.
//!
//! Each node connects to each other one and only writes there; what it hears comes over the others'
//! connections. A connection begins with [`HELLO`], which no JSON line does, so one port serves nodes
//! and clients. A frame is its length in four bytes, little-endian, and as many bytes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// What a node's connection begins with.
pub const HELLO: [u8; 8] = *b"\0once/1\n";

/// A longer frame is no frame: a snapshot is the longest there is.
const MAX_FRAME: usize = 64 << 20;

/// Frames that wait for a peer; more are dropped. Raft sends again what matters.
const QUEUE: usize = 256;

/// Between two attempts to connect, and the longest that a write may be stuck.
const PAUSE: Duration = Duration::from_millis(50);
const STUCK: Duration = Duration::from_secs(2);

/// The way to one peer. Never blocks: what can't be sent is dropped.
pub struct Link(Sender<Vec<u8>>);

impl Link {
    pub fn new(address: String) -> Self {
        let (sender, frames) = bounded(QUEUE);
        thread::spawn(move || write_all(&address, &frames));
        Self(sender)
    }

    pub fn send(&self, frame: Vec<u8>) {
        let _ = self.0.try_send(frame);
    }
}

fn write_all(address: &str, frames: &Receiver<Vec<u8>>) {
    let mut connection = None;
    for frame in frames {
        let stream = match connection.take() {
            Some(stream) => Ok(stream),
            None => connect(address),
        };
        connection =
            stream.and_then(|mut stream| write_frame(&mut stream, &frame).map(|()| stream)).ok();
        if connection.is_none() {
            // What has been waiting is old by now, and the peer will ask for it anyway.
            frames.try_iter().for_each(drop);
            thread::sleep(PAUSE);
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such address");
    let address = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
    let mut stream = TcpStream::connect_timeout(&address, STUCK)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STUCK))?;
    stream.write_all(&HELLO)?;
    Ok(stream)
}

/// One write, so that a frame is one packet as a rule.
pub fn write_frame(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + frame.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(frame);
    to.write_all(&bytes)
}

/// The next frame, once all of it is there. After an error the connection is of no more use.
pub fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long for a frame"));
    }
    let mut frame = Vec::new();
    // Grows with what arrives: a length alone reserves nothing.
    from.take(len as u64).read_to_end(&mut frame)?;
    if frame.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}
