//! A client that keeps the rules of sessions: it numbers its updates, acknowledges what it has heard,
//! asks again what it hasn't, anywhere, and begins a new life when its session is gone.

use super::history::{Asked, Heard, History, LIST_END};
use super::kv::{Command, Op, Reply, Update, status};
use super::node::Outcome;
use super::plan::Plan;
use super::random::Random;
use onceflight::{Error, ErrorKind, Response};
use std::collections::BTreeMap;

/// A message to a node, in one of several copies.
#[derive(Clone, Debug)]
pub struct Request {
    pub from: Tag,
    pub command: Command,
}

/// Which client's which call, for the way back.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    pub client: usize,
    life: u64,
    call: Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    Registration,
    /// Nobody waits for it.
    Aside,
    Read(u64),
    Update(u64),
}

pub type Answer = Outcome<Result<Reply, Error>>;

/// States: no session (registering), or a session with calls in flight. `lives` counts the sessions.
pub struct Client {
    me: usize,
    life: u64,
    incarnation: Option<u64>,
    /// When to ask for a session again.
    register_at: u64,
    next_seq: u64,
    open: BTreeMap<Number, Call>,
    /// What this life's updates came to.
    told: BTreeMap<u64, Response>,
    /// Calls still to begin.
    left: u32,
    /// Idle until then.
    asleep_until: u64,
    /// Where the leader seems to be.
    leader: u64,
    /// The last value seen of the key that is compared and set.
    seen: String,
    pub new_lives: u64,
    pub replayed_alike: u64,
}

struct Call {
    /// Its place in the history.
    at: usize,
    key: String,
    asked: Asked,
    ask_at: u64,
}

/// How long a client waits for an answer.
const PATIENCE_MS: u64 = 150;

impl Client {
    pub fn new(me: usize, plan: &Plan) -> Self {
        Self {
            me,
            life: 1,
            incarnation: None,
            register_at: 0,
            next_seq: 1,
            open: BTreeMap::new(),
            told: BTreeMap::new(),
            left: plan.calls,
            asleep_until: 0,
            leader: 1,
            seen: String::new(),
            new_lives: 0,
            replayed_alike: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.left == 0 && self.open.is_empty()
    }

    /// Has the client do what is due, and says what it sends, and where.
    pub fn act(
        &mut self,
        now: u64,
        plan: &Plan,
        random: &mut Random,
        history: &mut History,
    ) -> Vec<(u64, Request)> {
        let mut sends = Vec::new();
        if now < self.asleep_until || self.is_done() {
            return sends;
        }
        let Some(incarnation) = self.incarnation else {
            if self.register_at <= now {
                self.register_at = now + PATIENCE_MS;
                let (client, nonce) = (self.name(), self.life.to_string());
                let command = Command::Register { client, nonce };
                sends.push(self.send(Number::Registration, command, random, plan));
            }
            return sends;
        };
        if self.left > 0 && self.has_room(plan, random) && random.one_in(8) {
            self.begin(random, history);
        }
        let due: Vec<_> =
            self.open.iter().filter(|(_, call)| call.ask_at <= now).map(|(&n, _)| n).collect();
        for number in due {
            let command = self.command(number, incarnation);
            sends.push(self.send(number, command, random, plan));
            self.open.get_mut(&number).expect("it is open").ask_at =
                now + PATIENCE_MS + random.within(0..PATIENCE_MS);
        }
        match random.within(0..1_000) {
            // Restarted, and remembers nothing: its old requests still fly.
            0 => self.live_anew(),
            1 => {
                let command = Command::Unregister { client: self.name() };
                sends.push(self.send(Number::Aside, command, random, plan));
                self.live_anew();
            }
            2 => self.asleep_until = now + random.within(500..3_000),
            3..30 => {
                let command = Command::KeepAlive { client: self.name(), incarnation };
                sends.push(self.send(Number::Aside, command, random, plan));
            }
            _ => {}
        }
        sends
    }

    /// An answer arrived, perhaps to a call that is long over.
    ///
    /// # Errors
    ///
    /// It is one that must never come.
    pub fn hear(
        &mut self,
        now: u64,
        tag: Tag,
        answer: Answer,
        random: &mut Random,
        plan: &Plan,
        history: &mut History,
    ) -> Result<(), String> {
        if tag.life != self.life {
            return Ok(());
        }
        let reply = match answer {
            Outcome::Done(Ok(reply)) => reply,
            Outcome::Done(Err(error)) => return self.refused(now, tag.call, &error),
            Outcome::NotLeader(leader) => {
                self.leader = leader.unwrap_or_else(|| 1 + random.within(0..plan.nodes));
                self.ask_again(tag.call, now + random.within(5..40));
                return Ok(());
            }
            Outcome::Lost => {
                self.ask_again(tag.call, now);
                return Ok(());
            }
        };
        match (tag.call, reply) {
            (Number::Registration, Reply::Registered(incarnation)) => {
                self.incarnation.get_or_insert(incarnation);
            }
            (Number::Read(_), Reply::Value(value)) => {
                if let Some(call) = self.open.remove(&tag.call) {
                    if call.key.starts_with("cell") {
                        self.seen = value.clone().unwrap_or_default();
                    }
                    history.answer(call.at, Heard::Value(value));
                }
            }
            (Number::Update(seq), Reply::Updated(applied)) => {
                self.updated(tag.call, seq, applied.response, history)?;
            }
            (Number::Aside, _) => {}
            (call, reply) => return Err(format!("{call:?} was answered {reply:?}")),
        }
        Ok(())
    }

    fn updated(
        &mut self,
        number: Number,
        seq: u64,
        response: Response,
        history: &mut History,
    ) -> Result<(), String> {
        let Some(call) = self.open.remove(&number) else {
            self.replayed_alike += 1;
            let first = &self.told[&seq];
            return if (first.status(), first.data()) == (response.status(), response.data()) {
                Ok(())
            } else {
                Err(format!("client {} seq {seq}: {first:?}, and then {response:?}", self.me))
            };
        };
        let data = String::from_utf8_lossy(response.data()).into_owned();
        history.answer(call.at, Heard::Updated(response.status(), data));
        if let (status::OK, Asked::Update(Op::Write(value) | Op::Cas { to: value, .. })) =
            (response.status(), call.asked)
        {
            self.seen = value;
        }
        self.told.insert(seq, response);
        Ok(())
    }

    fn refused(&mut self, now: u64, number: Number, error: &Error) -> Result<(), String> {
        match (number, error.kind()) {
            // What was in flight may have happened or not: nobody will ever say.
            (_, ErrorKind::Expired | ErrorKind::Fenced) => self.live_anew(),
            (Number::Update(_), ErrorKind::WindowFull) => self.ask_again(number, now + PATIENCE_MS),
            // The first answer overtook this one, and was acknowledged.
            (Number::Update(_), ErrorKind::SeqStale) if !self.open.contains_key(&number) => {}
            (number, kind) => return Err(format!("client {} {number:?}: {kind:?}", self.me)),
        }
        Ok(())
    }

    fn live_anew(&mut self) {
        self.new_lives += 1;
        self.life += 1;
        self.incarnation = None;
        self.register_at = 0;
        self.next_seq = 1;
        self.open.clear();
        self.told.clear();
    }

    /// Now and then one more than the window has, which must be refused and do no harm.
    fn has_room(&self, plan: &Plan, random: &mut Random) -> bool {
        let too_far = u64::from(random.one_in(20));
        self.next_seq < self.ack() + u64::from(plan.window) + too_far
    }

    /// The lowest number that hasn't been answered.
    fn ack(&self) -> u64 {
        let mut updates = self.open.keys().filter_map(|number| match number {
            Number::Update(seq) => Some(*seq),
            _ => None,
        });
        updates.next().unwrap_or(self.next_seq)
    }

    fn begin(&mut self, random: &mut Random, history: &mut History) {
        let unique = history.len() as u64;
        let mut key =
            format!("{}{}", ["sum", "list", "cell"][random.index(3)], random.within(0..2));
        let power = history.calls_on(&key);
        if key.starts_with("sum") && power > 61 {
            key = format!("list{}", random.within(0..2));
        }
        let (number, asked) = if random.one_in(4) {
            (Number::Read(unique), Asked::Read)
        } else {
            self.next_seq += 1;
            let op = match key.as_bytes()[0] {
                b's' => Op::Add(1 << power),
                b'l' => Op::Append(format!("{unique}{LIST_END}")),
                _ if random.one_in(2) => Op::Write(format!("v{unique}")),
                _ => Op::Cas { from: self.seen.clone(), to: format!("v{unique}") },
            };
            (Number::Update(self.next_seq - 1), Asked::Update(op))
        };
        let at = history.begin(&key, asked.clone());
        self.left -= 1;
        self.open.insert(number, Call { at, key, asked, ask_at: 0 });
    }

    fn command(&self, number: Number, incarnation: u64) -> Command {
        let Call { key, asked, .. } = &self.open[&number];
        match (number, asked) {
            (Number::Update(seq), Asked::Update(op)) => Command::Update(Update {
                client: self.name(),
                incarnation,
                seq,
                // The one that is too far acknowledges no more than the others.
                ack: self.ack(),
                key: key.clone(),
                op: op.clone(),
            }),
            _ => Command::Read { key: key.clone() },
        }
    }

    fn send(
        &self,
        call: Number,
        command: Command,
        random: &mut Random,
        plan: &Plan,
    ) -> (u64, Request) {
        let anywhere = 1 + random.within(0..plan.nodes);
        let to = if random.one_in(4) { anywhere } else { self.leader };
        (to, Request { from: Tag { client: self.me, life: self.life, call }, command })
    }

    fn ask_again(&mut self, number: Number, at: u64) {
        if number == Number::Registration {
            self.register_at = at;
        } else if let Some(call) = self.open.get_mut(&number) {
            call.ask_at = at;
        }
    }

    fn name(&self) -> String {
        format!("client {}", self.me)
    }
}
