//! `onceflight proxy` and the operators' commands, run as a user runs them: processes of their own, and
//! real sockets on both sides of the proxy.
//!
//! Nothing here is slept for. The backend records each request and, while it is *held*, answers
//! none; the proxy says on stderr what each request does (`--verbose`), and says that it waits only
//! once it has joined. So a test knows that everybody is in place before it lets the backend go.

mod admin;
mod backend;
mod coalesced;
mod conformance;
mod harness;
mod http;
mod interim;
mod keyed;
mod malformed;
mod memory;
mod operate;
mod process;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
mod raw;
mod server;
