//! A body's bytes, out of their framing.
//!
//! | state | what comes next on the wire |
//! |-|-|
//! | `Left(n)` | n bytes, and then nothing |
//! | `Size` | a line with a chunk's size |
//! | `Chunk(n)` | n bytes of a chunk |
//! | `ChunkEnd` | the line end behind a chunk |
//! | `Trailers` | lines, and an empty one; they are dropped |
//! | `ToTheEnd` | bytes, until the connection ends |
//! | `Done` | the next message |

use super::Fault;
use super::socket::Socket;
use crate::budget::Room;

/// The longest line with a chunk's size, its extensions included, and the longest trailers, in bytes.
const MAX_LINE: usize = 4096;

/// What is left of a body. It doesn't own the connection: each read is given that.
#[derive(Debug)]
pub struct Body {
    state: State,
    announced: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Left(u64),
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    ToTheEnd,
    Done,
}

impl Body {
    pub fn of_length(len: u64) -> Self {
        let state = if len == 0 { State::Done } else { State::Left(len) };
        Self { state, announced: Some(len) }
    }

    pub fn chunked() -> Self {
        Self { state: State::Size, announced: None }
    }

    pub fn to_the_end() -> Self {
        Self { state: State::ToTheEnd, announced: None }
    }

    /// How long it is, if that was said beforehand.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub fn ends_with_connection(&self) -> bool {
        self.state == State::ToTheEnd
    }

    /// Some of its bytes; 0 when there are no more.
    pub fn read(&mut self, socket: &mut Socket, into: &mut [u8]) -> Result<usize, Fault> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let (read, next) = match self.state {
                State::Done => return Ok(0),
                State::Left(left) => {
                    let read = read_most(socket, into, left)?;
                    let left = left - read as u64;
                    (read, if left == 0 { State::Done } else { State::Left(left) })
                }
                State::Size => match chunk_size(&line(socket)?)? {
                    0 => (0, State::Trailers),
                    size => (0, State::Chunk(size)),
                },
                State::Chunk(left) => {
                    let read = read_most(socket, into, left)?;
                    let left = left - read as u64;
                    (read, if left == 0 { State::ChunkEnd } else { State::Chunk(left) })
                }
                State::ChunkEnd if line(socket)?.is_empty() => (0, State::Size),
                State::ChunkEnd => {
                    return Err(Fault::Malformed("a chunk is longer than its size"));
                }
                State::Trailers => {
                    trailers(socket)?;
                    (0, State::Done)
                }
                State::ToTheEnd => match socket.read(into)? {
                    0 => (0, State::Done),
                    read => (read, State::ToTheEnd),
                },
            };
            self.state = next;
            if read > 0 {
                return Ok(read);
            }
        }
    }

    /// All of it, if that isn't more than `most`, and there is room for it: else [`Fault::BodyTooLong`], or
    /// false, and what was read is in `into`.
    pub fn read_whole(
        &mut self,
        socket: &mut Socket,
        most: usize,
        into: &mut Vec<u8>,
        room: &mut Room,
    ) -> Result<bool, Fault> {
        let mut filled = into.len();
        let read = self.read_into(socket, most, into, &mut filled, room);
        into.truncate(filled);
        read
    }

    /// Of `into`, what is past `filled` is room that is zeroed once.
    fn read_into(
        &mut self,
        socket: &mut Socket,
        most: usize,
        into: &mut Vec<u8>,
        filled: &mut usize,
        room: &mut Room,
    ) -> Result<bool, Fault> {
        const PIECE: usize = 64 * 1024;
        if self.announced.is_some_and(|len| len > most as u64) {
            return Err(Fault::BodyTooLong(most));
        }
        let announced = self.announced.and_then(|len| usize::try_from(len).ok());
        // One byte more than is allowed, to know whether that was all.
        let longest = announced.unwrap_or(most + 1);
        while !self.is_done() {
            if *filled == into.len() {
                // By what has come, and not by what was announced, which costs a client nothing.
                let len = (2 * *filled).clamp(PIECE.min(longest), longest);
                if !room.grow_to(len) {
                    return Ok(false);
                }
                into.reserve_exact(len - *filled);
                into.resize(len, 0);
            }
            *filled += self.read(socket, &mut into[*filled..])?;
            if *filled > most {
                return Err(Fault::BodyTooLong(most));
            }
        }
        Ok(true)
    }
}

fn read_most(socket: &mut Socket, into: &mut [u8], most: u64) -> Result<usize, Fault> {
    let len = usize::try_from(most).unwrap_or(usize::MAX).min(into.len());
    match socket.read(&mut into[..len])? {
        0 => Err(Fault::Closed),
        read => Ok(read),
    }
}

/// The next line, without its end.
fn line(socket: &mut Socket) -> Result<Vec<u8>, Fault> {
    loop {
        if let Some(end) = socket.ahead().iter().position(|&byte| byte == b'\n') {
            let line = socket.ahead()[..end].to_vec();
            socket.consume(end + 1);
            return match line.split_last() {
                Some((b'\r', line)) if !line.contains(&b'\r') => Ok(line.to_vec()),
                _ => Err(Fault::Malformed("a line of a chunked body doesn't end in CR LF")),
            };
        }
        if socket.ahead().len() > MAX_LINE {
            return Err(Fault::Malformed("a line of a chunked body is too long"));
        }
        if socket.fill()? == 0 {
            return Err(Fault::Closed);
        }
    }
}

/// Hexadecimal digits, and maybe extensions, which nobody uses and everybody skips.
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    const WRONG: Fault = Fault::Malformed("a chunk's size");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    // More than 15 digits can't be meant, and would not fit.
    if !(1..=15).contains(&digits) || !matches!(rest.trim_ascii_start(), [] | [b';', ..]) {
        return Err(WRONG);
    }
    let size = str::from_utf8(size).map_err(|_| WRONG)?;
    u64::from_str_radix(size, 16).map_err(|_| WRONG)
}

fn trailers(socket: &mut Socket) -> Result<(), Fault> {
    let mut length = 0;
    loop {
        match line(socket)?.len() {
            0 => return Ok(()),
            len => length += len,
        }
        if length > MAX_LINE {
            return Err(Fault::Malformed("the trailers are too long"));
        }
    }
}
