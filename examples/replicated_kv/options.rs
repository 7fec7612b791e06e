//! The command line.

use std::env;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use lexopt::prelude::*;

pub const HELP: &str = "\
usage: replicated_kv --id N --listen ADDR --peer N=ADDR ... --data DIR [flags]
       replicated_kv client --node N=ADDR ... [--name NAME] [--patience SECONDS]

A node of the cluster:
  --id N                      its number
  --listen ADDR               for the other nodes and for clients
  --peer N=ADDR               another node (repeatable; the same cluster for all nodes)
  --data DIR                  where its log is; made if it isn't there
  --heartbeat-ms N            between two heartbeats of a leader; a node that hears none for 5 to 10
                              of these stands for election (50)
  --patience SECONDS          until a client is told to ask again (5)
  --snapshot-after N          entries until the log is replaced by a snapshot (10000)
The same for all nodes of a cluster, from its first start on:
  --session-timeout SECONDS   how long a client that says nothing is remembered (3600)
  --window N                  requests that a client may have under way, 1 to 64 (16)

It prints `listening on ADDR` on stdout, and says on stderr who leads. There is no way to stop it but
to kill it: whatever it answered is on the disks of most nodes.

A client, which reads lines from stdin and prints a line for each:
  read KEY | write KEY VALUE | cas KEY FROM TO | add KEY NUMBER | append KEY TEXT
  --name NAME                 who it is (the process's number)
  --patience SECONDS          how long it asks, node after node, until it gives a request up (60)";

/// What this process is.
pub enum Role {
    Node(NodeSettings),
    Client(ClientSettings),
}

pub struct NodeSettings {
    pub id: u64,
    pub listen: String,
    pub peers: Vec<(u64, String)>,
    pub data: PathBuf,
    pub heartbeat: Duration,
    pub patience: Duration,
    pub snapshot_after: u64,
    pub session_timeout: Duration,
    pub window: u32,
}

pub struct ClientSettings {
    pub nodes: Vec<(u64, SocketAddr)>,
    pub name: String,
    pub patience: Duration,
}

impl Role {
    /// None: only help was asked for.
    pub fn from_arguments() -> Result<Option<Self>, lexopt::Error> {
        let mut arguments = env::args_os().skip(1).peekable();
        if arguments.next_if(|first| first == "client").is_some() {
            return Ok(
                ClientSettings::parse(lexopt::Parser::from_args(arguments))?.map(Self::Client)
            );
        }
        Ok(NodeSettings::parse(lexopt::Parser::from_args(arguments))?.map(Self::Node))
    }
}

impl NodeSettings {
    fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let (mut id, mut listen, mut data, mut peers) = (None, None, None, Vec::new());
        let (mut snapshot_after, mut window) = (10_000, 16);
        let mut heartbeat = Duration::from_millis(50);
        let mut patience = Duration::from_secs(5);
        let mut session_timeout = Duration::from_secs(3600);
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("id") => id = Some(arguments.value()?.parse()?),
                Long("listen") => listen = Some(arguments.value()?.string()?),
                Long("peer") => peers.push(arguments.value()?.parse_with(numbered)?),
                Long("data") => data = Some(arguments.value()?.into()),
                Long("heartbeat-ms") => {
                    heartbeat = Duration::from_millis(arguments.value()?.parse()?);
                }
                Long("patience") => patience = arguments.value()?.parse_with(seconds)?,
                Long("snapshot-after") => snapshot_after = arguments.value()?.parse()?,
                Long("session-timeout") => {
                    session_timeout = arguments.value()?.parse_with(seconds)?;
                }
                Long("window") => window = arguments.value()?.parse()?,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        let id = id.ok_or("--id is missing")?;
        if peers.iter().any(|(peer, _)| *peer == id) {
            return Err("--id is a --peer's too".into());
        }
        Ok(Some(Self {
            id,
            listen: listen.ok_or("--listen is missing")?,
            data: data.ok_or("--data is missing")?,
            peers,
            heartbeat,
            patience,
            snapshot_after,
            session_timeout,
            window,
        }))
    }
}

impl ClientSettings {
    fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let (mut nodes, mut name) = (Vec::new(), process::id().to_string());
        let mut patience = Duration::from_secs(60);
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("node") => {
                    let (id, at) = arguments.value()?.parse_with(numbered)?;
                    let unknown = || format!("{at}: no such address");
                    let address = at.to_socket_addrs().ok().and_then(|mut all| all.next());
                    nodes.push((id, address.ok_or_else(unknown)?));
                }
                Long("name") => name = arguments.value()?.string()?,
                Long("patience") => patience = arguments.value()?.parse_with(seconds)?,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        if nodes.is_empty() {
            return Err("--node is missing".into());
        }
        Ok(Some(Self { nodes, name, patience }))
    }
}

/// `N=ADDR`.
fn numbered(text: &str) -> Result<(u64, String), &'static str> {
    let (number, at) = text.split_once('=').ok_or("not N=ADDR")?;
    Ok((number.parse().map_err(|_| "not N=ADDR")?, at.into()))
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a length of time")
}
