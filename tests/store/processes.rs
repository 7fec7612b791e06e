//! The same over processes: this test's own program, started again, is another one.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use onceflight::store::{Claimed, Settled};

use crate::harness::*;

suite!(shared: of_many_processes_one_leads, a_killed_leader_is_taken_over);

const KEYS: usize = 40;

/// This case again, in a process that does `part`. What it prints after `says:` is its answer.
fn start(world: &World, case: &str, part: &str) -> Child {
    let case = format!("processes::{}::{case}", world.backend.name);
    Command::new(env::current_exe().expect("this program"))
        .args([&*case, "--exact", "--nocapture", "--test-threads=1"])
        .env("ONCEFLIGHT_TEST_PART", part)
        .env("ONCEFLIGHT_TEST_PART_URL", &world.url)
        .env("ONCEFLIGHT_TEST_PART_SCOPE", String::from_utf8_lossy(&world.scope).as_ref())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// Whether this is such a process: its part, and the records of the one that started it.
fn part(world: &World) -> Option<(String, World)> {
    let variable = |name: &str| env::var(name).ok();
    let url = variable("ONCEFLIGHT_TEST_PART_URL")?;
    let scope = variable("ONCEFLIGHT_TEST_PART_SCOPE")?.into_bytes();
    Some((variable("ONCEFLIGHT_TEST_PART")?, World::of(world.backend, url, scope)))
}

fn say(what: &str) {
    // Not by `println`, which the test harness may hold back.
    writeln!(std::io::stdout(), "\nsays: {what}").expect("a pipe");
}

/// The next thing that a process says.
fn hear(from: &mut impl BufRead) -> String {
    let mut lines = from.lines().map(|line| line.expect("text"));
    let line = lines.find_map(|line| line.strip_prefix("says: ").map(String::from));
    line.expect("the process says something")
}

/// Four processes of four threads each claim the same keys in the same order (#18).
fn of_many_processes_one_leads(world: &World) {
    const CASE: &str = "of_many_processes_one_leads";
    if let Some((_, world)) = part(world) {
        let stores = world.others(2);
        say("ready");
        std::io::stdin().read_exact(&mut [0]).expect("the signal to start");
        let led = at_once(4, |number| {
            let claims = (0..KEYS)
                .map(|key| stores[number % 2].claim(&world.key(&key.to_string()), &claim()));
            claims.map(|claimed| matches!(claimed, Claimed::Lead(_))).collect::<Vec<_>>()
        });
        let sum = |key| led.iter().filter(|leads| leads[key]).count().to_string();
        return say(&(0..KEYS).map(sum).collect::<Vec<_>>().join(" "));
    }
    let mut children: Vec<_> = (0..4).map(|_| start(world, CASE, "claim")).collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().expect("a pipe")))
        .collect();
    for output in &mut outputs {
        assert_eq!(hear(output), "ready");
    }
    for child in &mut children {
        child.stdin.take().expect("a pipe").write_all(b"!").expect("it listens");
    }
    let mut leads = vec![0; KEYS];
    for output in &mut outputs {
        for (sum, said) in leads.iter_mut().zip(hear(output).split(' ')) {
            *sum += said.parse::<usize>().expect("a number");
        }
    }
    for mut child in children {
        assert!(child.wait().expect("its end").success());
    }
    assert_eq!(leads, vec![1; KEYS]);
}

/// A leader that is killed leaves a lease that passes, and a key that isn't stuck.
fn a_killed_leader_is_taken_over(world: &World) {
    const CASE: &str = "a_killed_leader_is_taken_over";
    let lease = onceflight::store::Claim { lease: Some(4 * SHORT), ..claim() };
    if let Some((_, world)) = part(world) {
        let led = world.store().lead(&world.key("k"), &lease);
        assert_eq!(world.store().checkpoint(&world.key("k"), led.held, b"half"), Settled::Done);
        say(&led.held.epoch.to_string());
        let _ = std::io::stdin().read_exact(&mut [0]); // until it is killed
        return;
    }
    let mut child = start(world, CASE, "lead");
    let epoch: u64 =
        hear(&mut BufReader::new(child.stdout.take().expect("a pipe"))).parse().expect("an epoch");
    child.kill().expect("it lives");
    child.wait().expect("its end");
    let claim = claim();
    let second = led(&claim, world.store().outwait(&world.key("k"), &claim));
    assert_eq!((second.grant.attempt, second.grant.taken_over), (2, true));
    assert_eq!(second.grant.checkpoint.as_deref(), Some(&b"half"[..]));
    assert!(second.held.epoch > epoch);
}
