//! What is left when processes are killed, servers go away, clocks jump, and files rot.
//!
//! | file | what is done to whom |
//! |-|-|
//! | `leaders` | SIGKILL to leaders, anywhere: one response a key, whoever finishes |
//! | `transactions` | the same to those whose record and rows are one transaction: both, or neither |
//! | `sessions` | the same to those who apply requests to a durable table of sessions |
//! | `outages` | servers are stopped, killed and frozen under traffic: errors in time, and then all goes on |
//! | `stale` | leaders that were overtaken come back: they change nothing |
//! | `clocks` | processes live in other years: no lease is touched |
//! | `server_clocks` | a server's clock is set: what then ends sooner or later, and that fences hold |
//! | `files` | a full disk, a lock, a file gone, replaced, garbled: an error each, and nothing lost |
//! | `postgres_disk` | the server's disk is full: the same |
//! | `corrupt` | records are written to by others: never an answer, nor a lead |
//! | `many` | very many records: listed and purged while others claim |
//!
//! | variable | says | |
//! |-|-|-|
//! | `ONCEFLIGHT_KILLS` | how many workers are killed, in each test that does | 150 |
//! | `ONCEFLIGHT_RECORDS` | how many records are many | 10000 |
//! | `ONCEFLIGHT_SEED` | what random choices are drawn from | another each time, and printed |
//!
//! `tests/store/control.sh` breaks the crate in many places and demands that these tests fail.
//! Workers are this program, started again ([`worker`]). The servers' addresses come from
//! `scripts/servers.sh run`.

#![cfg(unix)]

mod caller;
mod clocks;
mod corrupt;
mod disk;
mod files;
mod harness;
mod kills;
mod leaders;
mod ledger;
mod many;
mod mortal;
#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
mod outages;
#[cfg(feature = "postgres")]
mod postgres_disk;
#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
#[cfg_attr(not(feature = "stores"), allow(dead_code))] // not every store has every case
mod server_clocks;
#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
mod servers;
mod sessions;
mod stale;
mod transactions;
mod worker;
