//! The table under a model checker: small programs, run under many thousand schedules each, with
//! every lock and every atomic access a place where another thread may go first.
//!
//! `docs/models.md` says how to run them, how to replay a failure, and what they show.

#![cfg(onceflight_shuttle)]

mod bounds;
mod close;
mod deadlock;
mod forget;
mod gate;
mod grow;
mod harness;
mod hold;
mod lease;
mod offer;
mod settle;
mod turn;
mod walk;
mod window;
