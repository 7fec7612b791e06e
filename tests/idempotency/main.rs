//! The table over a store, on records in memory: what it adds to a store.

mod states;
#[cfg(feature = "sqlite")]
mod transactions;
