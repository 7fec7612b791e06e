//! The example `replicated_kv` as what it is: processes on sockets, which are killed and cut off.
//!
//! The nodes reach each other through a [router](router) of ours, and clients reach the nodes through a
//! [front](front): both lose, double and delay what they carry. What clients heard is then
//! [checked](history) by the same rules as the simulated cluster's.
//!
//! `ONCEFLIGHT_SEED` picks the faults, and `ONCEFLIGHT_CHAOS` how many rounds of all of them there are.

mod chaos;
#[path = "../../examples/replicated_kv/client.rs"]
#[allow(dead_code, reason = "the example's own")]
mod client;
mod cluster;
#[path = "../support/example.rs"]
mod example;
mod failover;
mod front;
#[path = "../cluster/history.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod history;
#[path = "../cluster/linear.rs"]
mod linear;
#[path = "../../examples/replicated_kv/net.rs"]
#[allow(dead_code, reason = "the example's own")]
mod net;
#[path = "../../examples/replicated_kv/op.rs"]
mod op;
mod port;
#[path = "../../examples/replicated_kv/protocol.rs"]
mod protocol;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
mod router;

// What the history is told in.
use op as kv;
