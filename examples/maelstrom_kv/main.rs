//! A Maelstrom key-value node on which a retry is executed once: <https://github.com/jepsen-io/maelstrom>.
//!
//! It reads one JSON message a line from stdin and writes one a line to stdout: `read {key}`,
//! `write {key, value}` and `cas {key, from, to}`, as the workload lin-kv asks them. A request that
//! also has `client_id` and `seq` is executed at most once. Sent again, it is answered again, each
//! time with what came out when it was executed, be it an error.
//!
//! ```text
//! maelstrom test -w lin-kv --bin target/release/examples/maelstrom_kv --node-count 1 --time-limit 10
//! ```
//!
//! A client numbers its requests from 1 on. One that begins later isn't known, and is told that
//! nobody can say any more what became of its earlier ones.
//!
//! The node is alone, so the order in which it reads is the log, and its own clock the log's time.

mod store;
#[path = "../maelstrom/wire.rs"]
#[allow(dead_code, reason = "each node uses its part of the protocol")]
mod wire;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use onceflight::session::SessionRequest;
use onceflight::{ErrorKind, Fingerprint, SessionTable};
use serde_json::Value;

use store::{Operation, Store};
use wire::{Call, Code, Failure, Fields, Output};

const HELP: &str = "\
usage: maelstrom_kv [--session-timeout SECONDS] [--window N]

  --session-timeout SECONDS   how long a client that says nothing is remembered (300)
  --window N                  how many requests back a retry may come, 1 to 64 (64)";

/// The status of a result; a failure's is its code, and no code of an operation's is 0.
const OK: i32 = 0;

fn main() -> ExitCode {
    let output = Output::default();
    let mut node = match options() {
        Ok(Some(sessions)) => {
            Node { store: Store::default(), sessions, started: Instant::now(), output: &output }
        }
        Ok(None) => {
            eprintln!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("maelstrom_kv: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match wire::serve(io::stdin().lock(), &output, &mut node) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stdin: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Node<'o> {
    store: Store,
    sessions: SessionTable,
    started: Instant,
    output: &'o Output,
}

impl wire::Node for Node<'_> {
    fn request(&mut self, call: &Call) -> Result<(), Failure> {
        // What can't be understood isn't executed, and takes no number.
        let operation = Operation::parse(call)?;
        let fields = if call.body.contains_key("client_id") || call.body.contains_key("seq") {
            self.once(call, operation)?
        } else {
            self.store.execute(operation)?
        };
        self.output.answer(call, Ok(&fields));
        Ok(())
    }
}

impl Node<'_> {
    /// Executes it, unless that was done before: then it is the same result.
    fn once(&mut self, call: &Call, operation: Operation) -> Result<Fields, Failure> {
        let client = call.field("client_id")?.to_string();
        let seq = call.number("seq")?;
        let payload = Fingerprint::of([call.identity()]);
        let request = SessionRequest::implicit(client.as_bytes(), seq).digest(payload);
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let applied = self
            .sessions
            .apply(&request, now, || match self.store.execute(operation) {
                Ok(fields) => (OK, Value::Object(fields).to_string()),
                Err(failure) => (failure.code.try_into().unwrap_or(i32::MAX), failure.text),
            })
            .map_err(|error| refused(&error))?;
        let response = applied.response;
        match response.status() {
            OK => Ok(serde_json::from_slice(response.data()).expect("written above")),
            code => Err(Failure {
                code: code.unsigned_abs().into(),
                text: String::from_utf8_lossy(response.data()).into_owned(),
            }),
        }
    }
}

/// What the table says of a request that it neither executes nor replays.
fn refused(error: &onceflight::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::WindowFull => Code::TemporarilyUnavailable,
        ErrorKind::Malformed | ErrorKind::Conflict | ErrorKind::Invalid => Code::MalformedRequest,
        ErrorKind::SeqStale => Code::Abort,
        // It may have been executed, in a session that nobody remembers or with a result too large
        // to keep.
        _ => Code::Crash,
    };
    Failure::new(code, error.to_string())
}

/// None: only help was asked for.
fn options() -> Result<Option<SessionTable>, lexopt::Error> {
    let (mut timeout, mut window) = (Duration::from_secs(300), 64);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("session-timeout") => {
                timeout = arguments.value()?.parse_with(|text| {
                    Duration::try_from_secs_f64(text.parse().map_err(|_| "not a number")?)
                        .map_err(|_| "not a length of time")
                })?;
            }
            Long("window") => window = arguments.value()?.parse()?,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    let table = SessionTable::builder()
        .timeout_ms(timeout.as_millis().try_into().unwrap_or(u64::MAX))
        .window(window)
        .build();
    Ok(Some(table.map_err(|error| error.to_string())?))
}
