//! The table over a store, on records in memory: what it adds to a store. A module a topic.
//!
//! Two tables over one store stand for two processes; [`flaky`] is between each and the store. No
//! test sleeps to put events in order: a follower is in line when `stats().waiting` says so, a watcher
//! watches when its claim has been answered. Sleeps stand only where time itself is the subject.

mod cancel;
mod checkpoints;
mod close;
mod decline;
mod failures;
mod fingerprints;
mod flaky;
#[cfg(unix)]
mod fork;
mod hold;
mod leases;
mod limits;
mod news;
mod operators;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
mod regressions;
mod round_trips;
mod run;
mod scopes;
mod states;
mod stats;
mod storm;
mod support;
mod timeouts;
#[cfg(feature = "sqlite")]
mod transactions;
mod ttl;
