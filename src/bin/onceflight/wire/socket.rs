//! A socket with what was read ahead of it, whose reads end in time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Fault;

/// What one read of the kernel asks for.
const PIECE: usize = 16 * 1024;

/// One side of a connection. Reads give up with [`Fault::Slow`] when the other side is silent for too
/// long, and at the deadline, if there is one; writes when it takes nothing for too long.
pub struct Socket {
    stream: Arc<TcpStream>,
    /// What is read ahead is from `used` to `filled`; the rest is room that is zeroed once.
    ahead: Vec<u8>,
    used: usize,
    filled: usize,
    patience: Duration,
    deadline: Option<Instant>,
    /// What the kernel was told last, so as to tell it only what is new.
    timeout: Duration,
}

impl Socket {
    /// The other side may be silent for `patience`.
    pub fn new(stream: Arc<TcpStream>, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self {
            stream,
            ahead: Vec::new(),
            used: 0,
            filled: 0,
            patience,
            deadline: None,
            timeout: patience,
        })
    }

    /// Reads end then, whatever comes in the meantime.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// What has been read, and not used up.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead[self.used..self.filled]
    }

    /// Uses up so much of what was read ahead.
    pub fn consume(&mut self, len: usize) {
        self.used += len;
        debug_assert!(self.used <= self.filled);
        if self.used == self.filled {
            (self.used, self.filled) = (0, 0);
        }
    }

    /// Reads more ahead; 0 at the end of the input.
    pub fn fill(&mut self) -> Result<usize, Fault> {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.copy_within(self.used..self.filled, 0);
        (self.used, self.filled) = (0, self.filled - self.used);
        let end = self.filled + PIECE;
        if ahead.len() < end {
            ahead.resize(end, 0);
        }
        let read = self.read_some(&mut ahead[self.filled..end]);
        self.ahead = ahead;
        self.filled += read.as_ref().copied().unwrap_or(0);
        read
    }

    /// Bytes that were read ahead, or else some from the kernel; 0 at the end of the input.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        if self.ahead().is_empty() {
            return self.read_some(into);
        }
        let len = self.ahead().len().min(into.len());
        into[..len].copy_from_slice(&self.ahead()[..len]);
        self.consume(len);
        Ok(len)
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            self.limit()?;
            match (&*self.stream).read(into) {
                // A signal that interrupts a call isn't the end of it.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return Ok(read?),
            }
        }
    }

    fn limit(&mut self) -> Result<(), Fault> {
        /// A deadline may be late by so much; so the kernel needn't be told of it at every read.
        const GRAIN: u64 = 64;
        let mut timeout = self.patience;
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Slow);
            }
            let grains = u64::try_from(left.as_millis()).unwrap_or(u64::MAX) / GRAIN + 1;
            timeout = timeout.min(Duration::from_millis(grains.saturating_mul(GRAIN)));
        }
        if timeout != self.timeout {
            self.stream.set_read_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        Ok(())
    }

    /// Writes all of it.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// Writes what the kernel takes without waiting: how much that was. What fails here fails again later.
    pub fn write_at_once(&self, bytes: &[u8]) -> usize {
        let written = self.stream.set_nonblocking(true).and_then(|()| (&*self.stream).write(bytes));
        let _ = self.stream.set_nonblocking(false);
        written.unwrap_or(0)
    }

    /// Whether the other side is silent and there, as it must be between two messages.
    pub fn is_quiet(&self) -> bool {
        let looked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let silent = looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_ok() && silent && self.ahead().is_empty()
    }

    /// Says that nothing more will be written, and reads what still comes, within bounds. To close on
    /// unread input is to reset the connection, and a reset can overtake the last response (413 to a
    /// client in the middle of its body).
    pub fn linger(&mut self) {
        const MOST: Duration = Duration::from_secs(2);
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            self.set_deadline(Some(Instant::now() + MOST));
            let mut dropped = [0; PIECE];
            while matches!(self.read(&mut dropped), Ok(1..)) {}
        }
    }
}
