//! Three nodes, each a process with a directory of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::client::{Client, Nodes};
use crate::example;
use crate::front::Front;
use crate::protocol::{Answer, Ask, Status};
use crate::router::{Addresses, Router};

pub const NODES: [u64; 3] = [1, 2, 3];

/// Far more than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub router: Router,
    pub front: Front,
    addresses: Addresses,
    processes: BTreeMap<u64, Child>,
    directory: PathBuf,
    flags: Vec<String>,
}

impl Cluster {
    /// All three run, in calm weather. Nobody stands for election because the machine is busy.
    pub fn calm(flags: &[&str]) -> Self {
        Self::start(1, &[&["--heartbeat-ms", "200"], flags].concat())
    }

    /// All three run, as patient as usual.
    pub fn start(seed: u64, flags: &[&str]) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("onceflight-nodes-{}-{run}", process::id()));
        fs::create_dir_all(&directory).expect("a directory for the nodes");
        let addresses = Addresses::default();
        let mut cluster = Self {
            router: Router::new(&NODES, &addresses, seed),
            front: Front::new(&NODES, &addresses, seed),
            addresses,
            processes: BTreeMap::new(),
            directory,
            flags: flags.iter().map(|&flag| flag.into()).collect(),
        };
        for node in NODES {
            cluster.run(node);
        }
        cluster
    }

    /// Starts a node that isn't running, with what its directory has.
    pub fn run(&mut self, node: u64) {
        let log = File::options().create(true).append(true).open(self.log(node));
        let mut command = Self::program();
        command.args(["--id", &node.to_string(), "--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(self.directory.join(node.to_string())).args(&self.flags);
        for peer in NODES.into_iter().filter(|peer| *peer != node) {
            command.args(["--peer", &format!("{peer}={}", self.router.address(node, peer))]);
        }
        command.stdout(Stdio::piped()).stderr(log.expect("a file for what the node says"));
        let mut process = command.spawn().expect("the node runs");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the node speaks");
        let address = line.trim().strip_prefix("listening on ").and_then(|it| it.parse().ok());
        let address = address.unwrap_or_else(|| panic!("node {node} says {line:?}"));
        self.addresses.lock().insert(node, address);
        assert!(self.processes.insert(node, process).is_none(), "node {node} runs already");
    }

    pub fn program() -> Command {
        static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| example::build("replicated_kv"));
        Command::new(&*PROGRAM)
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: u64) {
        self.addresses.lock().remove(&node);
        let mut process = self.processes.remove(&node).expect("it runs");
        process.kill().expect("a child of ours");
        process.wait().expect("a child of ours");
    }

    /// Stops a node, or lets it go on, without its noticing.
    pub fn signal(&self, node: u64, signal: &str) {
        let id = self.processes[&node].id();
        let done = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill -{signal} {id}");
    }

    pub fn runs(&self, node: u64) -> bool {
        self.processes.contains_key(&node)
    }

    /// Where it listens, past the front.
    pub fn address(&self, node: u64) -> Option<SocketAddr> {
        self.addresses.lock().get(&node).copied()
    }

    /// What a node says of itself, without the front's manners. None: it doesn't run, or hangs.
    pub fn status(&self, node: u64) -> Option<Status> {
        let address = self.address(node)?;
        match Nodes::new(vec![(node, address)]).ask_once(&Ask::Status, Duration::from_secs(1)) {
            Ok(Answer::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// One of these that leads, once it does.
    pub fn leader_of(&self, nodes: &[u64]) -> u64 {
        let leads = |node: u64| self.status(node).is_some_and(|it| it.leader == Some(node));
        eventually("somebody leads", || nodes.iter().copied().find(|&node| leads(node)))
    }

    /// All three have applied the same, and have the same state, which is returned.
    pub fn settled(&self) -> Vec<Status> {
        eventually("all nodes are equal", || {
            let all: Option<Vec<_>> = NODES.iter().map(|&node| self.status(node)).collect();
            let equal = |all: &Vec<Status>| {
                all.windows(2)
                    .all(|two| (two[0].applied, &two[0].state) == (two[1].applied, &two[1].state))
                    && all.iter().all(|it| it.applied == it.logged)
            };
            all.filter(equal)
        })
    }

    pub fn client(&self, name: &str) -> Client {
        let mut client = Client::new(self.nodes(), name, LIMIT);
        client.register("first").expect("a session");
        client
    }

    /// A way to all nodes, through the front.
    pub fn nodes(&self) -> Nodes {
        Nodes::new(self.front.doors())
    }

    fn log(&self, node: u64) -> PathBuf {
        self.directory.join(format!("{node}.log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if thread::panicking() {
            for node in NODES {
                let said = fs::read_to_string(self.log(node)).unwrap_or_default();
                eprintln!("node {node} said:\n{said}");
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Looks again until it is so.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not in {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
