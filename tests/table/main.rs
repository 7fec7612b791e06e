//! What the in-process table guarantees, a module a topic.
//!
//! No test sleeps to put events in order: a follower is in line when `stats().waiting` says so.
//! Sleeps stand only where time itself is the subject, and then nothing is asserted that a loaded
//! machine could make false.

mod close;
mod deadlock;
mod fast;
mod fingerprints;
mod followers;
mod forget;
mod hold;
mod leases;
mod limits;
mod line;
mod regressions;
mod run;
mod states;
mod stats;
mod support;
mod traits;
mod user_code;
mod window;
