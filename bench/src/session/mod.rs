//! What the sessions of a state machine cost it: time and memory, and the pause of a snapshot.

mod apply;
mod clients;
mod memory;
mod snapshot;

use crate::plan::Plan;
use crate::report::Report;

pub fn run(plan: &Plan, report: &mut Report) {
    apply::run(plan, report);
    memory::run(plan, report);
    snapshot::run(plan, report);
}
