//! A store that fails as it is told: calls are refused, lose their answers, or wait at a gate.
//!
//! It also counts: a call has *begun* once the table has made it, and has *ended* once its answer is
//! on its way back. That is what tests wait for, instead of waiting for time to pass.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use onceflight::Error;
use onceflight::store::{
    Claim, Claimed, Heard, Held, MemoryStore, News, Record, RecordId, RecordKey, Release, Response,
    Settled, Store, Token,
};

use crate::support::PATIENCE;

/// A method of [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Claim,
    Renew,
    Checkpoint,
    Complete,
    Release,
    Withdraw,
    Forget,
    Read,
    List,
    Evict,
    Purge,
    Listen,
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It isn't done.
    Fail,
    /// It is done, and the caller isn't told.
    LoseAnswer,
    /// It is done once the gate opens, or never if its deadline comes first.
    Wait(Arc<Gate>),
    /// It is done, and its answer waits for the gate.
    Answer(Arc<Gate>),
    /// The driver has a bug.
    Panic,
}

/// How the store tells news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Line {
    #[default]
    Open,
    /// Nothing gets through, and nobody notices.
    Mute,
    /// It is cut: who listens is told, and can't listen anew.
    Cut,
    /// It is cut again each time that somebody listens.
    Fragile,
}

/// A store as one process reaches it.
#[derive(Debug)]
pub struct Flaky {
    store: MemoryStore,
    state: Mutex<State>,
    changed: Condvar,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct State {
    begun: HashMap<Verb, usize>,
    ended: HashMap<Verb, usize>,
    /// For the next calls, one each.
    next: HashMap<Verb, VecDeque<Fault>>,
    /// For all others.
    every: HashMap<Verb, Fault>,
}

impl Flaky {
    pub fn over(store: &MemoryStore) -> Arc<Self> {
        let (state, changed, line) = (Mutex::default(), Condvar::new(), Arc::default());
        Arc::new(Self { store: store.clone(), state, changed, line })
    }

    /// How many calls were made.
    pub fn begun(&self, verb: Verb) -> usize {
        self.state().begun.get(&verb).copied().unwrap_or(0)
    }

    /// How many of them were answered.
    pub fn ended(&self, verb: Verb) -> usize {
        self.state().ended.get(&verb).copied().unwrap_or(0)
    }

    /// How many calls were made of all verbs, but for those by which a table listens and purges.
    pub fn all_begun(&self) -> usize {
        let own = |verb: &Verb| !matches!(verb, Verb::Listen | Verb::Purge);
        self.state().begun.iter().filter(|(verb, _)| own(verb)).map(|(_, calls)| calls).sum()
    }

    /// Waits until that many calls have been answered.
    #[track_caller]
    pub fn wait_ended(&self, verb: Verb, count: usize) {
        self.wait_for(|state| state.ended.get(&verb).copied().unwrap_or(0) >= count, verb);
    }

    #[track_caller]
    fn wait_for(&self, there: impl Fn(&State) -> bool, verb: Verb) {
        let state = self.state();
        let waited =
            self.changed.wait_timeout_while(state, PATIENCE, |state| !there(state)).unwrap();
        let late = waited.1.timed_out();
        // Let go first: what unwinds calls the store.
        drop(waited);
        assert!(!late, "{verb:?}: it never came");
    }

    /// The next call that has no fault yet has this one.
    pub fn next(&self, verb: Verb, fault: Fault) {
        self.state().next.entry(verb).or_default().push_back(fault);
    }

    /// All calls from now on have this fault.
    pub fn every(&self, verb: Verb, fault: Fault) {
        self.state().every.insert(verb, fault);
    }

    /// No call waits for a fault any more.
    pub fn mend(&self) {
        let mut state = self.state();
        state.next.clear();
        state.every.clear();
    }

    /// The next call waits at a gate.
    pub fn hold_next(&self, verb: Verb) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.next(verb, Fault::Wait(Arc::clone(&gate)));
        gate
    }

    /// The next call is done, and its answer waits at a gate.
    pub fn hold_next_answer(&self, verb: Verb) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.next(verb, Fault::Answer(Arc::clone(&gate)));
        gate
    }

    /// All calls of a table wait at a gate from now on, like those to a server that is frozen.
    pub fn freeze(&self) -> Arc<Gate> {
        use Verb::{Checkpoint, Claim, Complete, Listen, Read, Release, Renew, Withdraw};
        let gate = Arc::new(Gate::default());
        for verb in [Claim, Renew, Checkpoint, Complete, Release, Withdraw, Read, Listen] {
            self.every(verb, Fault::Wait(Arc::clone(&gate)));
        }
        gate
    }

    pub fn news(&self, line: Line) {
        *self.line.lock().unwrap() = line;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn call<T>(
        &self,
        verb: Verb,
        deadline: Instant,
        act: impl FnOnce(&MemoryStore) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let answer = match self.begin(verb) {
            None => act(&self.store),
            Some(Fault::Fail) => Err(Error::store("told to fail")),
            Some(Fault::Panic) => panic!("told to panic"),
            Some(Fault::LoseAnswer) => {
                act(&self.store).and(Err(Error::store("told to lose the answer")))
            }
            Some(Fault::Wait(gate)) if gate.pass(deadline) => act(&self.store),
            Some(Fault::Answer(gate)) => {
                let answer = act(&self.store);
                if gate.pass(deadline) {
                    answer
                } else {
                    Err(Error::store("told to wait, in vain"))
                }
            }
            Some(Fault::Wait(_)) => Err(Error::store("told to wait, in vain")),
        };
        *self.state().ended.entry(verb).or_default() += 1;
        self.changed.notify_all();
        answer
    }

    fn begin(&self, verb: Verb) -> Option<Fault> {
        let mut state = self.state();
        *state.begun.entry(verb).or_default() += 1;
        self.changed.notify_all();
        let next = state.next.get_mut(&verb).and_then(VecDeque::pop_front);
        next.or_else(|| state.every.get(&verb).cloned())
    }
}

/// Where calls wait.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<Pass>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pass {
    arrived: usize,
    /// Of those, how many have gone on, or back.
    gone: usize,
    /// `None`: closed.
    open: Option<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Back,
}

impl Gate {
    /// Lets all pass, from now on.
    pub fn open(&self) {
        self.let_go(Way::In);
    }

    /// Sends all back: their calls fail.
    pub fn send_back(&self) {
        self.let_go(Way::Back);
    }

    fn let_go(&self, way: Way) {
        self.state.lock().unwrap().open = Some(way);
        self.changed.notify_all();
    }

    /// Waits until so many calls have come here.
    #[track_caller]
    pub fn wait_arrived(&self, count: usize) {
        self.wait_while(|pass| pass.arrived < count);
    }

    /// Waits until so many calls wait here at once.
    #[track_caller]
    pub fn wait_together(&self, count: usize) {
        self.wait_while(|pass| pass.arrived - pass.gone < count);
    }

    #[track_caller]
    fn wait_while(&self, lacking: impl Fn(&Pass) -> bool) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |pass| lacking(pass));
        assert!(!waited.unwrap().1.timed_out(), "nobody came to the gate");
    }

    /// False: it was sent back, or the gate didn't open in time.
    fn pass(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        self.changed.notify_all();
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(state, left, |state| state.open.is_none());
        let mut state = waited.unwrap().0;
        state.gone += 1;
        state.open == Some(Way::In)
    }
}

/// The news of a store, told as the line is.
struct Told {
    news: Box<dyn News>,
    line: Arc<Mutex<Line>>,
}

impl News for Told {
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error> {
        let line = || *self.line.lock().unwrap();
        if matches!(line(), Line::Cut | Line::Fragile) {
            return Err(Error::store("told to cut the line"));
        }
        self.news.wait(until, &mut |news| {
            if line() == Line::Open {
                heard(news);
            }
        })
    }
}

impl Store for Flaky {
    fn claim(&self, key: &RecordKey, claim: &Claim<'_>, at: Instant) -> Result<Claimed, Error> {
        self.call(Verb::Claim, at, |store| store.claim(key, claim, at))
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        at: Instant,
    ) -> Result<Settled, Error> {
        self.call(Verb::Renew, at, |store| store.renew(key, held, lease, at))
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        at: Instant,
    ) -> Result<Settled, Error> {
        self.call(Verb::Checkpoint, at, |store| store.checkpoint(key, held, data, at))
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        at: Instant,
    ) -> Result<Settled, Error> {
        self.call(Verb::Complete, at, |store| store.complete(key, held, response, ttl, at))
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        at: Instant,
    ) -> Result<Settled, Error> {
        self.call(Verb::Release, at, |store| store.release(key, held, release, at))
    }

    fn withdraw(&self, key: &RecordKey, token: Token, at: Instant) -> Result<(), Error> {
        self.call(Verb::Withdraw, at, |store| store.withdraw(key, token, at))
    }

    fn forget(&self, key: &RecordKey, at: Instant) -> Result<bool, Error> {
        self.call(Verb::Forget, at, |store| store.forget(key, at))
    }

    fn read(&self, key: &RecordKey, at: Instant) -> Result<Option<Record>, Error> {
        self.call(Verb::Read, at, |store| store.read(key, at))
    }

    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        at: Instant,
    ) -> Result<Vec<Record>, Error> {
        self.call(Verb::List, at, |store| store.list(scope, after, max, at))
    }

    fn evict(&self, key: &RecordKey, at: Instant) -> Result<bool, Error> {
        self.call(Verb::Evict, at, |store| store.evict(key, at))
    }

    fn purge(&self, max: usize, at: Instant) -> Result<usize, Error> {
        self.call(Verb::Purge, at, |store| store.purge(max, at))
    }

    fn listen(&self, at: Instant) -> Result<Box<dyn News>, Error> {
        let line = Arc::clone(&self.line);
        self.call(Verb::Listen, at, |store| {
            if *line.lock().unwrap() == Line::Cut {
                return Err(Error::store("told to cut the line"));
            }
            Ok(Box::new(Told { news: store.listen(at)?, line }) as Box<dyn News>)
        })
    }
}
