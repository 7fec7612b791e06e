//! Faults of all kinds, one after the other and over each other, while clients work and retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{env, thread};

use parking_lot::Mutex;

use crate::client::{Client, Lost, Nodes};
use crate::cluster::{Cluster, NODES};
use crate::front::Manners;
use crate::history::{Asked, Heard, History, LIST_END};
use crate::op::{Op, status};
use crate::protocol::{Answer, Refusal};
use crate::random::Random;
use crate::router::Weather;

const CLIENTS: u64 = 5;

/// How long a client asks before it goes on to its next request, which doesn't wait for this one.
const PATIENCE: Duration = Duration::from_millis(600);

const SESSION: Duration = Duration::from_secs(2);

const KINDS: [&str; 3] = ["sum", "list", "switch"];

/// Then other keys are used, so that each history is short; a sum has no more bits to tell effects by.
const CALLS_A_KEY: u64 = 60;

#[test]
fn whatever_befalls_the_nodes_each_request_has_one_effect() {
    let seed = setting("ONCEFLIGHT_SEED", 1);
    let rounds = setting("ONCEFLIGHT_CHAOS", 3);
    println!("ONCEFLIGHT_SEED={seed} ONCEFLIGHT_CHAOS={rounds}");

    let session = SESSION.as_secs().to_string();
    let flags = ["--snapshot-after", "50", "--session-timeout", &session, "--window", "4"];
    let mut cluster = Cluster::start(seed, &flags);
    let run = Arc::new(Run::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (run, nodes) = (Arc::clone(&run), cluster.nodes());
            let random = Random(seed ^ (number + 1) << 32);
            thread::spawn(move || run.work(&format!("client {number}"), nodes, random))
        })
        .collect();
    let mut faults = Faults::new(seed);
    for round in 1.. {
        faults.round(&mut cluster);
        let missing = never(&cluster, &run);
        assert!(round < rounds + 50, "{missing:?} never happened");
        if round >= rounds && missing.is_none() {
            break;
        }
    }
    run.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let nodes = cluster.settled();
    faults.tally.installed += nodes.iter().map(|it| it.installed).sum::<u64>();

    let history = &run.plan.lock().history;
    println!("{} calls; {:?}; {:?}", history.len(), run.tally, faults.tally);
    println!("{:?}; {:?}", cluster.router.tally(), cluster.front.tally());
    history
        .check()
        .unwrap_or_else(|calls| panic!("ONCEFLIGHT_SEED={seed}: no order explains {calls}"));
}

/// What hasn't happened yet, of what no round is sure to bring.
fn never(cluster: &Cluster, run: &Run) -> Option<&'static str> {
    let (frames, lines, run) = (cluster.router.tally(), cluster.front.tally(), &run.tally);
    let all = [
        ("a frame lost", &frames.lost),
        ("a frame doubled", &frames.doubled),
        ("a frame delayed", &frames.delayed),
        ("a frame overtaken", &frames.overtaken),
        ("a frame cut off", &frames.cut),
        ("a question lost", &lines.deaf),
        ("an answer lost", &lines.mute),
        ("a question doubled", &lines.echo),
        ("an answer", &run.answered),
        ("a request given up", &run.silent),
        ("a session expired", &run.expired),
    ];
    all.into_iter().find(|(_, count)| count.load(Ordering::Relaxed) == 0).map(|(what, _)| what)
}

/// What the clients have in common.
#[derive(Default)]
struct Run {
    plan: Mutex<Plan>,
    over: AtomicBool,
    tally: Tally,
}

/// What was asked and heard, and how many calls of each kind there were.
#[derive(Default)]
struct Plan {
    history: History,
    calls: [u64; KINDS.len()],
}

#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    /// Given up, to be asked about no more.
    silent: AtomicU64,
    expired: AtomicU64,
    fenced: AtomicU64,
    window_full: AtomicU64,
    /// Sessions.
    lives: AtomicU64,
}

impl Run {
    /// One client, until it is over.
    fn work(&self, name: &str, nodes: Nodes, mut random: Random) {
        let mut client = Client::new(nodes, name, PATIENCE);
        self.live(&mut client, &mut random);
        while !self.over.load(Ordering::Relaxed) {
            let (call, key, asked) = self.begin(&mut random);
            let answer = match asked.clone() {
                Asked::Read => client.read(&key),
                Asked::Update(op) => client.update(&key, op),
            };
            match answer {
                Ok(answer) => {
                    self.plan.lock().history.answer(call, heard(&asked, answer));
                    count(&self.tally.answered);
                }
                Err(Lost::Silence) => count(&self.tally.silent),
                Err(Lost::Refused { kind, why }) => {
                    count(match kind {
                        Refusal::Expired => &self.tally.expired,
                        Refusal::Fenced => &self.tally.fenced,
                        Refusal::WindowFull => &self.tally.window_full,
                        _ => panic!("{name} keeps to the rules: {kind:?}, {why}"),
                    });
                    self.live(&mut client, &mut random);
                }
            }
            if random.percent(2) {
                // What it asked before may still be under way: it must have no effect from now on.
                self.live(&mut client, &mut random);
            } else if random.one_in(200) {
                // Longer than its session lasts, if nothing else keeps that.
                thread::sleep(SESSION + PATIENCE);
            }
        }
    }

    /// Another session, however long it takes.
    fn live(&self, client: &mut Client, random: &mut Random) {
        count(&self.tally.lives);
        let nonce = random.next().to_string();
        while let Err(lost) = client.register(&nonce) {
            assert!(matches!(lost, Lost::Silence), "{lost}");
        }
    }

    /// What to ask next, and of which key; its call has begun.
    fn begin(&self, random: &mut Random) -> (usize, String, Asked) {
        let mut plan = self.plan.lock();
        let kind = random.index(KINDS.len());
        let number = plan.calls[kind];
        plan.calls[kind] += 1;
        let (generation, number) = (number / CALLS_A_KEY, number % CALLS_A_KEY);
        let op = match KINDS[kind] {
            // Each effect shows in all later answers, and twice the same would too.
            "sum" => Op::Add(1 << number),
            "list" => Op::Append(format!("{number}{LIST_END}")),
            _ => {
                let [from, to] = [(); 2].map(|()| ["red", "green", "blue"][random.index(3)].into());
                if random.one_in(4) { Op::Write(to) } else { Op::Cas { from, to } }
            }
        };
        let asked = if random.percent(15) { Asked::Read } else { Asked::Update(op) };
        let key = format!("{} {generation}", KINDS[kind]);
        (plan.history.begin(&key, asked.clone()), key, asked)
    }
}

fn heard(asked: &Asked, answer: Answer) -> Heard {
    match (asked, answer) {
        (Asked::Read, Answer::Done { value }) => Heard::Value(value),
        (Asked::Update(_), Answer::Done { value }) => {
            Heard::Updated(status::OK, value.unwrap_or_default())
        }
        (Asked::Update(_), Answer::Failed { code }) => Heard::Updated(code, String::new()),
        (asked, answer) => panic!("{answer:?} to {asked:?}"),
    }
}

/// One fault after the other, in weather of any kind.
struct Faults {
    random: Random,
    tally: Happened,
}

#[derive(Clone, Copy)]
enum Fault {
    Nothing,
    /// A node hears and is heard by nobody.
    Isolate,
    /// A node is heard and doesn't hear.
    Deafen,
    Kill,
    KillLeader,
    KillAll,
    /// The leader stands still, and doesn't know that it did.
    StopLeader,
}

#[derive(Debug, Default)]
struct Happened {
    kills: u32,
    stops: u32,
    /// Snapshots that came from a leader.
    installed: u64,
}

impl Faults {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed), tally: Happened::default() }
    }

    /// All of them, in any order; and then it is calm.
    fn round(&mut self, cluster: &mut Cluster) {
        use Fault::{Deafen, Isolate, Kill, KillAll, KillLeader, Nothing, StopLeader};
        let mut faults = vec![Nothing, Isolate, Deafen, Kill, KillLeader, KillAll, StopLeader];
        while !faults.is_empty() {
            let fault = faults.swap_remove(self.random.index(faults.len()));
            self.set_weather(cluster);
            self.one(fault, cluster);
            // The next fault may come before this one is overcome.
            cluster.router.cut([]);
            for node in NODES {
                if !cluster.runs(node) {
                    cluster.run(node);
                }
            }
            self.pause();
        }
        cluster.router.set(Weather::default());
        cluster.front.set(Manners::default());
    }

    fn one(&mut self, fault: Fault, cluster: &mut Cluster) {
        let node = NODES[self.random.index(NODES.len())];
        match fault {
            Fault::Nothing => {}
            Fault::Isolate => {
                let others = NODES.into_iter().filter(|other| *other != node);
                cluster.router.cut(others.flat_map(|other| [(other, node), (node, other)]));
            }
            Fault::Deafen => cluster.router.cut(NODES.map(|other| (other, node))),
            Fault::Kill => self.kill(cluster, node),
            Fault::KillLeader => {
                let leader = cluster.leader_of(&NODES);
                self.kill(cluster, leader);
            }
            Fault::KillAll => {
                for node in NODES {
                    self.kill(cluster, node);
                }
            }
            Fault::StopLeader => {
                let leader = cluster.leader_of(&NODES);
                cluster.signal(leader, "STOP");
                self.pause();
                cluster.signal(leader, "CONT");
                self.tally.stops += 1;
            }
        }
        self.pause();
    }

    fn kill(&mut self, cluster: &mut Cluster, node: u64) {
        self.tally.installed += cluster.status(node).map_or(0, |it| it.installed);
        self.tally.kills += 1;
        cluster.kill(node);
    }

    fn set_weather(&mut self, cluster: &Cluster) {
        let random = &mut self.random;
        cluster.router.set(match random.index(3) {
            0 => Weather::default(),
            1 => Weather { lost: 2, doubled: 5, delayed: 30, delay_ms: 20 },
            _ => Weather { lost: 15, doubled: 15, delayed: 50, delay_ms: 80 },
        });
        cluster.front.set(match random.index(2) {
            0 => Manners { deaf: 2, mute: 2, echo: 5 },
            _ => Manners { deaf: 5, mute: 15, echo: 20 },
        });
    }

    /// How long a fault lasts, and how long there is none.
    fn pause(&mut self) {
        thread::sleep(Duration::from_millis(self.random.within(50..800)));
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
