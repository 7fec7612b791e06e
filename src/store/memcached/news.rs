//! memcached tells nothing of its own accord: who waits looks again and again.
//!
//! The looks begin 2 ms apart and back off to 8 ms, until somebody begins to wait for another flight.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::{self, Moment, Span};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::store::{Heard, News};
use crate::sync::{Condvar, Mutex};

const FIRST: Span = 2_000_000;
const LAST: Span = 8_000_000;

/// How many flights were begun to be waited for.
#[derive(Debug, Default)]
pub(super) struct Watch {
    begun: Mutex<u64>,
    one_more: Condvar,
}

impl Watch {
    /// A flight more is waited for: it may end soon.
    pub fn begin(&self) {
        *self.begun.lock() += 1;
        self.one_more.notify_all();
    }

    pub fn poll(self: &Arc<Self>) -> Poll {
        Poll {
            known: *self.begun.lock(),
            watch: Arc::clone(self),
            step: FIRST,
            next: clock::after(FIRST),
            generation: fork::enrol(),
        }
    }
}

/// Says `Any` whenever it is time to look.
pub(super) struct Poll {
    watch: Arc<Watch>,
    known: u64,
    step: Span,
    next: Moment,
    generation: u64,
}

impl News for Poll {
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error> {
        if fork::generation() != self.generation {
            return Err(ErrorKind::Forked.into());
        }
        let until = clock::after(clock::span(until.saturating_duration_since(Instant::now())));
        let mut begun = self.watch.begun.lock();
        loop {
            if *begun != self.known {
                self.known = *begun;
                self.step = FIRST;
                self.next = self.next.min(clock::after(FIRST));
            }
            if clock::passed(self.next) || clock::passed(until) {
                break;
            }
            begun = self.watch.one_more.wait(begun, self.next.min(until));
        }
        drop(begun);
        if clock::passed(self.next) {
            self.step = (2 * self.step).min(LAST);
            self.next = clock::after(self.step);
            heard(Heard::Any);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn backs_off_until_another_flight_is_waited_for() {
        let watch = Arc::<Watch>::default();
        let mut poll = watch.poll();
        let mut looks = 0;
        while poll.step < LAST {
            poll.wait(Instant::now() + Duration::from_secs(60), &mut |_| looks += 1).unwrap();
        }
        assert_eq!(looks, 2, "after 2 and 4 ms");
        watch.begin();
        poll.wait(Instant::now() + Duration::from_secs(60), &mut |_| looks += 1).unwrap();
        assert_eq!(poll.step, 2 * FIRST);
    }

    #[test]
    fn ends_without_a_look_if_it_is_not_time() {
        let mut poll = Arc::<Watch>::default().poll();
        poll.next = clock::after(60 * LAST);
        poll.wait(Instant::now(), &mut |_| panic!("too early")).unwrap();
    }
}
