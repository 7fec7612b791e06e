//! The examples that are Maelstrom nodes, to the letter of the protocol.

mod dedup;
#[path = "../support/example.rs"]
mod example;
mod kv;
mod process;
