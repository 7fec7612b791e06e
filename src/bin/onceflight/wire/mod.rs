//! HTTP/1.1 on blocking sockets: what comes in is read strictly, what goes out is written plainly.
//!
//! | file | its one idea |
//! |-|-|
//! | `socket.rs` | a socket with what was read ahead of it, whose reads end in time |
//! | `head.rs` | the head of a message, and what it says of the body's length |
//! | `body.rs` | a body's bytes, out of their framing |
//! | `hop.rs` | headers that are of one connection only |
//! | `write.rs` | heads and bodies on their way out |
//! | `interim.rs` | responses that say that another one follows |
//!
//! Heads are parsed by `httparse`. What surrounds it is written here, for three things that a proxy
//! must have and that its users wouldn't see in a library: a message whose end could be read in two ways
//! is refused and never repaired; a head has a deadline as a whole, not only each read of it; and a
//! handler on its own thread may block, also in the midst of a stream.

mod body;
mod head;
mod hop;
mod interim;
mod socket;
mod write;

use std::{fmt, io};

pub use body::Body;
pub use head::{Received, request, response};
pub use hop::end_to_end;
pub use interim::Interim;
pub use socket::Socket;
pub use write::{Asker, Content, head, respond, send, text};

/// Why a message can't be had.
#[derive(Debug)]
pub enum Fault {
    /// The other side closed before it was complete.
    Closed,
    /// It didn't come in time.
    Slow,
    /// Its head is longer than is allowed.
    TooLong,
    /// Its body is longer than is allowed: so many bytes.
    BodyTooLong(usize),
    /// It isn't HTTP, or could be read in more than one way.
    Malformed(&'static str),
    /// The connection failed.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket's timeout is the one or the other, by platform.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Slow,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed too early"),
            Self::Slow => f.write_str("it took too long"),
            Self::TooLong => f.write_str("its head is too long"),
            Self::BodyTooLong(most) => write!(f, "its body is longer than {most} bytes"),
            Self::Malformed(why) => f.write_str(why),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}
