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

use std::fmt::Arguments;
use std::io::{self, BufRead, BufReader, Read, Write};
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
    /// The last command that was sent, and the last line that was read: room for the next.
    command: Vec<u8>,
    answer: Vec<u8>,
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
        let (line, opened) = (BufReader::new(stream), clock::now());
        let (command, answer) = Default::default();
        Ok(Self { server: server.into(), line, command, answer, opened })
    }

    /// From now on, until when every call must have ended.
    pub fn end_by(&mut self, deadline: Instant) {
        self.line.get_mut().end_by(deadline);
    }

    pub fn get(&mut self, key: &str) -> Result<Option<Found>, Failure> {
        self.send(format_args!("gets {key}\r\n"), &[], format_args!(""))?;
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
            let command = format_args!("cas {key} 0 {exptime} {len} {cas}\r\n");
            self.send(command, value, format_args!("\r\n"))?;
            return if self.read_put(len)? {
                Ok((true, None))
            } else {
                Ok((false, self.get(key)?))
            };
        }
        let add = format_args!("add {key} 0 {exptime} {len}\r\n");
        self.send(add, value, format_args!("\r\ngets {key}\r\n"))?;
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
        let Some((len, cas)) = self.read_head(key)? else { return Ok(None) };
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

    /// How long the value is that follows, and the number of its version.
    fn read_head(&mut self, key: &str) -> Result<Option<(usize, u64)>, Failure> {
        let line = self.read_line()?;
        if line == "END" {
            return Ok(None);
        }
        let words = line.strip_prefix("VALUE ").and_then(|rest| rest.strip_prefix(key));
        let mut words = words.unwrap_or_default().split(' ');
        let found = match (words.next(), words.next(), words.next(), words.next(), words.next()) {
            // Before the flags there is nothing but a space, or it is another key.
            (Some(""), Some(_flags), Some(len), Some(cas), None) => {
                len.parse().ok().zip(cas.parse().ok())
            }
            _ => None,
        };
        match found.filter(|(len, _)| *len <= LARGEST) {
            Some(found) => Ok(Some(found)),
            None => Err(self.refused()),
        }
    }

    fn read_put(&mut self, len: usize) -> Result<bool, Failure> {
        match self.read_line()? {
            "STORED" => Ok(true),
            "NOT_STORED" | "EXISTS" | "NOT_FOUND" => Ok(false),
            error if error.starts_with("SERVER_ERROR object too large") => {
                Err(Failure::Refused(self.too_large(len)))
            }
            _ => Err(self.refused()),
        }
    }

    fn send(
        &mut self,
        begin: Arguments<'_>,
        value: &[u8],
        end: Arguments<'_>,
    ) -> Result<(), Failure> {
        let (command, stream) = (&mut self.command, self.line.get_mut());
        command.clear();
        // A copy of what is short costs less than a packet more.
        let sent = command.write_fmt(begin).and_then(|()| {
            if value.len() > 65_536 {
                stream.write_all(command)?;
                stream.write_all(value)?;
                command.clear();
            } else {
                command.extend_from_slice(value);
            }
            command.write_fmt(end)?;
            stream.write_all(command)
        });
        sent.map_err(|error| self.broken(&error))
    }

    /// A line of an answer, without its end. Of what isn't text nothing is understood anyway.
    fn read_line(&mut self) -> Result<&str, Failure> {
        self.answer.clear();
        let read = self.line.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.answer);
        match read {
            Ok(_) if self.answer.ends_with(b"\r\n") => {
                self.answer.truncate(self.answer.len() - 2);
                Ok(str::from_utf8(&self.answer).unwrap_or_default())
            }
            Ok(_) => Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// What the server says instead of an answer. The connection isn't used any more but where the
    /// server has read all that it was sent.
    fn refused(&self) -> Failure {
        let line = String::from_utf8_lossy(&self.answer);
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
