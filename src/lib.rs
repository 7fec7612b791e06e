//! onceflight makes identical requests run once.
//!
//! For each key one caller, the *leader*, does the work; every other caller with that key, a
//! *follower*, gets the leader's outcome: while it is in flight, and for a while after. A leader
//! that is lost is succeeded by exactly one follower, and what it says later is refused.
//!
//! Start at [`DedupTable`]; where outcomes outlive the process, at `IdempotencyTable`; in a replicated
//! state machine, at [`SessionTable`].

#![cfg_attr(not(feature = "capi"), deny(unsafe_code))]

#[cfg(feature = "ureq")]
pub mod client;
mod clock;
mod error;
mod fingerprint;
mod fork;
mod hash;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "store")]
pub mod idempotency;
mod response;
pub mod session;
#[cfg_attr(onceflight_shuttle, allow(dead_code))]
mod signals;
#[cfg(feature = "store")]
pub mod store;
mod sync;
mod table;
mod thread;
mod timer;

#[cfg(feature = "capi")]
pub mod ffi;

pub use error::{Error, ErrorKind};
pub use fingerprint::{Fingerprint, Fingerprinter, RequestKey};
pub use hash::{KeyHasher, SipState};
#[cfg(feature = "store")]
pub use idempotency::IdempotencyTable;
pub use response::Response;
pub use session::SessionTable;
pub use table::{
    Begin, Builder, DedupTable, Follower, Key, Lead, OnCancel, OnLeaseExpired, Outcome, Refused,
    Request, Role, Stats, TryBegin, Value,
};

/// The model checker's clock.
#[cfg(onceflight_shuttle)]
pub mod model {
    pub use crate::clock::model::{advance, reset};
}

/// The README's Rust is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
