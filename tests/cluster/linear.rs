//! Is a history linearizable: could each call have happened at one instant between its begin and
//! its answer?
//!
//! The search of Wing and Gong with Lowe's memory: whatever is called before the first answer that
//! is still owed may come next; a set of calls that left the same state is not tried again. A call
//! that nobody heard of again may have happened at any time after its begin, or never.
//!
//! Each such call doubles what is to be tried. So it isn't tried where it changes nothing, nor before
//! its like that began earlier. And a model may rule out states that no longer fit what is heard
//! later: in a list that only grows, all that is there now must be seen by all later calls.

use std::collections::HashSet;
use std::hash::Hash;

/// What a single copy without failures would do.
pub trait Model {
    type State: Clone + Default + Eq + Hash;
    type Op: PartialEq;
    type Answer;

    /// The state after `op`, if it could have said `answer`. None as an answer: any.
    fn step(
        state: &Self::State,
        op: &Self::Op,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// False: no call may say `answer` any more, whatever comes between.
    fn leads_to(_state: &Self::State, _answer: &Self::Answer) -> bool {
        true
    }
}

/// One call. Times are of one clock, on which no two events have the same.
#[derive(Clone, Debug)]
pub struct Call<O, A> {
    pub op: O,
    pub begun: u64,
    /// When, and what. None: not until the history's end.
    pub answered: Option<(u64, A)>,
}

/// Whether one order of the calls explains all answers.
pub fn linearizable<M: Model>(calls: &[Call<M::Op, M::Answer>]) -> bool {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_unstable_by_key(|call| call.begun);
    let end = |call: &Call<_, _>| call.answered.as_ref().map_or(u64::MAX, |&(at, _)| at);

    let start = (Set::new(calls.len()), M::State::default());
    let mut tried = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some((happened, state)) = open.pop() {
        let ahead = || (0..calls.len()).filter(|&at| !happened.contains(at));
        let deadline = ahead().map(|at| end(calls[at])).min().unwrap_or(u64::MAX);
        if deadline == u64::MAX {
            return true;
        }
        // Last in, first out: those whose answers are known are tried first, as they decide most.
        let next = || ahead().take_while(|&at| calls[at].begun < deadline);
        let is_silent = |at: &usize| calls[*at].answered.is_none();
        let like_an_earlier = |at: usize| {
            ahead()
                .take_while(|&it| it < at)
                .any(|it| is_silent(&it) && calls[it].op == calls[at].op)
        };
        let silent = next().filter(|&at| is_silent(&at) && !like_an_earlier(at));
        let heard = next().filter(|at| !is_silent(at));
        for at in silent.chain(heard) {
            let answer = calls[at].answered.as_ref().map(|(_, answer)| answer);
            let before = &state;
            let Some(state) = M::step(before, &calls[at].op, answer) else { continue };
            if is_silent(&at) && state == *before {
                continue;
            }
            let mut later = ahead().filter(|&later| later != at);
            let fits = |at: usize| {
                calls[at].answered.as_ref().is_none_or(|(_, answer)| M::leads_to(&state, answer))
            };
            if later.all(fits) {
                let after = (happened.with(at), state);
                if tried.insert(after.clone()) {
                    open.push(after);
                }
            }
        }
    }
    false
}

/// Which calls have happened.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set(Box<[u64]>);

impl Set {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into())
    }

    fn contains(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize) -> Self {
        let mut with = self.clone();
        with.0[at / 64] |= 1 << (at % 64);
        with
    }
}

mod tests {
    use super::{Call, Model, linearizable};

    /// Adds, and answers the sum.
    struct Counter;

    impl Model for Counter {
        type State = u64;
        type Op = u64;
        type Answer = u64;

        fn step(state: &u64, op: &u64, answer: Option<&u64>) -> Option<u64> {
            let sum = state + op;
            answer.is_none_or(|&answer| answer == sum).then_some(sum)
        }
    }

    fn add(op: u64, begun: u64, answered: impl Into<Option<(u64, u64)>>) -> Call<u64, u64> {
        Call { op, begun, answered: answered.into() }
    }

    #[test]
    fn calls_that_overlap_may_come_in_any_order() {
        assert!(linearizable::<Counter>(&[add(1, 0, (10, 3)), add(2, 1, (9, 2))]));
    }

    #[test]
    fn an_answered_call_comes_before_a_later_one() {
        assert!(!linearizable::<Counter>(&[add(1, 0, (5, 3)), add(2, 6, (9, 2))]));
    }

    #[test]
    fn an_effect_that_happened_twice_is_found() {
        assert!(!linearizable::<Counter>(&[add(1, 0, (5, 1)), add(1, 6, (9, 3))]));
    }

    #[test]
    fn a_silent_call_may_have_happened_late_or_never() {
        let (silent, before) = (add(5, 0, None), add(1, 1, (2, 1)));
        assert!(linearizable::<Counter>(&[silent.clone(), before.clone()]));
        assert!(linearizable::<Counter>(&[silent.clone(), before.clone(), add(1, 3, (4, 7))]));
        assert!(!linearizable::<Counter>(&[silent, before, add(1, 3, (4, 12))]));
    }

    #[test]
    fn a_silent_call_happens_not_before_it_begins() {
        assert!(!linearizable::<Counter>(&[add(1, 0, (1, 6)), add(5, 2, None)]));
    }
}
