//! `examples/payments`, by curl: a double click, a retry, a crash, a key that is used twice.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use std::{env, fs, process, thread};

use serde_json::{Value, json};

use crate::programs::program;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pause that is over only with the server.
const FOR_EVER: &str = "3600000";

const ORDER: &str = r#"{"from":"ada","to":"bob","cents":100}"#;

#[test]
fn a_double_click_is_one_payment() {
    let bank = Bank::new("double");
    let server = bank.open("100");
    let first = server.pay_later("k", ORDER);
    server.hear("k: booked, and not committed");
    let second = server.pay("k", ORDER);
    let first = first.join().expect("no panic");
    assert_eq!((first.status, first.replayed), (201, false));
    assert_eq!((second.status, second.replayed), (201, true));
    assert_eq!(first.body, second.body);
    assert_eq!(server.booked(), (1, 100));
}

#[test]
fn a_retry_is_told_the_same_whatever_has_happened_since() {
    let bank = Bank::new("retry");
    let first = bank.open("0").pay("k", ORDER);
    assert_eq!(first.body["id"], 1);
    let server = bank.open("0");
    server.pay("another", ORDER);
    let again = server.pay("k", ORDER);
    assert_eq!((again.status, again.replayed, again.body), (201, true, first.body));
    assert_eq!(server.booked(), (2, 200));
}

#[test]
fn a_refusal_of_the_ledger_is_told_again_too() {
    let bank = Bank::new("refusal");
    let server = bank.open("0");
    for (order, status) in [
        (r#"{"from":"bob","to":"ada","cents":100}"#, 402),
        (r#"{"from":"ada","to":"eve","cents":100}"#, 404),
    ] {
        let key = format!("k{status}");
        let (first, again) = (server.pay(&key, order), server.pay(&key, order));
        assert_eq!((first.status, first.replayed), (status, false));
        assert_eq!((again.status, again.replayed), (status, true));
    }
    // What isn't an order doesn't spend its key.
    assert_eq!(server.pay("k", r#"{"from":"ada"}"#).status, 400);
    assert_eq!(server.pay("k", ORDER).status, 201);
    assert_eq!(server.booked(), (1, 100));
}

#[test]
fn a_key_is_for_one_payment() {
    let bank = Bank::new("mismatch");
    let server = bank.open("0");
    assert_eq!(server.pay("k", ORDER).status, 201);
    let other = server.pay("k", r#"{"from":"ada","to":"bob","cents":999}"#);
    assert_eq!(other.status, 422);
    assert_eq!(other.body["type"], "urn:onceflight:problem:key-reused");
    let without = server.curl(&["/payments", "-d", ORDER]).expect("an answer");
    assert_eq!(without.status, 400);
    assert_eq!(server.booked(), (1, 100));
}

/// Killed between the bookings and their commit, it has booked nothing, and the retry pays.
#[test]
fn a_crash_leaves_neither_payment_nor_key() {
    let bank = Bank::new("crash");
    let mut server = bank.open(FOR_EVER);
    let lost = server.pay_later("k", ORDER);
    server.hear("k: booked, and not committed");
    server.kill();
    assert_eq!(lost.join().expect("no panic").status, 0, "nobody was left to answer");

    let server = bank.open("0");
    assert_eq!(server.booked(), (0, 0));
    let retry = server.pay("k", ORDER);
    assert_eq!((retry.status, retry.replayed), (201, false));
    assert_eq!(server.booked(), (1, 100));
}

/// Killed at any moment, under clients that retry until they know: one payment a key, and who was told
/// of a payment is told of the same one again.
#[test]
fn crashes_anywhere() {
    const KEYS: usize = 40;
    let bank = Bank::new("crashes");
    let mut server = bank.open("1");
    let mut told = Vec::new();
    for key in 0..KEYS {
        let key = key.to_string();
        // Each client is answered or cut off, wherever its payment was by then.
        let client = server.pay_later(&key, ORDER);
        if told.len() % 2 == 0 {
            thread::sleep(Duration::from_micros(700 * told.len() as u64));
            server.kill();
            server = bank.open("1");
        }
        let heard = client.join().expect("no panic");
        let retry = server.pay(&key, ORDER);
        assert_eq!(retry.status, 201);
        if heard.status != 0 {
            assert_eq!((heard.status, &heard.body), (201, &retry.body));
            assert!(retry.replayed);
        }
        told.push(retry.body["id"].as_u64().expect("a number"));
    }
    assert_eq!(server.booked(), (KEYS, KEYS * 100));
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), KEYS);
}

/// A ledger in a file of its own, removed in the end.
struct Bank(PathBuf);

impl Bank {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("onceflight-payments-{name}-{}", process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn open(&self, pause_ms: &str) -> Server {
        Server::start(&self.0.join("payments.db"), pause_ms)
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The example's process, killed when it is dropped.
struct Server {
    child: Child,
    address: String,
    /// It says more than its first line.
    _stdout: BufReader<ChildStdout>,
    stderr: Receiver<String>,
}

/// What a client was told. Its status is 0 if it was cut off.
struct Reply {
    status: u16,
    replayed: bool,
    body: Value,
}

impl Server {
    fn start(db: &Path, pause_ms: &str) -> Self {
        static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| program("payments"));
        let mut child = Command::new(&*PROGRAM)
            .args(["--listen", "127.0.0.1:0", "--pause-ms", pause_ms, "--db"])
            .arg(db)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example runs");
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut first).expect("a line");
        let address = first.strip_prefix("listening on ").expect("its first line").trim_end();
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (lines, receiver) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self { address: address.into(), child, _stdout: stdout, stderr: receiver }
    }

    /// Returns when it has said so on stderr.
    fn hear(&self, what: &str) {
        while self.stderr.recv_timeout(PATIENCE).expect("another line") != what {}
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    fn pay(&self, key: &str, order: &str) -> Reply {
        self.pay_later(key, order).join().expect("no panic")
    }

    fn pay_later(&self, key: &str, order: &str) -> thread::JoinHandle<Reply> {
        let (address, order) = (self.address.clone(), order.to_string());
        let header = format!("Idempotency-Key: \"{key}\"");
        thread::spawn(move || {
            let cut_off = Reply { status: 0, replayed: false, body: Value::Null };
            curl(&address, &["/payments", "-H", &header, "-d", &order]).unwrap_or(cut_off)
        })
    }

    fn curl(&self, arguments: &[&str]) -> Option<Reply> {
        curl(&self.address, arguments)
    }

    /// How many payments there are, and what bob has of them. No cent is made or lost.
    fn booked(&self) -> (usize, usize) {
        let get = |path| self.curl(&[path]).expect("an answer").body;
        let (payments, accounts) = (get("/payments"), get("/accounts"));
        let bob = accounts[1]["cents"].as_u64().expect("cents");
        assert_eq!(accounts[0], json!({ "name": "ada", "cents": 100_000 - bob }));
        let count = payments.as_array().expect("payments").len();
        (count, usize::try_from(bob).expect("a few"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A path and what else curl is to do. `None`: it was cut off.
fn curl(address: &str, arguments: &[&str]) -> Option<Reply> {
    let (path, rest) = arguments.split_first().expect("a path");
    let what = "\n%{http_code} %header{idempotent-replayed}";
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "60", "-w", what])
        .args(rest)
        .arg(format!("http://{address}{path}"))
        .output()
        .expect("curl");
    let said = String::from_utf8(output.stdout).expect("text");
    let (body, told) = said.rsplit_once('\n').expect("what curl writes");
    let (status, replayed) = told.split_once(' ').expect("a status, and more");
    let status = status.parse().expect("a status");
    (status != 0).then(|| Reply {
        status,
        replayed: replayed == "true",
        body: serde_json::from_str(body).expect("JSON"),
    })
}
