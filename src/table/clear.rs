//! Forget and close: what users take away from outside.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::begin::find;
use super::engine::{After, Inner};
use super::form::{Form, Probe, Response};
use super::line::{Entry, Guard, Place, View};
use super::seat::Verdict;
use crate::clock;
use crate::error::{Error, ErrorKind};

impl<F: Form> Inner<F> {
    /// Drops a completed response; hides a flight from everyone but its lead and its followers.
    pub fn forget<P: Probe<F>>(&self, probe: &P) -> Result<bool, Error> {
        self.check_fork()?;
        let spot = probe.spot();
        let mut after = After::default();
        let found = {
            let here = self.here();
            let mut line = self.index.hold(spot.hash());
            let Some(place) = find(&mut line, spot, probe) else { return Ok(false) };
            match line.view(place) {
                View::Completed(response) => {
                    let found = clock::before(response.expires());
                    after = self.drop_completed(&mut line, place);
                    found
                }
                View::Flying(flight) if flight.lead().is_none() && flight.standing().is_none() => {
                    self.end_detached(&here, &mut line, place, &mut after);
                    true
                }
                View::Flying(flight) => {
                    flight.widen(&self.usual).detached = true;
                    true
                }
            }
        };
        self.finish(after);
        Ok(found)
    }

    /// Takes a completed response out of its line and the window.
    pub(super) fn drop_completed(&self, line: &mut Guard<'_, F>, place: Place) -> After<F> {
        let entry = line.remove(place, &self.index.crowded);
        if let Entry::Completed(response) = &entry {
            self.shared.window.release(response.weight());
        }
        After::drop_entry(entry)
    }

    /// Refuses new begins and tells every follower; leads still settle.
    pub fn close(&self) {
        if self.forked() {
            return;
        }
        self.closed.store(true, Ordering::Relaxed);
        // A line that is parted meanwhile could escape: the index grows no more after this.
        self.index.settle();
        // Dropped last: a user's destructor that panics must not leave a line as it was.
        let mut garbage = Vec::new();
        for number in 0..self.index.len() {
            self.close_line(number, &mut garbage);
        }
        self.stop_alarm(&mut self.shared.window.sweep.lock());
    }

    /// Its owner gives it up.
    pub fn abolish(self: &Arc<Self>) {
        if self.forked() {
            // A thread of the parent may have been inside: nothing here can be trusted or freed.
            std::mem::forget(Arc::clone(self));
        } else {
            self.close();
        }
    }

    fn close_line(&self, number: usize, garbage: &mut Vec<Entry<F>>) {
        let mut dismissed = Vec::new();
        {
            let here = self.here();
            let mut line = self.index.hold_line(number);
            // What has no leader will never settle; what is completed will never be replayed.
            let lost = |view: &mut View<'_, F>| match view {
                View::Completed(_) => true,
                View::Flying(flight) => {
                    self.unwatch(flight);
                    let closed = || Verdict::Failed(ErrorKind::Closed);
                    dismissed.extend(self.dismiss(&here, flight, closed));
                    flight.lead().is_none()
                }
            };
            let mut lost = lost;
            while let Some(place) = line.find_any(&mut lost) {
                match line.view(place) {
                    View::Completed(_) => {
                        garbage.extend(self.drop_completed(&mut line, place).garbage);
                    }
                    View::Flying(_) => {
                        garbage.push(Entry::Flying(self.land(&here, &mut line, place)));
                    }
                }
            }
        }
        for followers in dismissed {
            followers.dismiss();
        }
    }
}
