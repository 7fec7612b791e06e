//! Processes that are killed: this test program, started again to run one test, as a worker.
//!
//! A test asks for its [`task`] first; only a worker has one. Its [`Place`] is the test's.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, panic, process, thread};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::harness::Place;

const ORDERS: &str = "ONCEFLIGHT_CRASH_WORKER";

/// What a worker is told as it starts.
#[derive(Serialize, Deserialize)]
struct Orders<T> {
    place: Address,
    task: T,
}

/// Where the test's records are.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address {
    pub url: String,
    pub scope: String,
    pub dir: PathBuf,
}

fn orders<T: DeserializeOwned>() -> Option<Orders<T>> {
    let orders = env::var(ORDERS).ok()?;
    Some(serde_json::from_str(&orders).expect("orders of this test"))
}

/// In a worker, where it works.
pub fn address() -> Option<Address> {
    orders::<IgnoredAny>().map(|orders| orders.place)
}

/// In a worker, what it is to do.
pub fn task<T: DeserializeOwned>() -> Option<T> {
    let Orders { task, .. } = orders()?;
    // A thread that panics is the worker's failure, whatever its other threads do.
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |failure| {
        tell(failure);
        process::exit(101);
    }));
    Some(task)
}

/// The worker's word to the test.
pub fn say(what: impl Serialize) {
    let what = serde_json::to_string(&what).expect("JSON");
    // Not by `println`, which the test harness may hold back.
    writeln!(std::io::stdout(), "\nsays: {what}").expect("a pipe");
}

/// The test's word to the worker, one a line.
pub fn told() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a pipe");
    line.trim().into()
}

/// A running worker. Dropped, it is killed.
pub struct Worker {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    pub fn start(place: &Place, task: impl Serialize) -> Self {
        Self::start_by(Command::new(env::current_exe().expect("this program")), place, task)
    }

    /// By a command that runs the program which its last arguments name.
    pub fn start_by(mut command: Command, place: &Place, task: impl Serialize) -> Self {
        let orders = Orders { place: place.address(), task };
        let mut process = command
            .args([place.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ORDERS, serde_json::to_string(&orders).expect("JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let stdin = process.stdin.take().expect("a pipe");
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, stdin, stdout }
    }

    /// The next thing it says.
    #[track_caller]
    pub fn hear<T: DeserializeOwned>(&mut self) -> T {
        self.hear_or_end().expect("the worker says something")
    }

    /// The next thing it says; `None`: it has ended, maybe in the middle of a line.
    pub fn hear_or_end<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut lines = (&mut self.stdout).lines().map_while(Result::ok);
        let said = lines.find_map(|line| line.strip_prefix("says: ").map(String::from))?;
        serde_json::from_str(&said).ok()
    }

    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").expect("it lives");
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill(); // it may have killed itself
    }

    /// Waits for its death, which must be by SIGKILL: a worker that ends otherwise has failed.
    #[track_caller]
    pub fn bury(mut self) {
        let status = self.process.wait().expect("its end");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "a worker failed: {status}");
    }

    /// Waits for its success.
    #[track_caller]
    pub fn succeed(mut self) {
        let status = self.process.wait().expect("its end");
        assert!(status.success(), "a worker failed: {status}");
    }

    /// Stops it where it is, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug)]
/// Where a worker dies by its own hand: at the so-manieth time that it passes a point.
pub struct Fate<P> {
    point: Option<P>,
    left: AtomicU64,
}

impl<P: PartialEq> Fate<P> {
    pub fn new(point: P, times: u64) -> Self {
        Self { point: Some(point), left: AtomicU64::new(times) }
    }

    /// Nobody dies.
    pub fn none() -> Self {
        Self { point: None, left: AtomicU64::new(0) }
    }

    /// Returns, or doesn't.
    pub fn pass(&self, point: P) {
        if self.point == Some(point) && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            signal_hook::low_level::raise(libc::SIGKILL).expect("death");
            loop {
                thread::park(); // it comes before the call returns, but who knows
            }
        }
    }
}
