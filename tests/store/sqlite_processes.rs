//! What SQLite does to processes that are forked or killed. Each case forks or starts a process of
//! its own, started by this same program, so that no other test's thread is inside SQLite meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;
use std::{env, fs};

use onceflight::ErrorKind;
use onceflight::store::{Claimed, RecordKey, Response, SqliteStore, Store};

use crate::harness::*;
use crate::sqlite_file::{connect, path};

const PART: &str = "ONCEFLIGHT_TEST_SQLITE_PART";

/// This case again in another process, on that file.
fn start(path: &Path, case: &str) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args([&*format!("sqlite_processes::{case}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// In that process: the records of the one that started it.
fn part() -> Option<World> {
    let path = env::var(PART).ok()?;
    Some(World::of(&SQLITE, format!("sqlite:{path}"), b"scope".to_vec()))
}

/// Runs `case` in a process of its own, which must succeed.
fn succeed(case: &str) {
    let world = World::new(&SQLITE);
    let mut child = start(path(&world).as_ref(), case);
    let mut said = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("its end").success(), "{said}");
}

fn say(what: &str) {
    // Not by `println`, which the test harness may hold back.
    writeln!(std::io::stdout(), "\nsays: {what}").expect("a pipe");
}

/// The one thing that a process says, and what it may still print to.
fn hear(child: &mut Child) -> (String, impl BufRead + use<>) {
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = output.by_ref().lines().map(|line| line.expect("text"));
    let said = lines.find_map(|line| line.strip_prefix("says: ").map(String::from));
    (said.expect("the process says something"), output)
}

/// Forks; the child ends without running anything of the parent's, and it must have been well.
fn fork(child: impl FnOnce() -> bool) {
    assert!(fork_and_ask(child), "not as it should be in the child");
}

/// What `child` says, or false if it panics.
fn fork_and_ask(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child makes calls of the library, which are what is tested, and `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let went_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the child, whose other threads don't exist.
        unsafe { libc::_exit(if matches!(went_well, Ok(true)) { 42 } else { 1 }) };
    }
    assert!(pid > 0);
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    assert_eq!(pid, unsafe { libc::waitpid(pid, &raw mut status, 0) });
    assert!(libc::WIFEXITED(status), "it died: {status}");
    libc::WEXITSTATUS(status) == 42
}

/// How many this process has: none of what a child inherits may be closed.
fn open_files() -> usize {
    // Where it can't be told, nothing is.
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn forked<T>(result: Result<T, onceflight::Error>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::Forked)
}

#[test]
fn a_child_can_use_no_file_that_was_open() {
    let Some(world) = part() else { return succeed("a_child_can_use_no_file_that_was_open") };
    let mut news = world.store().listen();
    let key = world.key("k");
    let held = world.store().lead(&key, &claim()).held;
    let elsewhere = format!("{}.2", world.url);
    fork(|| {
        let store = &world.store().0;
        let tells = SqliteStore::open(&world.url).expect_err("it was open").to_string();
        let response = Response::new(200, b"");
        let refused = [
            forked(store.claim(&key, &claim(), soon())),
            forked(store.complete(&key, held, &response, LONG, soon())),
            forked(store.release(&key, held, CANCEL, soon())),
            forked(store.read(&key, soon())),
            forked(store.purge(1, soon())),
            forked(store.listen(soon())),
            forked(news.wait(soon(), &mut |_| ())),
            forked(SqliteStore::open(&world.url)),
            tells.contains("was open when the parent process forked"),
        ];
        // Another file is the child's own, and its child's neither.
        let own = SqliteStore::open(&elsewhere).expect("another file");
        let leads = own.claim(&key, &claim(), soon()).is_ok();
        fork(|| forked(SqliteStore::open(&elsewhere)) && forked(SqliteStore::open(&world.url)));
        drop(own);
        let again = SqliteStore::open(&elsewhere).is_ok();
        refused == [true; 9] && leads && again
    });
    // What a child inherits is dropped without a trace, and the parent loses nothing by it.
    let second = SqliteStore::open(&elsewhere).expect("another file");
    let mut inherited = Some((second.listen(soon()).expect("news"), second));
    fork(|| {
        let before = open_files();
        drop(inherited.take());
        before == open_files() && forked(SqliteStore::open(&world.url))
    });
    drop(inherited);
    let _ = world.store().complete(&key, held, b"response", LONG);
    completed(world.store().claim(&key, &claim()));
}

/// The fork that nobody can repair: it comes while another thread is inside SQLite.
#[test]
fn a_child_of_a_process_inside_sqlite_opens_nothing() {
    let Some(world) = part() else {
        return succeed("a_child_of_a_process_inside_sqlite_opens_nothing");
    };
    let other = connect(&world);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let elsewhere = format!("{}.2", world.url);
    thread::scope(|scope| {
        let waits = scope.spawn(|| world.store().lead(&world.key("k"), &claim()));
        eventually("a child that is refused", || {
            // Before the thread has come so far, a child may open it.
            fork_and_ask(|| forked(SqliteStore::open(&elsewhere))).then_some(())
        });
        other.execute_batch("COMMIT").expect("done");
        waits.join().expect("a lead");
    });
    fork(|| SqliteStore::open(&elsewhere).is_ok());
}

/// Processes start at once on a file that isn't there: all can use it, and one leads.
#[test]
fn many_may_make_the_tables_at_once() {
    const CASE: &str = "many_may_make_the_tables_at_once";
    if let Ok(path) = env::var(PART) {
        let _ = std::io::stdin().read_exact(&mut [0]); // until all have started
        let store = SqliteStore::open(&format!("sqlite:{path}")).expect("a store");
        let key = RecordKey::new("scope", "key").expect("a key");
        let claimed = store.claim(&key, &claim(), soon()).expect("an answer");
        return say(if matches!(claimed, Claimed::Lead(_)) { "leads" } else { "follows" });
    }
    for _ in 0..4 {
        let path = env::temp_dir().join(unique());
        let mut children: Vec<_> = (0..6).map(|_| start(&path, CASE)).collect();
        for child in &mut children {
            child.stdin.take().expect("a pipe").write_all(b"!").expect("it listens");
        }
        let (mut said, _outputs): (Vec<_>, Vec<_>) = children.iter_mut().map(hear).unzip();
        said.sort();
        assert_eq!(said, ["follows", "follows", "follows", "follows", "follows", "leads"]);
        assert!(children.iter_mut().all(|child| child.wait().expect("its end").success()));
        fs::remove_file(path).expect("it is there");
    }
}

/// A process is killed in the middle of a transaction: nothing of it stays, nobody waits for it.
#[test]
fn a_writer_that_is_killed_leaves_no_trace() {
    const CASE: &str = "a_writer_that_is_killed_leaves_no_trace";
    if let Some(world) = part() {
        let other = connect(&world);
        other
            .execute_batch("BEGIN IMMEDIATE; UPDATE onceflight_records SET scope = x'00'")
            .expect("the lock");
        say("holds");
        let _ = std::io::stdin().read_exact(&mut [0]); // until it is killed
        return;
    }
    let world = World::new(&SQLITE);
    let (key, other) = (world.key("k"), world.key("l"));
    let held = world.store().lead(&key, &claim()).held;
    let mut child = start(path(&world).as_ref(), CASE);
    let (said, _output) = hear(&mut child);
    assert_eq!(said, "holds");
    // SAFETY: stops the process that was just started.
    assert_eq!(0, unsafe { libc::kill(child.id().cast_signed(), libc::SIGSTOP) });
    let deadline = Instant::now() + SHORT;
    failed(world.store().0.claim(&other, &claim(), deadline));
    assert!(deadline.elapsed() < PATIENCE / 4, "{:?} late", deadline.elapsed());
    in_progress(world.store().claim(&key, &claim()));
    child.kill().expect("it lives");
    child.wait().expect("its end");
    world.store().lead(&other, &claim());
    let _ = world.store().complete(&key, held, b"response", LONG);
    completed(world.store().claim(&key, &claim()));
}
