//! A socket whose calls end at a deadline, however many reads and writes they take.
//!
//! The system bounds each read and each write by itself, and to tell it by how much is a system call more.
//! So it is told a second, once, and asked again until the deadline; only when less is left it is told that.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fork;

/// For how long at most a read or write blocks in one go.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Stream {
    /// Counted, so that the child of a fork can leave it open: it keeps a count for ever.
    socket: Arc<TcpStream>,
    deadline: Instant,
    /// What the system was told last, of reads and of writes.
    told: [Option<Duration>; 2],
    generation: u64,
}

impl Stream {
    /// Connects to `address`, to the first of its addresses that takes it. (A name's look-up is the system's, and
    /// takes as long as that allows.)
    pub fn connect(address: impl ToSocketAddrs, deadline: Instant) -> io::Result<Self> {
        let mut error = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    let (socket, generation) = (Arc::new(socket), fork::enrol());
                    return Ok(Self { socket, deadline, told: [None; 2], generation });
                }
                Err(other) => error = other,
            }
        }
        Err(error)
    }

    /// From now on, until when every call must have ended.
    pub fn end_by(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    fn until_deadline(
        &mut self,
        what: usize,
        tell: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        mut act: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let patience = Some(left(self.deadline)?.min(PATIENCE));
            if self.told[what] != patience {
                tell(&self.socket, patience)?;
                self.told[what] = patience;
            }
            match act(&self.socket) {
                Err(error) if is_short(error.kind()) => {}
                done => return done,
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if fork::generation() != self.generation {
            mem::forget(Arc::clone(&self.socket));
        }
    }
}

/// Whether it may be tried again: a signal came, or what the system was told has passed.
fn is_short(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_deadline(0, TcpStream::set_read_timeout, |mut socket| socket.read(buffer))
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.until_deadline(1, TcpStream::set_write_timeout, |mut socket| socket.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left until the deadline: never nothing, which a socket would take for no limit.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}
