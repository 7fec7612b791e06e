//! A connection to one server, and the three commands of memcached's text protocol that are needed.
//!
//! Each call has a deadline, whatever the server does. A connection that was cut off in the middle of an
//! answer is [`Failure::Broken`], and so is one whose answer isn't understood: what comes next on it
//! could be taken for something else.
//!
//! Why no client library: those that were read connect without a time limit or can't be told one a
//! call. And the newer `ms` command, which they prefer, drops the item that is there if the new one is
//! too large for the server, whatever its mode: a record in progress would vanish. `add` and `cas` leave
//! it. (`ms` could tell the number of the version that it wrote; `gets`, sent with the `add`, does too.)

use std::io::{self, BufRead, BufReader, Read, Write};
use std::string::FromUtf8Error;
use std::time::Instant;

use crate::clock::{self, Moment};
use crate::error::{Error, ErrorKind};
use crate::store::pool::Failure;
use crate::store::stream::Stream;

/// More than memcached takes as an item under any setting.
const LARGEST: usize = 1 << 30;
/// More than any line of an answer has.
const LONGEST_LINE: u64 = 2048;

pub(super) struct Connection {
    server: Box<str>,
    line: BufReader<Stream>,
    /// From when on it has surely been to one and the same process.
    pub opened: Moment,
}

/// What is stored under a key, and the number of that version.
pub(super) struct Found {
    pub value: Vec<u8>,
    pub cas: u64,
}

impl Connection {
    /// Connects to `server`, a host and a port.
    pub fn open(server: &str, deadline: Instant) -> Result<Self, Error> {
        let stream = Stream::connect(server, deadline).map_err(|error| failed(server, &error))?;
        let line = BufReader::new(stream);
        Ok(Self { server: server.into(), line, opened: clock::now() })
    }

    /// From now on, until when every call must have ended.
    pub fn end_by(&mut self, deadline: Instant) {
        self.line.get_mut().end_by(deadline);
    }

    pub fn get(&mut self, key: &str) -> Result<Option<Found>, Failure> {
        self.send(&[format!("gets {key}\r\n").as_bytes()])?;
        self.read_found(key)
    }

    /// Writes over what was found, if that is still there; or where nothing was, if still nothing is.
    ///
    /// Answers whether it was written, and what is there now: the latter not where it was written over
    /// another. It is one round trip, but for a second one where another isn't there any more.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge): nothing has changed.
    pub fn put(
        &mut self,
        key: &str,
        value: &[u8],
        exptime: i32,
        over: Option<&Found>,
    ) -> Result<(bool, Option<Found>), Failure> {
        let len = value.len();
        if len > LARGEST {
            return Err(Failure::Refused(self.too_large(len)));
        }
        if let Some(Found { cas, .. }) = over {
            let command = format!("cas {key} 0 {exptime} {len} {cas}\r\n");
            self.send(&[command.as_bytes(), value, b"\r\n"])?;
            return if self.read_put(len)? {
                Ok((true, None))
            } else {
                Ok((false, self.get(key)?))
            };
        }
        let add = format!("add {key} 0 {exptime} {len}\r\n");
        let gets = format!("\r\ngets {key}\r\n");
        self.send(&[add.as_bytes(), value, gets.as_bytes()])?;
        let added = match self.read_put(len) {
            Err(Failure::Broken(error)) => return Err(Failure::Broken(error)),
            added => added,
        };
        match self.read_found(key)? {
            None => Ok((added?, None)),
            // Refused for want of room: what is there has it.
            found => Ok((added.unwrap_or(false), found)),
        }
    }

    fn read_found(&mut self, key: &str) -> Result<Option<Found>, Failure> {
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
        let end = len + b"\r\nEND\r\n".len();
        // Past some kilobytes it grows with what comes, not with what was announced.
        let mut value = Vec::with_capacity(end.min(8192) + 1);
        match self.line.by_ref().take(end as u64).read_to_end(&mut value) {
            Ok(read) if read == end && value.ends_with(b"\r\nEND\r\n") => {}
            Ok(_) => return Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(self.broken(&error)),
        }
        value.truncate(len);
        Ok(Some(Found { value, cas }))
    }

    fn read_put(&mut self, len: usize) -> Result<bool, Failure> {
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
        let mut bytes = Vec::with_capacity(128);
        let read = self.line.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes);
        match read {
            Ok(_) if bytes.ends_with(b"\r\n") => {
                bytes.truncate(bytes.len() - 2);
                let lossy = |error: FromUtf8Error| String::from_utf8_lossy(error.as_bytes()).into();
                Ok(String::from_utf8(bytes).unwrap_or_else(lossy))
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
