//! A Maelstrom node that does identical requests once: <https://github.com/jepsen-io/maelstrom>.
//!
//! It reads one JSON message a line from stdin and writes one a line to stdout. While a request is
//! being worked on, every other with the same body (`msg_id` apart) joins it; each gets a reply of
//! its own. `echo {echo}`, `read {key}` and `fetch {key}` are understood; the work is a slow backend
//! that is only simulated, or, by `--service lin-kv`, Maelstrom's own key-value service:
//!
//! ```text
//! maelstrom test -w echo --bin target/release/examples/maelstrom_dedup --node-count 1 --time-limit 10
//! ```
//!
//! Three kinds of thread share the table. This one reads: it begins each request in the order of its
//! arrival and never blocks on one. Workers do the work of those that lead. One thread waits for all
//! followers at once, by selecting on their receivers.

mod backend;
#[path = "../maelstrom/wire.rs"]
#[allow(dead_code, reason = "each node uses its part of the protocol")]
mod wire;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, unbounded};
use lexopt::prelude::*;
use onceflight::{Begin, DedupTable, ErrorKind, TryBegin};

use backend::Backend;
use wire::{Call, Code, Failure, Fields, Output};

/// Executions at once; more wait for a worker.
const WORKERS: usize = 16;

const HELP: &str = "\
usage: maelstrom_dedup [--delay-ms N] [--service NAME]

  --delay-ms N     how slow the simulated backend is (100)
  --service NAME   ask this node for the value of a key (lin-kv, seq-kv) instead of simulating it";

/// What a flight ends with: the fields of the reply, or the error that every caller gets.
type Outcome = Arc<Result<Fields, Failure>>;
type Table = DedupTable<Vec<u8>, Outcome>;
type Lead<'t> = onceflight::Lead<'t, Vec<u8>, Outcome>;
type Follower<'t> = onceflight::Follower<'t, Vec<u8>, Outcome>;

fn main() -> ExitCode {
    let (delay, service) = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            eprintln!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("maelstrom_dedup: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let output = Output::default();
    let backend = Backend::new(delay, service, &output);
    let table = Table::builder().max_in_flight(1024).max_waiters(1024).build();
    serve(&table, &backend, &output);
    ExitCode::SUCCESS
}

/// Until stdin ends, and what is in flight by then.
fn serve(table: &Table, backend: &Backend<'_>, output: &Output) {
    thread::scope(|scope| {
        let (work, jobs) = unbounded();
        let (joined, line) = unbounded();
        for _ in 0..WORKERS {
            let jobs = jobs.clone();
            scope.spawn(move || lead_each(&jobs, backend, output));
        }
        let mut node = Node { table, output, backend, work: work.clone(), joined };
        scope.spawn(move || follow_all(&line, &work, output));
        if let Err(error) = wire::serve(io::stdin().lock(), output, &mut node) {
            eprintln!("stdin: {error}");
        }
        // No reply of the service comes any more.
        backend.close();
        // With the node its ends of both channels go, so that the others stop when they have nothing
        // left to do.
    });
}

/// The reading side.
struct Node<'t> {
    table: &'t Table,
    output: &'t Output,
    backend: &'t Backend<'t>,
    work: Sender<(Lead<'t>, Call)>,
    joined: Sender<(Follower<'t>, Call)>,
}

impl wire::Node for Node<'_> {
    fn request(&mut self, call: &Call) -> Result<(), Failure> {
        backend::check(call)?;
        match self.table.try_begin(call.identity().as_slice()) {
            // The others run as long as this side has its ends of the channels: a send can't fail.
            Ok(TryBegin::Lead(lead)) => drop(self.work.send((lead, call.clone()))),
            Ok(TryBegin::Follower(follower)) => drop(self.joined.send((follower, call.clone()))),
            Ok(TryBegin::Replayed(outcome)) => self.output.answer(call, outcome.as_ref().as_ref()),
            Err(error) => return Err(unavailable(error.to_string())),
        }
        Ok(())
    }

    fn reply(&mut self, to: u64, body: Fields) {
        self.backend.replied(to, body);
    }
}

/// A worker: does the work of one lead after another.
fn lead_each(jobs: &Receiver<(Lead<'_>, Call)>, backend: &Backend<'_>, output: &Output) {
    for (lead, call) in jobs {
        // Should this panic, the lead is dropped, and the first in line leads instead.
        let outcome = Arc::new(backend.execute(&call));
        // Without a lease nobody overtakes a lead, so this can't fail.
        let _ = lead.complete(Arc::clone(&outcome));
        output.answer(&call, outcome.as_ref().as_ref());
    }
}

/// Waits for all followers with one thread.
fn follow_all<'t>(
    joined: &Receiver<(Follower<'t>, Call)>,
    work: &Sender<(Lead<'t>, Call)>,
    output: &Output,
) {
    let mut followers: Vec<(Follower<'t>, Call)> = Vec::new();
    let mut more = true;
    while more || !followers.is_empty() {
        let mut select = Select::new();
        for (follower, _) in &mut followers {
            select.recv(follower.receiver());
        }
        if more {
            select.recv(joined);
        }
        let ready = select.ready();
        if ready < followers.len() {
            let begun = followers[ready].0.wait_timeout(Duration::ZERO);
            // A lead that was offered to it has passed to the next in line; it will ring again.
            if begun.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) {
                continue;
            }
            let (_, call) = followers.swap_remove(ready);
            match begun {
                Ok(Begin::Shared(outcome) | Begin::Replayed(outcome)) => {
                    output.answer(&call, outcome.as_ref().as_ref());
                }
                Ok(Begin::Lead(lead)) => drop(work.send((lead, call))),
                // No lead here declines; were one to, nothing would have been done for this caller.
                Ok(Begin::Bypass) => output.answer(&call, Err(&unavailable("not shared"))),
                Err(error) => output.answer(&call, Err(&unavailable(error.to_string()))),
            }
        } else {
            match joined.try_recv() {
                Ok(follower) => followers.push(follower),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => more = false,
            }
        }
    }
}

fn unavailable(reason: impl Into<String>) -> Failure {
    Failure::new(Code::TemporarilyUnavailable, reason)
}

/// None: only help was asked for.
fn options() -> Result<Option<(Duration, Option<String>)>, lexopt::Error> {
    let (mut delay, mut service) = (Duration::from_millis(100), None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("delay-ms") => delay = Duration::from_millis(arguments.value()?.parse()?),
            Long("service") => service = Some(arguments.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some((delay, service)))
}
