//! A cluster, its network and its clients in virtual time. One thread, one queue of events, and one
//! source of random numbers: a seed gives the same run again, to the last byte.

use super::client::{Answer, Client, Request, Tag};
use super::history::History;
use super::kv::{Command, Reply};
use super::node::{Options, Outcome, Output, Replica};
use super::packet::{Body, Packet};
use super::plan::Plan;
use super::platter::Platter;
use super::random::Random;
use super::watch::{Clock, Ledger, Table, Watched};
use onceflight::session::Applied;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::{fmt, io};

type Node<T> = Replica<Watched<T>, Platter>;

/// What had happened in a run, and how often.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// What must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two replicas differ.
    Diverged(String),
    /// No single store could have said this.
    NotLinearizable(String),
    /// A client was told what no client that keeps the rules may be told.
    Misled(String),
    /// All faults were over, and yet the cluster didn't come to rest.
    Stuck,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged(what) => write!(f, "two replicas differ: {what}"),
            Self::NotLinearizable(what) => write!(f, "not linearizable: {what}"),
            Self::Misled(what) => write!(f, "a client was misled: {what}"),
            Self::Stuck => f.write_str("no rest though all faults are over"),
        }
    }
}

/// What the sessions of a node are that has none yet.
type New<T> = dyn Fn(&Plan, &Clock) -> T;

/// Runs a seed's cluster to its end.
pub fn run<T: Table>(
    seed: u64,
    sessions: impl Fn(&Plan, &Clock) -> T + 'static,
) -> (Counts, Result<(), Violation>) {
    let mut random = Random(seed);
    let plan = Plan::new(&mut random);
    let mut world = World::new(plan, random, Box::new(sessions));
    let end = world.run();
    (world.counts(), end)
}

struct World<T: Table> {
    sessions: Box<New<T>>,
    plan: Plan,
    random: Random,
    now: u64,
    queue: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    hosts: BTreeMap<u64, Host<T>>,
    clients: Vec<Client>,
    /// Who waits for which proposal. Tickets of nodes that died stay here: nobody will answer.
    tickets: BTreeMap<u64, Tag>,
    next_ticket: u64,
    ledger: Rc<RefCell<Ledger>>,
    history: History,
    misled: Option<String>,
    /// Nodes hear each other within one group.
    groups: BTreeMap<u64, u8>,
    /// A node that is heard and hears nothing.
    deaf: Option<u64>,
    calm: bool,
    counts: Counts,
}

/// A node's machine.
struct Host<T: Table> {
    node: Option<Node<T>>,
    disk: Platter,
    clock: Clock,
    /// How far its clock is ahead of virtual time.
    ahead: u64,
    /// Timers that were set before this one are void.
    timer: u64,
}

struct Due {
    at: u64,
    /// Of those at one time, the first that was scheduled.
    order: u64,
    event: Event,
}

enum Event {
    Packet {
        to: u64,
        packet: Packet<Command>,
    },
    Timer {
        node: u64,
        timer: u64,
    },
    Request {
        to: u64,
        request: Request,
    },
    Answer {
        to: Tag,
        answer: Answer,
    },
    Act {
        client: usize,
    },
    /// Every leader has idle sessions expire.
    Expire,
    Trouble,
    Restart {
        node: u64,
    },
}

/// Troubles end then.
const CALM_AT_MS: u64 = 12_000;
/// And some time later, at the latest, all must be well.
const STUCK_AT_MS: u64 = 60_000;
const HEARTBEAT_MS: u64 = 60;

impl<T: Table> World<T> {
    fn new(plan: Plan, mut random: Random, sessions: Box<New<T>>) -> Self {
        let host = |ahead| Host {
            node: None,
            disk: Platter::default(),
            clock: Clock::default(),
            ahead,
            timer: 0,
        };
        let hosts = (1..=plan.nodes).map(|id| (id, host(random.within(0..2_000)))).collect();
        let clients = (0..plan.clients).map(|me| Client::new(me, &plan)).collect();
        let mut world = Self {
            sessions,
            groups: (1..=plan.nodes).map(|id| (id, 0)).collect(),
            plan,
            random,
            now: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
            hosts,
            clients,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            ledger: Rc::default(),
            history: History::default(),
            misled: None,
            deaf: None,
            calm: false,
            counts: Counts::default(),
        };
        for node in 1..=world.plan.nodes {
            world.start(node);
        }
        for client in 0..world.plan.clients {
            world.schedule(client as u64, Event::Act { client });
        }
        world.schedule(1_000, Event::Trouble);
        world.schedule(500, Event::Expire);
        world
    }

    fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(due)) = self.queue.pop() {
            self.now = due.at;
            self.happen(due.event);
            if let Some(difference) = self.ledger.borrow_mut().difference.take() {
                return Err(Violation::Diverged(difference));
            }
            if self.calm && self.is_at_rest() {
                break;
            }
            if self.now > STUCK_AT_MS {
                return Err(Violation::Stuck);
            }
        }
        self.history.check().map_err(Violation::NotLinearizable)?;
        self.misled.take().map_or(Ok(()), |what| Err(Violation::Misled(what)))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Packet { to, packet } => self.receive(to, packet),
            Event::Timer { node, timer } => {
                if self.hosts[&node].timer == timer {
                    self.drive(node, Node::timeout);
                }
            }
            Event::Request { to, request } => self.ask(to, request),
            Event::Answer { to, answer } => {
                let Self { clients, now, plan, random, history, .. } = self;
                let heard = clients[to.client].hear(*now, to, answer, random, plan, history);
                if let Err(what) = heard {
                    self.misled.get_or_insert(what);
                }
            }
            Event::Act { client } => {
                let Self { clients, now, plan, random, history, .. } = self;
                for (to, request) in clients[client].act(*now, plan, random, history) {
                    self.carry(|| Event::Request { to, request: request.clone() });
                }
                let pause = self.random.within(5..60);
                self.schedule(pause, Event::Act { client });
            }
            Event::Expire => {
                for node in 1..=self.plan.nodes {
                    self.propose(node, None, Command::Expire);
                }
                self.schedule(500, Event::Expire);
            }
            Event::Trouble if self.now < CALM_AT_MS => self.trouble(),
            Event::Trouble => self.calm_down(),
            Event::Restart { node } => {
                if self.hosts[&node].node.is_none() {
                    self.start(node);
                }
            }
        }
    }

    fn receive(&mut self, to: u64, packet: Packet<Command>) {
        if self.groups[&packet.from] != self.groups[&to] || self.deaf == Some(to) {
            return;
        }
        let installs = matches!(packet.body, Body::Install(_));
        let applied = |world: &Self| world.hosts[&to].node.as_ref().map_or(u64::MAX, Node::applied);
        let before = applied(self);
        self.drive(to, |node| node.receive(packet));
        if installs && before < applied(self) {
            self.counts.note("snapshots installed");
        }
    }

    /// A client's request arrives. Half of the time, the node looks into its own table first.
    fn ask(&mut self, to: u64, request: Request) {
        let Some(node) = &self.hosts[&to].node else { return };
        if let Command::Update(update) = &request.command
            && self.random.one_in(2)
            && let Some(known) = node.machine().peek(update)
        {
            self.counts.note("answered without the log");
            let updated = |response| Reply::Updated(Applied { response, replayed: true });
            let reply = known.map(updated);
            return self.answer(request.from, &Outcome::Done(reply));
        }
        self.propose(to, Some(request.from), request.command);
    }

    fn propose(&mut self, node: u64, tag: Option<Tag>, command: Command) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        if let Some(tag) = tag {
            self.tickets.insert(ticket, tag);
        }
        let now = self.now + self.hosts[&node].ahead;
        self.drive(node, |node| node.propose([(ticket, now, command)]));
    }

    fn answer(&mut self, to: Tag, answer: &Answer) {
        self.carry(|| Event::Answer { to, answer: answer.clone() });
    }

    /// Has a node do something, and does what it says. If its disk fails it, it is dead.
    fn drive(&mut self, id: u64, act: impl FnOnce(&mut Node<T>) -> io::Result<()>) {
        let host = self.hosts.get_mut(&id).expect("a node of the cluster");
        host.clock.set(self.now + host.ahead);
        let Some(node) = &mut host.node else { return };
        if act(node).is_err() {
            return self.stop(id);
        }
        for output in node.outputs() {
            match output {
                Output::Send { to, packet } => {
                    self.carry(|| Event::Packet { to, packet: packet.clone() });
                }
                Output::Timer { leads } => self.set_timer(id, leads),
                Output::Reply { ticket, outcome } => {
                    if let Some(tag) = self.tickets.remove(&ticket) {
                        self.answer(tag, &outcome);
                    }
                }
                Output::SteppedDown => self.counts.note("leaders deposed"),
            }
        }
    }

    fn set_timer(&mut self, id: u64, leads: bool) {
        let host = self.hosts.get_mut(&id).expect("a node of the cluster");
        host.timer += 1;
        let timer = host.timer;
        let after = if leads {
            HEARTBEAT_MS
        } else {
            self.random.within(5 * HEARTBEAT_MS..10 * HEARTBEAT_MS)
        };
        self.schedule(after, Event::Timer { node: id, timer });
    }

    /// Starts a node with what its disk remembers.
    fn start(&mut self, id: u64) {
        let voters: Vec<_> = self.hosts.keys().copied().collect();
        let host = self.hosts.get_mut(&id).expect("a node of the cluster");
        let machine = Watched::new((self.sessions)(&self.plan, &host.clock), &self.ledger);
        let options = Options { compact_after: self.plan.compact_after };
        match Node::open(id, &voters, machine, host.disk.clone(), options) {
            Ok(node) => host.node = Some(node),
            // It died again, as it cut off what was torn.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.stop(id),
            Err(error) => panic!("what a crash leaves can be read: {error}"),
        }
        self.drive(id, |_| Ok(()));
    }

    fn stop(&mut self, id: u64) {
        let host = self.hosts.get_mut(&id).expect("a node of the cluster");
        host.node = None;
        host.timer += 1;
        host.disk.rest();
        self.counts.note("crashes");
        // Back before anybody has noticed, or not.
        let most = if self.random.one_in(2) { 30 } else { 2_000 };
        let after = self.random.within(1..most);
        self.schedule(after, Event::Restart { node: id });
    }

    fn trouble(&mut self) {
        let anyone = 1 + self.random.within(0..self.plan.nodes);
        let leader =
            self.hosts.iter().find(|(_, host)| host.node.as_ref().is_some_and(Node::leads));
        // Leaders are worth twice the trouble.
        let whom = leader.map(|(&id, _)| id).filter(|_| self.random.one_in(2)).unwrap_or(anyone);
        match self.random.within(0..7) {
            0 => self.stop(whom),
            1 => {
                let how = Random(self.random.next());
                self.hosts[&whom].disk.die(how);
            }
            2 => {
                self.groups.insert(whom, 1);
                self.counts.note("isolated");
            }
            3 => {
                for group in self.groups.values_mut() {
                    *group = u8::from(self.random.one_in(2));
                }
                self.counts.note("parted");
            }
            4 => {
                self.deaf = Some(whom);
                self.counts.note("deafened");
            }
            5 => {
                let ahead = self.random.within(0..3_000);
                self.hosts.get_mut(&whom).expect("a node of the cluster").ahead = ahead;
                self.counts.note("clocks set");
            }
            _ => self.heal(),
        }
        let pause = self.random.within(100..1_200);
        self.schedule(pause, Event::Trouble);
    }

    fn heal(&mut self) {
        self.groups.values_mut().for_each(|group| *group = 0);
        self.deaf = None;
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.heal();
        self.hosts.values().for_each(|host| host.disk.rest());
        for node in 1..=self.plan.nodes {
            self.schedule(0, Event::Restart { node });
        }
    }

    /// Whether all clients have what they wanted, and all nodes have applied as much. Then all
    /// states are compared.
    fn is_at_rest(&mut self) -> bool {
        let mut applied = self.hosts.values().map(|host| host.node.as_ref().map(Node::applied));
        let first = applied.next().flatten();
        let equal = first.is_some() && applied.all(|applied| applied == first);
        if !equal || !self.clients.iter().all(Client::is_done) {
            return false;
        }
        for host in self.hosts.values() {
            host.node.as_ref().expect("all are up").machine().compare();
        }
        true
    }

    /// Delivers copies of a message after some time: mostly one, soon.
    fn carry(&mut self, event: impl Fn() -> Event) {
        let Plan { lost, doubled, late, .. } = self.plan;
        if !self.calm && self.random.percent(lost) {
            return self.counts.note("messages lost");
        }
        if !self.calm && self.random.percent(doubled) {
            self.counts.note("messages doubled");
            let after = self.random.within(1..2_000);
            self.schedule(after, event());
        }
        let late = !self.calm && self.random.percent(late);
        let after = if late { self.random.within(20..1_000) } else { self.random.within(1..10) };
        self.schedule(after, event());
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Due { at: self.now + after, order: self.scheduled, event }));
    }

    fn counts(&mut self) -> Counts {
        let ledger = self.ledger.borrow();
        let torn = self.hosts.values().map(|host| host.disk.torn()).sum();
        let of = |what: fn(&Client) -> u64| self.clients.iter().map(what).sum();
        let mut counts = std::mem::take(&mut self.counts);
        counts.0.extend([
            ("events", self.scheduled),
            ("calls", self.history.len() as u64),
            ("calls without an answer", self.history.silent()),
            ("updates executed", ledger.executed),
            ("requests logged again", ledger.logged_again),
            ("registrations logged again", ledger.registered_again),
            ("expired", ledger.expired),
            ("fenced", ledger.fenced),
            ("stale", ledger.stale),
            ("window full", ledger.window_full),
            ("writes torn", torn),
            ("clients reborn", of(|client| client.new_lives)),
            ("answered alike again", of(|client| client.replayed_alike)),
        ]);
        counts
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
