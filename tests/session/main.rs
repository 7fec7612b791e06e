//! The sessions of a replicated state machine: what is answered, what is kept, and that it is the same
//! everywhere.
//!
//! | file | what it holds |
//! |-|-|
//! | `registration` | who has a session, and which life of that client |
//! | `begin` | in what order a request is looked at, and what is written by it |
//! | `window` | sequence numbers, acknowledgements, digests |
//! | `open` | between a begin that leads and its record there is nothing else |
//! | `implicit` | clients that don't register |
//! | `time` | expiry, and the order of use |
//! | `limits` | names, responses, bytes, sessions: what doesn't fit |
//! | `snapshot`, `forged` | a table as it was, and bytes that are none |
//! | `rows` | save and load |
//! | `peers` | what the tests of Dragonboat, LogCabin and Ratis hold, held here |
//! | `model`, `calls`, `random` | all of it at once, against a naive table |
//! | `node`, `storm` | one entry point on a leader, whose proposals come back from a log |
//! | `sqlite`, `sqlite_file`, `postgres` | in a database's own transaction |

mod begin;
mod calls;
mod forged;
mod implicit;
mod limits;
mod model;
mod node;
mod open;
mod peers;
#[cfg(feature = "postgres")]
mod postgres;
mod random;
mod registration;
mod rows;
mod snapshot;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_file;
mod storm;
mod support;
mod time;
mod window;
