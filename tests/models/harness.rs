//! What every model needs: a table whose schedule alone decides what happens, the counts of what
//! its callers were given, and the checks that hold once all is over.

use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use onceflight::{
    Begin, Builder, DedupTable, Error, ErrorKind, Follower, Lead, Outcome, Role, Stats, TryBegin,
};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, Scheduler, UncontrolledNondeterminismCheckScheduler,
};
use shuttle::thread::{Scope, scope};
use shuttle::{Config, MaxSteps, Runner};

pub const SECOND: Duration = Duration::from_secs(1);
/// A ttl that no model's clock gets to: a key completes once.
pub const KEPT: Duration = Duration::from_secs(1 << 20);

/// One key, another in another line, and one in the first one's line.
pub const A: u64 = 0;
pub const B: u64 = 1;
pub const A2: u64 = 1 << 40;

pub type Table = DedupTable<u64, Value, BuildHasherDefault<Spread>>;
pub type Started<'t> = Result<Begin<'t, u64, Value>, Error>;
pub type Tried<'t> = Result<TryBegin<'t, u64, Value, BuildHasherDefault<Spread>>, Error>;
pub type Held<'t> = Lead<'t, u64, Value>;
pub type Line<'t> = Follower<'t, u64, Value, BuildHasherDefault<Spread>>;

/// Checks `model` under `ONCEFLIGHT_SCHEDULES` schedules: half of them random, which finds what
/// needs many switches, half by priorities (PCT), which finds what needs few but rare ones.
///
/// With `ONCEFLIGHT_REPLAY` set to a failing schedule, it runs that one.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let model = from_zero(model);
    if let Ok(schedule) = std::env::var("ONCEFLIGHT_REPLAY") {
        return shuttle::replay(move || model(), &schedule);
    }
    let (seed, half) = (seed(), schedules() / 2);
    run(RandomScheduler::new_from_seed(seed, half), half, Arc::clone(&model));
    run(PctScheduler::new_from_seed(seed, 3, half), half, model);
}

/// Checks that `model` takes the same course whenever it is run under the same schedule.
pub fn check_determined(model: impl Fn() + Send + Sync + 'static) {
    let each = schedules() / 10;
    let random = RandomScheduler::new_from_seed(seed(), each);
    run(UncontrolledNondeterminismCheckScheduler::new(random), each * 2, from_zero(model));
}

/// Each execution begins at the clock's zero.
fn from_zero<F: Fn()>(model: F) -> Arc<impl Fn()> {
    Arc::new(move || {
        onceflight::model::reset();
        model();
    })
}

fn run<F>(scheduler: impl Scheduler + 'static, times: usize, model: Arc<F>)
where
    F: Fn() + Send + Sync + 'static,
{
    let mut config = Config::new();
    config.stack_size = 1 << 17;
    // A thread that spins without end is as bad as one that hangs.
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.silence_warnings = true;
    let ran = Runner::new(scheduler, config).run(move || model());
    assert_eq!(ran, times, "every schedule that was asked for was run");
}

fn schedules() -> usize {
    let schedules = number("ONCEFLIGHT_SCHEDULES", 3_000);
    usize::try_from(schedules).expect("a number of schedules").max(10)
}

fn seed() -> u64 {
    number("ONCEFLIGHT_SEED", 20_261_121)
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}

/// The same hashes in every run, with the key in the bits that choose the line.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        // The lowest bits choose the line; the topmost are the tag.
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A response: which one it is, and a count of those that live.
#[derive(Clone, Debug)]
pub struct Value {
    pub made_by: u64,
    _alive: Arc<()>,
}

/// What a caller was given, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// It led, and its completion was taken.
    Led,
    /// It led, and was overtaken.
    Stale,
    Shared(u64),
    Replayed(u64),
    Bypass,
    Failed(ErrorKind),
}

impl Got {
    /// The response that this caller ends up with, if it is one that all see.
    pub fn value(self) -> Option<u64> {
        match self {
            Self::Shared(value) | Self::Replayed(value) => Some(value),
            _ => None,
        }
    }
}

/// A table and what its callers say happened.
pub struct World {
    pub table: Table,
    alive: Arc<()>,
    seen: Seen,
}

/// `std` atomics: the checks must not add places to switch at.
#[derive(Default)]
struct Seen {
    first_leads: AtomicU64,
    later_leads: AtomicU64,
    completed: AtomicU64,
    shared: AtomicU64,
    replayed: AtomicU64,
    bypassed: AtomicU64,
    stale: AtomicU64,
    timeouts: AtomicU64,
    /// The fence of the one that executes now, or 0.
    executing: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl World {
    pub fn new(set_up: impl FnOnce(Builder<u64, Value>) -> Builder<u64, Value>) -> Self {
        let builder = set_up(DedupTable::builder());
        let table = builder.hasher(BuildHasherDefault::default()).build();
        Self { table, alive: Arc::default(), seen: Seen::default() }
    }

    pub fn value(&self, made_by: u64) -> Value {
        Value { made_by, _alive: Arc::clone(&self.alive) }
    }

    /// The lead that a begin must have given.
    pub fn lead(&self, key: u64) -> Held<'_> {
        let Ok(Begin::Lead(lead)) = self.table.begin(&key) else { panic!("a vacant key is led") };
        self.led(&lead);
        lead
    }

    /// The place in line that a begin must have given.
    pub fn follow(&self, key: u64) -> Line<'_> {
        place(self.table.try_begin(&key)).expect("a key in flight is followed")
    }

    fn led(&self, lead: &Held<'_>) {
        assert!(lead.fence() > 0 && lead.attempt() > 0);
        add(if lead.attempt() == 1 { &self.seen.first_leads } else { &self.seen.later_leads });
    }

    /// Counts what a begin gave. Every begin and every wait of a model comes by here.
    pub fn started<'t>(&self, started: Started<'t>) -> Result<Held<'t>, Got> {
        match started {
            Ok(Begin::Lead(lead)) => {
                self.led(&lead);
                Ok(lead)
            }
            Ok(Begin::Shared(value)) => {
                add(&self.seen.shared);
                Err(Got::Shared(value.made_by))
            }
            Ok(Begin::Replayed(value)) => {
                add(&self.seen.replayed);
                Err(Got::Replayed(value.made_by))
            }
            Ok(Begin::Bypass) => {
                add(&self.seen.bypassed);
                Err(Got::Bypass)
            }
            Err(error) => {
                if error.kind() == ErrorKind::Timeout {
                    add(&self.seen.timeouts);
                }
                Err(Got::Failed(error.kind()))
            }
        }
    }

    /// Where leads can't be overtaken, nobody else executes until this one settles.
    pub fn alone(&self, lead: &Held<'_>) {
        let before = self.seen.executing.swap(lead.fence(), Relaxed);
        assert_eq!(before, 0, "two execute at once: {before} and {}", lead.fence());
    }

    /// This one is about to settle.
    pub fn no_more(&self, lead: &Held<'_>) {
        let before = self.seen.executing.swap(0, Relaxed);
        assert_eq!(before, lead.fence(), "somebody else executed meanwhile");
    }

    /// Completes with a value named after the caller.
    pub fn complete(&self, lead: Held<'_>, me: u64) -> Got {
        match lead.complete(self.value(me)) {
            Ok(()) => {
                add(&self.seen.completed);
                Got::Led
            }
            Err(refused) => {
                assert_eq!(refused.error.kind(), ErrorKind::Stale);
                assert_eq!(refused.value.made_by, me, "the value comes back");
                add(&self.seen.stale);
                Got::Stale
            }
        }
    }

    /// Counts a settlement or a renewal that came too late. Answers whether it came in time.
    pub fn in_time(&self, settled: Result<(), Error>) -> bool {
        let Err(error) = settled else { return true };
        assert_eq!(error.kind(), ErrorKind::Stale);
        add(&self.seen.stale);
        false
    }

    /// Leads and completes, or takes the outcome.
    pub fn finish(&self, started: Started<'_>, me: u64) -> Got {
        match self.started(started) {
            Ok(lead) => self.complete(lead, me),
            Err(got) => got,
        }
    }

    /// `finish`, where nobody can be overtaken.
    pub fn finish_alone(&self, started: Started<'_>, me: u64) -> Got {
        match self.started(started) {
            Ok(lead) => {
                self.alone(&lead);
                shuttle::thread::yield_now();
                self.no_more(&lead);
                let got = self.complete(lead, me);
                assert_eq!(got, Got::Led);
                got
            }
            Err(got) => got,
        }
    }

    /// Begins, and finishes.
    pub fn call(&self, key: u64, me: u64) -> Got {
        self.finish(self.table.begin(&key), me)
    }

    /// What `run` gave, counted; its leads are not.
    pub fn ran(&self, outcome: Result<Outcome<Value>, Error>) -> Got {
        match outcome {
            Ok(outcome) => match outcome.role {
                Role::Led => Got::Led,
                Role::Shared => {
                    add(&self.seen.shared);
                    Got::Shared(outcome.value.made_by)
                }
                Role::Replayed => {
                    add(&self.seen.replayed);
                    Got::Replayed(outcome.value.made_by)
                }
                Role::Bypassed => {
                    add(&self.seen.bypassed);
                    Got::Bypass
                }
                role => unreachable!("{role:?}"),
            },
            Err(error) => Got::Failed(error.kind()),
        }
    }

    pub fn completions(&self) -> u64 {
        self.seen.completed.load(Relaxed)
    }

    /// Time goes on, and the alarms that it passes ring.
    pub fn pass(&self, time: Duration) {
        onceflight::model::advance(time);
        self.table.tick();
    }

    /// All callers are done. Nobody is in line, each outcome was counted once, and the keys are
    /// usable. Answers the counts as they were.
    pub fn settled(&self, keys: &[u64]) -> Stats {
        let stats = self.table.stats();
        assert_eq!(stats.waiting, 0, "nobody waits: {stats:?}");
        let seen = |counter: &AtomicU64| counter.load(Relaxed);
        assert_eq!(stats.shared, seen(&self.seen.shared), "shared: {stats:?}");
        assert_eq!(stats.replayed, seen(&self.seen.replayed), "replayed: {stats:?}");
        assert_eq!(stats.bypassed, seen(&self.seen.bypassed), "bypassed: {stats:?}");
        assert_eq!(stats.timeouts, seen(&self.seen.timeouts), "timeouts: {stats:?}");
        let (first, later) = (seen(&self.seen.first_leads), seen(&self.seen.later_leads));
        if first + later > 0 {
            assert_eq!(stats.leads, first + later, "leads: {stats:?}");
            assert_eq!(stats.promotions + stats.takeovers, later, "successors: {stats:?}");
            assert_eq!(stats.stale, seen(&self.seen.stale), "stale: {stats:?}");
        }
        for key in keys {
            match self.table.begin_timeout(key, Duration::ZERO) {
                Ok(Begin::Lead(lead)) => lead.cancel().expect("a lead that was just given is live"),
                Ok(Begin::Replayed(_)) => {}
                other => panic!("the key is usable: {other:?}"),
            }
        }
        stats
    }

    /// With its window gone, the table holds no value; without the table, nothing does.
    pub fn nothing_left(self) {
        for key in [A, B, A2] {
            self.table.forget(&key).expect("forget says whether there was anything");
        }
        self.empty();
    }

    /// The table holds no value, and needs no more looking at for that.
    pub fn empty(self) {
        let Self { table, alive, .. } = self;
        let stats = table.stats();
        assert_eq!((stats.completed, stats.completed_bytes, stats.in_flight), (0, 0, 0));
        assert_eq!(Arc::strong_count(&alive), 1, "a value is still held");
        drop(table);
    }
}

/// A place in line, or what `begin` would have given.
pub fn place(tried: Tried<'_>) -> Result<Line<'_>, Started<'_>> {
    match tried {
        Ok(TryBegin::Follower(follower)) => Ok(follower),
        Ok(TryBegin::Lead(lead)) => Err(Ok(Begin::Lead(lead))),
        Ok(TryBegin::Replayed(value)) => Err(Ok(Begin::Replayed(value))),
        Err(error) => Err(Err(error)),
    }
}

/// Runs `body` with threads that may borrow, and returns once all have ended.
///
/// The checker's scope doesn't wait for its threads if `body` panics: they would go on with a table
/// that unwinding has dropped.
pub fn threads<'env>(body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>)) {
    if let Err(panic) = scope(|scope| catch_unwind(AssertUnwindSafe(|| body(scope)))) {
        resume_unwind(panic);
    }
}
