//! The C ABI: `include/onceflight.h`, generated from these files.
//!
//! Each entry is a thin shell: it resets the out-parameters, checks its arguments, calls the same
//! verbs that Rust programs use, and turns the result into an `int32_t`. No panic crosses it.
//!
//! Ownership: handles are boxes and counted references of ours behind opaque pointers. Responses,
//! queues and tables hold what they need of each other, so they are freed in any order. Leads are
//! plain numbers, so that a stale one is looked up and refused, never followed.
//!
//! Elsewhere `unsafe` is only where a measurement pays for it: see `table`, `sync`, `clock`, `fork`.

#![allow(non_camel_case_types)] // C's names, as cbindgen prints them
#![allow(clippy::missing_safety_doc)] // it would be copied into the header; the rules stand there once
#![allow(clippy::doc_markdown)] // the docs become the header's, where backticks would be noise

mod backend;
mod code;
mod key;
mod options;
mod queue;
mod request;
mod response;
mod rows;
mod sessions;
mod sql;
mod stats;
mod table;
mod turn;

pub use code::*;
pub use key::*;
pub use options::*;
pub use queue::*;
pub use request::*;
pub use response::*;
pub use rows::*;
pub use sessions::*;
pub use sql::*;
pub use stats::*;
pub use table::*;
pub use turn::*;

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_header_is_the_generated_one() {
        let generated = include_str!(concat!(env!("OUT_DIR"), "/onceflight.h"));
        let checked_in = include_str!("../../include/onceflight.h");
        assert!(generated == checked_in, "include/onceflight.h is stale: run `make header`");
    }
}
