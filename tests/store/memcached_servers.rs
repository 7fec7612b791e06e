//! Servers of memcached's that are a test's own: to restart, freeze and write to by hand.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use onceflight::ErrorKind;
use onceflight::store::{self, Claim, Claimed, RecordKey, Release, Response, Settled};

use crate::harness::*;
use crate::proxy::listen;

/// Ends with the test.
struct Server {
    child: Child,
    port: u16,
    options: &'static [&'static str],
}

impl Server {
    fn start() -> Self {
        Self::start_with(&["-m", "64"])
    }

    fn start_with(options: &'static [&'static str]) -> Self {
        // Somebody else may be quicker to take the port.
        eventually("a server", || {
            let port = listen().local_addr().expect("its address").port();
            let mut server = Self { child: launch(port, options), port, options };
            server.answers().then_some(server)
        })
    }

    fn store(&self) -> Client {
        let url = format!("memcached://127.0.0.1:{}", self.port);
        Client(store::open(&url).expect("a store"))
    }

    fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("its end");
        self.child = launch(self.port, self.options);
        assert!(self.answers());
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
    }

    /// Waits until it does, or has ended.
    fn answers(&mut self) -> bool {
        eventually("an answer", || match self.child.try_wait().expect("a child") {
            Some(_) => Some(false),
            None => TcpStream::connect(("127.0.0.1", self.port)).ok().map(|_| true),
        })
    }

    /// Sends a command, and gives the first line of the answer and what else there is of it.
    fn ask(&self, command: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.write_all(&[command, b"\r\nquit\r\n"].concat()).expect("it listens");
        let mut answer = BufReader::new(stream);
        let (mut line, mut rest) = (String::new(), Vec::new());
        answer.read_line(&mut line).expect("a line");
        answer.read_to_end(&mut rest).expect("an end");
        (line, rest)
    }

    /// The item of a record.
    fn item(&self, key: &RecordKey) -> Vec<u8> {
        let (line, mut rest) = self.ask(format!("get onceflight:{}", key.id()).as_bytes());
        let len = line.trim_end().rsplit(' ').next().expect("a word");
        rest.truncate(len.parse().unwrap_or_else(|_| panic!("no item: {line}")));
        rest
    }

    fn write(&self, key: &RecordKey, item: &[u8]) {
        let command = format!("set onceflight:{} 0 0 {}\r\n", key.id(), item.len());
        assert_eq!(self.ask(&[command.as_bytes(), item].concat()).0, "STORED\r\n");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, options: &[&str]) -> Child {
    Command::new("memcached")
        .args(["-l", "127.0.0.1", "-p", &port.to_string(), "-u", "nobody"])
        .args(options)
        .spawn()
        .expect("memcached")
}

fn key(name: &str) -> RecordKey {
    RecordKey::new("scope", name).expect("a short scope")
}

/// Its records are lost, and that is all: the next call has a new connection, and epochs grow.
#[test]
fn a_restarted_server_is_asked_again() {
    let mut server = Server::start();
    let (store, key) = (server.store(), key("k"));
    let mut last = 0;
    for _ in 0..2 {
        let led = store.lead(&key, &claim());
        assert!(led.held.epoch > last);
        last = led.held.epoch;
        server.restart();
        assert!(store.read(&key).is_none());
        assert_eq!(store.complete(&key, led.held, b"lost", LONG), Settled::Stale);
    }
}

/// A server that restarts counts versions from the beginning: one seen before isn't that one again.
#[test]
fn a_lease_of_before_a_restart_is_not_taken_for_a_later_one() {
    let mut server = Server::start();
    let (store, key) = (server.store(), key("k"));
    let seen_for_the_first_time = |server: &Server| {
        let led = server.store().lead(&key, &claim());
        assert_eq!(in_progress(store.claim(&key, &claim())), (led.held.epoch, Some(LONG)));
    };
    seen_for_the_first_time(&server);
    server.restart();
    seen_for_the_first_time(&server);
}

/// So a lead's settle, which begins from what its claim wrote, must not: the number of that version may
/// be another lead's by now.
#[test]
fn what_was_written_before_a_restart_is_looked_at_again() {
    let mut server = Server::start();
    let (early, key) = (server.store(), key("k"));
    let lost = early.lead(&key, &claim());
    server.restart();
    let late = server.store();
    let led = late.lead(&key, &claim());
    assert!(early.read(&key).is_some(), "and has a new connection");
    assert_eq!(early.complete(&key, lost.held, b"lost", LONG), Settled::Stale);
    assert_eq!(late.complete(&key, led.held, b"done", LONG), Settled::Done);
}

/// A claim looks and writes at once, and a settle knows what its claim wrote; but for what others have
/// written since.
#[test]
fn a_lead_is_looked_at_once() {
    let server = Server::start();
    let (store, other) = (server.store(), server.store());
    let looks = || {
        let (_, stats) = server.ask(b"stats");
        let stats = String::from_utf8(stats).expect("text");
        let looks = stats.lines().find_map(|line| line.strip_prefix("STAT cmd_get "));
        looks.expect("a count").parse::<u64>().expect("a number")
    };
    for marked in [false, true] {
        let (key, before) = (key(&format!("marked: {marked}")), looks());
        let led = store.lead(&key, &claim());
        assert_eq!(looks(), before + 1);
        if marked {
            in_progress(other.claim(&key, &Claim { watch: true, ..claim() }));
        }
        let before = looks();
        assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
        assert_eq!(looks(), before + u64::from(marked));
        assert_eq!(completed(other.claim(&key, &claim())).data(), b"done");
    }
}

/// A frozen server takes a claim that was given up once it thaws, and perhaps after the withdrawal.
#[test]
fn a_claim_that_comes_after_its_withdrawal_fails() {
    let server = Server::start();
    let (store, key) = (server.store(), key("k"));
    store.withdraw(&key, claim().token);
    let late = format!("add onceflight:{} 0 0 1\r\nx", key.id());
    assert_eq!(server.ask(late.as_bytes()).0, "NOT_STORED\r\n");
    assert_eq!(store.lead(&key, &claim()).grant.attempt, 1);
}

/// A token may be granted anew, where what it led is gone: what its first lead wrote says nothing of that.
#[test]
fn what_an_earlier_lead_of_a_token_wrote_is_not_this_ones() {
    let server = Server::start();
    let (store, other, key, claim) = (server.store(), server.store(), key("k"), claim());
    store.lead(&key, &claim);
    assert!(other.evict(&key));
    let led = other.lead(&key, &claim);
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
}

/// Nor does it say anything of its successor, whom others of this process may be watching for long.
#[test]
fn a_late_settle_begins_no_lease_anew() {
    let server = Server::start();
    let (store, other, key) = (server.store(), server.store(), key("k"));
    let late = store.lead(&key, &brief());
    let Claimed::Lead(_) = other.outwait(&key, &claim()) else { panic!("no successor") };
    let left = || in_progress(store.claim(&key, &claim())).1.expect("a lease");
    let before = eventually("that some of it has passed", || {
        Some(left()).filter(|left| *left < LONG.saturating_sub(SHORT))
    });
    assert_eq!(store.complete(&key, late.held, b"late", LONG), Settled::Stale);
    assert!(left() <= before);
}

#[test]
fn a_frozen_server_is_an_error_at_the_deadline() {
    let server = Server::start();
    let (store, key) = (server.store(), key("k"));
    let led = store.lead(&key, &claim());
    server.signal("-STOP");
    let ask = || store.0.read(&key, Instant::now() + SHORT);
    eventually("that all its threads stand still", || ask().err());
    for _ in 0..3 {
        let deadline = Instant::now() + SHORT;
        failed(store.0.renew(&key, led.held, None, deadline));
        assert!(deadline.elapsed() < PATIENCE / 2);
    }
    server.signal("-CONT");
    assert_eq!(store.complete(&key, led.held, b"done", LONG), Settled::Done);
}

/// A lease passes for who has seen it stand for so long, and for nobody else.
#[test]
fn a_lease_passes_by_each_observers_own_clock() {
    let server = Server::start();
    let (early, key) = (server.store(), key("k"));
    let hold = || Claim { take_over: false, ..claim() };
    let led = early.lead(&key, &brief());
    unknown(&early.outwait(&key, &hold()));
    let late = server.store();
    assert_eq!(in_progress(late.claim(&key, &hold())), (led.held.epoch, Some(SHORT)));
    unknown(&late.outwait(&key, &hold()));
    // A renewal, though the lease had passed, begins it anew for all.
    assert_eq!(late.renew(&key, led.held, Some(LONG)), Settled::Done);
    assert_eq!(in_progress(early.claim(&key, &hold())), (led.held.epoch, Some(LONG)));
}

/// What can't be read is an error that names the record (#39); an operator may evict it.
#[test]
fn an_item_that_is_no_record_is_an_error() {
    let server = Server::start();
    let (store, key) = (server.store(), key("k"));
    let led = store.lead(&key, &claim());
    let whole = server.item(&key);
    let mut changed = whole.clone();
    changed[40] ^= 1;
    let mut later = whole.clone();
    later[0] = 2;
    let flawed: [(&[u8], &str); 5] = [
        (&whole[..whole.len() - 1], "corrupt"),
        (&changed, "corrupt"),
        (b"", "corrupt"),
        (b"\0 another program's", "corrupt"),
        (&later, "format 2"),
    ];
    for (item, what) in flawed {
        server.write(&key, item);
        let mut says = String::new();
        let mut note = |error: onceflight::Error| {
            assert_eq!(error.kind(), ErrorKind::Store);
            writeln!(says, "{error}").expect("memory");
        };
        let (store, at) = (&store.0, soon());
        note(store.claim(&key, &claim(), at).expect_err("a claim"));
        note(store.read(&key, at).expect_err("a look"));
        note(store.renew(&key, led.held, None, at).expect_err("a renewal"));
        note(store.checkpoint(&key, led.held, b"", at).expect_err("a checkpoint"));
        let done = Response::new(0, b"");
        note(store.complete(&key, led.held, &done, LONG, at).expect_err("a completion"));
        note(store.release(&key, led.held, Release::Abandon, at).expect_err("a release"));
        note(store.withdraw(&key, led.held.token, at).expect_err("a withdrawal"));
        note(store.forget(&key, at).expect_err("to forget"));
        let id = key.id().to_string();
        assert!(says.lines().all(|line| line.contains(what) && line.contains(&id)), "{says}");
        assert_eq!(server.item(&key), item, "nothing was written over it");
    }
    assert!(store.evict(&key));
    assert!(store.lead(&key, &claim()).held.epoch > led.held.epoch);
}

/// Keys are compared whole, and not by their hash alone.
#[test]
fn a_record_of_another_key_is_an_error() {
    let server = Server::start();
    let (store, one, two) = (server.store(), key("one"), key("two"));
    let led = store.lead(&one, &claim());
    server.write(&two, &server.item(&one));
    failed(store.0.claim(&two, &claim(), soon()));
    failed(store.0.complete(&two, led.held, &Response::new(0, b""), LONG, soon()));
    assert_eq!(store.complete(&one, led.held, b"done", LONG), Settled::Done);
}

/// What a server has no room for is refused, and what was there stays.
#[test]
fn a_record_that_grows_too_large_stays_as_it_was() {
    let server = Server::start();
    let (store, key) = (server.store(), key("k"));
    let led = store.lead(&key, &claim());
    let before = server.item(&key);
    let large = vec![0; 2 << 20];
    let at = Instant::now() + Duration::from_secs(20);
    let refused = store.0.checkpoint(&key, led.held, &large, at).expect_err("it is too large");
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    assert_eq!(server.item(&key), before);
    let long = RecordKey::new("scope", &large).expect("a short scope");
    let refused = store.0.claim(&long, &claim(), at).expect_err("it is too large");
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
}

/// One that may evict nothing (`-M`) refuses an `add` before it looks whether there is an item: what is new
/// isn't led, and what it has is answered all the same.
#[test]
fn a_full_server_leads_nobody_and_still_has_what_it_has() {
    let server = Server::start_with(&["-M", "-m", "2"]);
    let (store, other) = (server.store(), server.store());
    let large = |number: u8| RecordKey::new("scope", vec![number; 300 << 10]).expect("short");
    let (done, held) = (large(0), large(1));
    let led = store.lead(&done, &claim());
    assert_eq!(store.complete(&done, led.held, b"done", LONG), Settled::Done);
    let led = store.lead(&held, &claim());
    let refused = (2..).find_map(|new| store.0.claim(&large(new), &claim(), soon()).err());
    let refused = refused.expect("two megabytes have an end");
    assert!(refused.to_string().contains("out of memory"), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Store);

    for store in [&store, &other] {
        let [done, held] = [&done, &held].map(|key| store.0.claim(key, &claim(), soon()));
        assert!(matches!(&done, Ok(Claimed::Completed(it)) if it.data() == b"done"), "{done:?}");
        assert!(matches!(held, Ok(Claimed::InProgress { epoch, .. }) if epoch == led.held.epoch));
    }
    failed(store.0.complete(&held, led.held, &Response::new(200, b"held"), LONG, soon()));
    assert_eq!(in_progress(other.claim(&held, &claim())).0, led.held.epoch);

    assert_eq!(server.ask(b"cache_memlimit 64").0, "OK\r\n");
    assert_eq!(store.complete(&held, led.held, b"held", LONG), Settled::Done);
    assert_eq!(completed(other.claim(&held, &claim())).data(), b"held");
}
