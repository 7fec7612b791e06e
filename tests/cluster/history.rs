//! What clients asked and heard, and whether a store that never fails could have said it.

use super::kv::{Op, status};
use super::linear::{Call, Model, linearizable};
use std::collections::{BTreeMap, BTreeSet};

/// A call on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Read,
    Update(Op),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Value(Option<String>),
    /// Status and data.
    Updated(i32, String),
}

/// What each item of a list ends with.
pub const LIST_END: char = ';';

/// Calls in the order in which they began, each with its key. A call's number is its place.
#[derive(Default)]
pub struct History {
    calls: Vec<(String, Call<Asked, Heard>)>,
    now: u64,
}

impl History {
    pub fn begin(&mut self, key: &str, op: Asked) -> usize {
        let begun = self.tick();
        self.calls.push((key.to_owned(), Call { op, begun, answered: None }));
        self.calls.len() - 1
    }

    pub fn answer(&mut self, call: usize, heard: Heard) {
        let now = self.tick();
        self.calls[call].1.answered = Some((now, heard));
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// How many calls nobody has answered.
    pub fn silent(&self) -> u64 {
        self.calls.iter().filter(|(_, call)| call.answered.is_none()).count() as u64
    }

    /// How many calls there are on a key.
    pub fn calls_on(&self, key: &str) -> usize {
        self.calls.iter().filter(|(name, _)| name == key).count()
    }

    /// The keys are independent of each other, so each is looked at alone.
    ///
    /// # Errors
    ///
    /// The calls on a key that no order explains.
    pub fn check(&self) -> Result<(), String> {
        let mut keys = BTreeMap::<&str, Vec<_>>::new();
        for (key, call) in &self.calls {
            keys.entry(key).or_default().push(call.clone());
        }
        for (key, mut calls) in keys {
            make_alike(&mut calls);
            if !linearizable::<Key>(&calls) {
                let calls: Vec<_> = calls.iter().map(|call| format!("  {call:?}")).collect();
                return Err(format!("{key}:\n{}", calls.join("\n")));
            }
        }
        Ok(())
    }

    /// No two events at the same time.
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

/// A value that nobody saw might as well have been any other: then such writes are like each other.
fn make_alike(calls: &mut [Call<Asked, Heard>]) {
    let mut seen = BTreeSet::new();
    for call in &*calls {
        if let Asked::Update(Op::Cas { from, .. }) = &call.op {
            seen.insert(from.clone());
        }
        if let Some((_, Heard::Value(Some(value)))) = &call.answered {
            seen.insert(value.clone());
        }
    }
    for call in calls {
        if let Asked::Update(Op::Write(to) | Op::Cas { to, .. }) = &mut call.op
            && !seen.contains(to)
        {
            "unseen".clone_into(to);
        }
    }
}

/// One key of a store, written down independently of the store under test.
struct Key;

impl Model for Key {
    type State = Option<String>;
    type Op = Asked;
    type Answer = Heard;

    fn step(
        state: &Option<String>,
        asked: &Asked,
        heard: Option<&Heard>,
    ) -> Option<Option<String>> {
        let done = |data: String| Heard::Updated(status::OK, data);
        let refused = |code| (state.clone(), Heard::Updated(code, String::new()));
        let (after, answer) = match (asked, state) {
            (Asked::Read, value) => (value.clone(), Heard::Value(value.clone())),
            (Asked::Update(Op::Write(value)), _) => (Some(value.clone()), done(String::new())),
            (Asked::Update(Op::Cas { .. }), None) => refused(status::NO_SUCH_KEY),
            (Asked::Update(Op::Cas { from, to }), Some(old)) if from == old => {
                (Some(to.clone()), done(String::new()))
            }
            (Asked::Update(Op::Cas { .. }), _) => refused(status::PRECONDITION_FAILED),
            (Asked::Update(Op::Add(by)), old) => {
                let old = old.as_deref().unwrap_or("0").parse::<i64>().expect("a counter's key");
                let sum = (old + by).to_string();
                (Some(sum.clone()), done(sum))
            }
            (Asked::Update(Op::Append(more)), old) => {
                let whole = old.clone().unwrap_or_default() + more;
                (Some(whole.clone()), done(whole))
            }
        };
        heard.is_none_or(|heard| *heard == answer).then_some(after)
    }

    /// Clients give each item of a list another text, and add another power of two each time to a
    /// sum. So both only ever gain. Values of other keys look like neither.
    fn leads_to(state: &Option<String>, heard: &Heard) -> bool {
        let later = match heard {
            Heard::Value(value) => value.as_deref(),
            Heard::Updated(_, data) if data.is_empty() => return true,
            Heard::Updated(_, data) => Some(data.as_str()),
        };
        let Some(now) = state.as_deref() else { return true };
        let Some(later) = later else { return false };
        match (now.parse::<u64>(), later.parse::<u64>()) {
            (Ok(now), Ok(later)) => now & !later == 0,
            _ if now.ends_with(LIST_END) => later.starts_with(now),
            _ => true,
        }
    }
}
