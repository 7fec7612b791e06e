//! The same cycles on 1, 2 and 4 threads, each with keys of its own.

use crate::cycle;
use crate::keys::Short;
use crate::plan::{self, Plan};
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

pub fn run(plan: &Plan, report: &mut Report) {
    for threads in [1, 2, 4] {
        let entries = cycle::entries::<Short>();
        let made: Vec<_> = entries.iter().map(|entry| (entry.make)()).collect();
        let names = entries.iter().map(|entry| entry.name).collect();
        // More threads than cores take turns, in slices of some ms.
        let time = plan.time(if threads > 2 { 150 } else { 60 });
        let rounds = rounds::take(plan.rounds, threads, names, |contestant| {
            let Taken { figures, foreign } = cycle::measure(&*made[contestant], threads, time);
            Taken { figures: vec![threads as f64 * 1e3 / figures[0]], foreign }
        });
        let title = format!("cycles, unique 16-byte keys, {}", plan::threads(threads));
        let table = Table {
            work: "threads",
            title: &title,
            unit: "M/s",
            threads,
            n: 16,
            figure: 0,
            against: &["qc", "onceflight"],
        };
        report.table(&rounds, &table);
    }
}
