//! What every store does: one suite, run on all of them by the same code.
//!
//! `cargo test --features stores --test store` runs each case on each store that the features name;
//! `claims::redis::` picks those of one file and store. The servers' addresses come from
//! `scripts/servers.sh run`.
//!
//! Each test has a scope of its own, so that tests can run side by side on one server. Numbers such
//! as (#25) are those of the list of what goes wrong with idempotency keys in practice; they name
//! the wound that a case stands for. Nothing is asserted that a slow machine could make false: what
//! takes time is waited for.

mod bytes;
mod claims;
mod fingerprints;
mod idempotent;
mod leases;
mod news;
mod operators;
mod retention;
mod settles;

// Some of it is for stores that a build of few features hasn't got.
#[cfg_attr(not(feature = "stores"), allow(dead_code))]
mod deadlines;
#[cfg_attr(not(feature = "stores"), allow(dead_code))]
mod harness;
#[cfg_attr(not(feature = "stores"), allow(dead_code))]
mod processes;
#[cfg_attr(not(feature = "stores"), allow(dead_code))]
mod proxy;

#[cfg(feature = "memcached")]
mod memcached_servers;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "postgres")]
mod postgres_transaction;
#[cfg(feature = "redis")]
mod redis_records;
#[cfg(feature = "redis")]
mod redis_servers;
#[cfg(feature = "redis")]
mod redis_topology;
#[cfg(feature = "redis")]
mod redis_wire;
#[cfg(feature = "sqlite")]
mod sqlite_file;
#[cfg(all(feature = "sqlite", unix))]
mod sqlite_processes;
#[cfg(feature = "sqlite")]
mod sqlite_transactions;
