//! A replicated key-value store whose clients' requests are executed once, whoever leads: on Raft
//! (noraft), over sockets, with its log on disk. `README.md` shows it survive a `kill -9`.
//!
//! | file | its one idea |
//! |-|-|
//! | `main.rs` | what it is told to do |
//! | `server.rs` | the port: a thread a connection |
//! | `driver.rs` | the thread that drives the replica: clock, timers, links |
//! | `net.rs` | frames between nodes, which may get lost |
//! | `protocol.rs`, `client.rs` | JSON lines; a client that asks until it knows |
//! | `node.rs`, `packet.rs` | the replica: Raft and its log, without I/O, threads or clocks |
//! | `log.rs`, `disk.rs` | what a replica remembers, checksummed; the file that it is in |
//! | `kv.rs`, `op.rs` | the state machine: values, and the session table beside them |
//! | `options.rs` | the command line |

mod client;
mod disk;
mod driver;
#[allow(dead_code, reason = "the simulation in tests/cluster reads more of it")]
mod kv;
mod log;
mod net;
#[allow(dead_code, reason = "likewise")]
mod node;
mod op;
mod options;
mod packet;
mod protocol;
mod server;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::error::Error;
use std::hash::BuildHasher;
use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::bounded;
use onceflight::SessionTable;
use onceflight::session::Node;

use client::{Client, Lost, Nodes};
use driver::Driver;
use kv::Store;
use net::Link;
use node::{Options, Replica};
use op::Op;
use options::{ClientSettings, NodeSettings, Role};
use protocol::Refusal::{Expired, Fenced, WindowFull};
use server::Server;

/// Inputs that wait for the driver; connections wait to hand over more.
const INPUTS: usize = 1024;

fn main() -> ExitCode {
    let done = match Role::from_arguments() {
        Ok(Some(Role::Node(settings))) => run(settings),
        Ok(Some(Role::Client(settings))) => ask(settings),
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("replicated_kv: {error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replicated_kv: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A node, until it is killed or its disk fails.
fn run(settings: NodeSettings) -> Result<(), Box<dyn Error>> {
    let NodeSettings { id, listen, peers, data, session_timeout, .. } = settings;
    let table = SessionTable::builder()
        .timeout_ms(session_timeout.as_millis().try_into()?)
        .window(settings.window)
        .build()?;
    let sessions = Arc::new(Node::new(table));
    let voters: Vec<u64> = peers.iter().map(|(peer, _)| *peer).chain([id]).collect();
    let replica = Replica::open(
        id,
        &voters,
        Store::new(Arc::clone(&sessions)),
        disk::FileDisk::open(&data)?,
        Options { compact_after: settings.snapshot_after },
    )?;
    let listener = TcpListener::bind(&listen).map_err(|error| format!("{listen}: {error}"))?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;

    let (sender, inputs) = bounded(INPUTS);
    let server =
        Server { inputs: sender, sessions: Arc::clone(&sessions), patience: settings.patience };
    thread::spawn(move || server.serve(&listener));
    let links: HashMap<_, _> = peers.into_iter().map(|(peer, at)| (peer, Link::new(at))).collect();
    match Driver::new(replica, sessions, links, inputs, settings.heartbeat, session_timeout).run() {
        Err(error) => Err(format!("{}: {error}", data.display()).into()),
    }
}

/// A client, until its input ends.
fn ask(settings: ClientSettings) -> Result<(), Box<dyn Error>> {
    let ClientSettings { nodes, name, patience } = settings;
    // Another process of this name, too, is another life of this client.
    let nonce = || format!("{:x}", RandomState::new().hash_one(process::id()));
    let mut client = Client::new(Nodes::new(nodes), &name, patience);
    client.register(&nonce()).map_err(|lost| lost.to_string())?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            [] => continue,
            ["read", key] => client.read(key),
            ["write", key, value] => client.update(key, Op::Write(value.into())),
            ["cas", key, from, to] => {
                client.update(key, Op::Cas { from: from.into(), to: to.into() })
            }
            ["add", key, by] if by.parse::<i64>().is_ok() => {
                client.update(key, Op::Add(by.parse()?))
            }
            ["append", key, text] => client.update(key, Op::Append(text.into())),
            _ => {
                eprintln!(
                    "read KEY, write KEY VALUE, cas KEY FROM TO, add KEY NUMBER, append KEY TEXT"
                );
                continue;
            }
        };
        let said = match &answer {
            Ok(answer) => serde_json::to_string(answer)?,
            Err(lost) => format!("no answer: {lost}"),
        };
        writeln!(io::stdout(), "{said}")?;
        // WindowFull: an early request was given up, and so will never be acknowledged.
        if let Err(Lost::Refused { kind: Expired | Fenced | WindowFull, .. }) = answer {
            client.register(&nonce()).map_err(|lost| lost.to_string())?;
        }
    }
    Ok(())
}
