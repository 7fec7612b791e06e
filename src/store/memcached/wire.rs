//! A connection to one server, and the three commands of memcached's text protocol that are needed.
//!
//! Each call has a deadline, whatever the server does: every read and write is given what is left of
//! it. A connection that was cut off in the middle of an answer is [`Failure::Broken`], and so is one
//! whose answer isn't understood: what comes next on it could be taken for something else.
//!
//! Why no client library: those that were read connect without a time limit or can't be told one a
//! call. And the newer `ms` command, which they prefer, drops the item that it was to replace if the
//! new one is too large for the server: a record in progress would vanish. `cas` leaves it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::store::pool::Failure;

/// More than memcached takes as an item under any setting.
const LARGEST: usize = 1 << 30;
/// More than any line of an answer has.
const LONGEST_LINE: u64 = 2048;

pub(super) struct Connection {
    server: Box<str>,
    line: BufReader<Line>,
}

/// What is stored under a key, and the number of that version.
pub(super) struct Found {
    pub value: Vec<u8>,
    pub cas: u64,
}

/// Which versions a write may replace.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Nothing,
    /// This one only.
    Cas(u64),
}

impl Connection {
    /// Connects to `server`, a host and a port.
    pub fn open(server: &str, deadline: Instant) -> Result<Self, Error> {
        let connect = || {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in server.to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, left(deadline)?) {
                    Ok(stream) => return stream.set_nodelay(true).map(|()| stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        match connect() {
            Ok(stream) => {
                let line = BufReader::new(Line { stream, deadline });
                Ok(Self { server: server.into(), line })
            }
            Err(error) => Err(failed(server, &error)),
        }
    }

    /// From now on, until when every call must have ended.
    pub fn end_by(&mut self, deadline: Instant) {
        self.line.get_mut().deadline = deadline;
    }

    pub fn get(&mut self, key: &str) -> Result<Option<Found>, Failure> {
        self.send(&[format!("gets {key}\r\n").as_bytes()])?;
        let first = self.read_line()?;
        if first == "END" {
            return Ok(None);
        }
        let words: Vec<_> = first.split(' ').collect();
        let ["VALUE", found, _flags, len, cas] = *words else { return Err(self.refused(&first)) };
        let (Ok(len), Ok(cas)) = (len.parse::<usize>(), cas.parse()) else {
            return Err(self.refused(&first));
        };
        if found != key || len > LARGEST {
            return Err(self.refused(&first));
        }
        // Grows with what comes, not with what was announced.
        let mut value = Vec::new();
        let end = len + b"\r\nEND\r\n".len();
        match self.line.by_ref().take(end as u64).read_to_end(&mut value) {
            Ok(read) if read == end && value.ends_with(b"\r\nEND\r\n") => {}
            Ok(_) => return Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(self.broken(&error)),
        }
        value.truncate(len);
        Ok(Some(Found { value, cas }))
    }

    /// Writes if what is there is what may be replaced. Answers whether it was.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge): nothing has changed.
    pub fn put(
        &mut self,
        key: &str,
        value: &[u8],
        exptime: i32,
        over: Over,
    ) -> Result<bool, Failure> {
        let len = value.len();
        if len > LARGEST {
            return Err(Failure::Refused(self.too_large(len)));
        }
        let command = match over {
            Over::Nothing => format!("add {key} 0 {exptime} {len}\r\n"),
            Over::Cas(cas) => format!("cas {key} 0 {exptime} {len} {cas}\r\n"),
        };
        self.send(&[command.as_bytes(), value, b"\r\n"])?;
        match &*self.read_line()? {
            "STORED" => Ok(true),
            "NOT_STORED" | "EXISTS" | "NOT_FOUND" => Ok(false),
            error if error.starts_with("SERVER_ERROR object too large") => {
                Err(Failure::Refused(self.too_large(len)))
            }
            other => Err(self.refused(other)),
        }
    }

    fn send(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        // A copy of what is short costs less than a packet more.
        let line = self.line.get_mut();
        let sent = match parts {
            [command, value, end] if value.len() > 65_536 => {
                [command, value, end].into_iter().try_for_each(|part| line.write_all(part))
            }
            _ => line.write_all(&parts.concat()),
        };
        sent.map_err(|error| self.broken(&error))
    }

    /// A line of an answer, without its end.
    fn read_line(&mut self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = self.line.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes);
        match read {
            Ok(_) if bytes.ends_with(b"\r\n") => {
                bytes.truncate(bytes.len() - 2);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Ok(_) => Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// What the server says instead of an answer. The connection isn't used any more but where the
    /// server has read all that it was sent.
    fn refused(&self, line: &str) -> Failure {
        let error = Error::store(format!("memcached at {} answers: {line}", self.server));
        if line.starts_with("SERVER_ERROR ") {
            Failure::Refused(error)
        } else {
            Failure::Broken(error)
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        Failure::Broken(failed(&self.server, error))
    }

    fn too_large(&self, len: usize) -> Error {
        let detail = format!(
            "a record of {len} bytes, which is more than memcached at {} takes (its option -I)",
            self.server
        );
        Error::new(ErrorKind::TooLarge, detail)
    }
}

fn failed(server: &str, error: &io::Error) -> Error {
    let detail = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("memcached at {server} didn't answer until the deadline")
        }
        io::ErrorKind::UnexpectedEof => format!("memcached at {server} ended the connection"),
        io::ErrorKind::ConnectionRefused => {
            format!("memcached at {server} can't be reached: {error}; is it running?")
        }
        _ => format!("memcached at {server}: {error}"),
    };
    Error::store(detail)
}

/// What is left of a call's time; none is an error, since a socket takes zero for endless.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A stream whose reads and writes all end by the deadline.
struct Line {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
