//! What a session takes of the heap, the table's own included.

use super::clients::Clients;
use crate::heap;
use crate::plan::Plan;
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

pub fn run(plan: &Plan, report: &mut Report) {
    let count = if plan.quick { 1 << 14 } else { 1 << 17 };
    let contestants: [(&str, u32, Option<&[u8]>); 4] = [
        ("no reply", 1, None),
        ("W 1, 32 bytes", 1, Some(&[7; 32])),
        ("W 16, full of 32 bytes", 16, Some(&[7; 32])),
        ("W 64, full of 32 bytes", 64, Some(&[7; 32])),
    ];
    let names = contestants.iter().map(|(name, ..)| *name).collect();
    let rounds = rounds::take(1, 1, names, |contestant| {
        let (_, window, reply) = contestants[contestant];
        let (all, replies) = session(count, window, reply);
        Taken { figures: vec![all, all - replies], foreign: 0.0 }
    });
    let table = Table {
        work: "session-memory",
        title: "a session, 16-byte client and nonce",
        unit: "bytes",
        threads: 1,
        n: count,
        figure: 0,
        against: &[],
    };
    report.table(&rounds, &table);
    let (work, title) = ("session-bare", "the same without the blocks of its replies");
    report.table(&rounds, &Table { work, title, figure: 1, ..table });
}

/// Bytes a session, and those of its replies.
fn session(count: u64, window: u32, reply: Option<&[u8]>) -> (f64, f64) {
    let block = reply.map_or(0, |reply| counted(|| onceflight::Response::new(0, reply)));
    let list = count * size_of::<([u8; 16], u64)>() as u64;
    let bytes = counted(|| {
        let mut clients = Clients::new(count, window);
        if let Some(reply) = reply {
            clients.fill(reply);
        }
        heap::not_counted(list as usize);
        clients
    });
    (bytes as f64 / count as f64, (block * i64::from(window)) as f64)
}

fn counted<T>(make: impl FnOnce() -> T) -> i64 {
    heap::count();
    let made = make();
    let (bytes, _) = heap::counted();
    heap::stop();
    drop(made);
    bytes
}
