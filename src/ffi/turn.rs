//! The turn of a thread: of those who come back one by one, it is the one that does.
//!
//! It is kept here from the return of its begin to `onceflight_turn_done`. Who forgets to say so ends it
//! by its next wait, or by its own end; and others don't wait for it for long in any case.

use std::cell::Cell;

use crate::table::internal::Turn;

thread_local! {
    static MINE: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// Ends the turn before.
pub(super) fn begin(turn: Option<Turn>) {
    // A thread whose destructors run has no turn to keep: it ends here.
    let _ = MINE.try_with(|mine| drop(mine.replace(turn)));
}

/// This thread is back from a begin with ONCEFLIGHT_IN_TURN: the next may return. To be called after each,
/// whatever its outcome; once more does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn onceflight_turn_done() {
    begin(None);
}

#[cfg(test)]
mod tests {
    use std::thread::{scope, spawn, yield_now};
    use std::time::Duration;

    use super::*;
    use crate::clock::FOREVER;
    use crate::ffi::backend::{Next, Table};
    use crate::ffi::options::onceflight_options;
    use crate::ffi::request::Parsed;
    use crate::table::internal::{Arrived, crowd};

    #[test]
    fn a_turn_ends_as_its_thread_says_so_or_has_waited_again_or_ends() {
        let out = crowd();
        let next = || out.recv_timeout(Duration::from_secs(60)).unwrap();
        begin(next());
        onceflight_turn_done();
        begin(next());
        begin(None); // what a wait that nobody else slept through leaves
        let turn = next();
        spawn(|| begin(turn)).join().unwrap();
        begin(next());
    }

    #[test]
    fn a_crowd_that_asks_for_it_returns_in_turn() {
        let table = Table::open(None, &onceflight_options::default()).ok().unwrap();
        // Some of those who wait may not sleep yet, and then another crowd will.
        assert!((0..1000).any(|_| has_turns(&table, 64)));
    }

    /// Whether some of so many followers have had turns.
    fn has_turns(table: &Table, followers: u64) -> bool {
        let begin = || {
            table.begin(&Parsed {
                key: b"key",
                fingerprint: None,
                timeout: FOREVER,
                lease: None,
                ttl: None,
                same_thread: false,
                recover: false,
                in_turn: true,
            })
        };
        let Ok(Next::Have(Arrived::Lead(lead))) = begin() else { panic!("it is vacant") };
        scope(|scope| {
            let follow = || {
                assert!(matches!(begin().ok().unwrap().wait(FOREVER), Ok(Arrived::Shared(_))));
                MINE.take().is_some()
            };
            let threads: Vec<_> = (0..followers).map(|_| scope.spawn(follow)).collect();
            while table.stats().waiting < followers {
                yield_now();
            }
            table.verbs().complete(lead.id, 0, b"", None).unwrap();
            let had: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            had.contains(&true)
        })
    }
}
