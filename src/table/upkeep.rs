//! What a table does that nobody asked for just now: it answers its alarms, gives back expired
//! memory, and makes room.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::begin::take_seat;
use super::builder::OnLeaseExpired;
use super::engine::{After, Inner, find_flight};
use super::flight::{Cause, Flight, LeadId};
use super::form::{Form, Response};
use super::line::{Guard, Place, View};
use super::seat::{Seat, Told, Verdict};
use super::window::Sweep;
use crate::clock::{self, Moment, NEVER};
use crate::error::ErrorKind;
use crate::timer::{Alarm, Alarmed};

const MILLISECOND: u64 = 1_000_000;

impl<F: Form> Alarmed for Inner<F> {
    fn ring(&self, alarm: Alarm) {
        if self.forked() {
            return;
        }
        match alarm {
            Alarm::Lease { hash, id } => self.lease_passed(hash, id),
            Alarm::Offer { hash, id } => self.offer_lapsed(hash, id),
            Alarm::Deadline { hash, ticket } => {
                let seated = {
                    let here = self.here();
                    let mut line = self.index.hold(hash);
                    let ticket = ticket.load(Ordering::Relaxed);
                    let seated = take_seat(&here, &mut line, ticket);
                    here.tally.timeouts.add(u64::from(seated.is_some()));
                    seated
                };
                if let Some(seated) = seated {
                    seated.seat.tell(Told::TimedOut);
                }
            }
            Alarm::Sweep => self.sweep(),
        }
    }
}

impl<F: Form> Inner<F> {
    /// A lease that somebody waits on has passed, unless it was renewed.
    fn lease_passed(&self, hash: u32, id: LeadId) {
        let mut after = After::default();
        {
            let here = self.here();
            let mut line = self.index.hold(hash);
            let Some(place) = find_flight(&mut line, |flight| flight.led_by(id)) else { return };
            let flight = line.flight(place);
            if !flight.overdue() {
                // Somebody has been asked already; or the lease was renewed, and has an alarm of
                // its own.
                return;
            }
            if let Some(extras) = flight.extras_mut() {
                extras.alarm = None;
            }
            if flight.detached() {
                self.restart_followers(&here, &mut line, place, &mut after);
            } else if flight.waiting() > 0 {
                self.offer_on(&here, &mut line, place, Cause::TakenOver, &mut after);
            }
        }
        self.finish(after);
    }

    /// An offer that wasn't accepted passes to the next in line, and its follower goes to the back.
    /// Alone it keeps the offer, until a new begin takes it. A line in which nobody else may lead
    /// has waited long enough.
    fn offer_lapsed(&self, hash: u32, id: LeadId) {
        let mut after = After::default();
        {
            let here = self.here();
            let mut line = self.index.hold(hash);
            let Some(place) = find_flight(&mut line, |flight| flight.offers(id)) else { return };
            let ticket = line.next_id(hash);
            let Some(extras) = line.flight(place).extras_mut() else { return };
            let Some(standing) = &mut extras.standing else { return };
            let cause = standing.cause;
            let followers = extras.followers.as_ref();
            let waiting = followers.map_or(0, |followers| followers.line.len());
            if waiting == 0 && !clock::passed(standing.place.deadline) {
                standing.lapsed = true;
                return;
            }
            let others = followers.is_some_and(|followers| {
                followers.line.values().any(|place| self.may_lead(cause, &place.terms))
            });
            self.take_back(&here, &mut line, place, Some(ticket), &mut after);
            if others {
                self.offer_on(&here, &mut line, place, cause, &mut after);
            } else {
                self.unled(&here, &mut line, place, cause, &mut after);
            }
        }
        self.finish(after);
    }

    /// A follower goes away for good, and passes on what was offered to it.
    pub(super) fn give_up(&self, hash: u32, seat: &Arc<Seat>) {
        let mut after = After::default();
        let seated = {
            let here = self.here();
            let mut line = self.index.hold(hash);
            let seated = take_seat(&here, &mut line, seat.ticket.load(Ordering::Relaxed));
            if seated.is_none()
                && let Some(place) = find_flight(&mut line, |flight| flight.offered_to(seat))
                && let Some(extras) = line.flight(place).extras_mut()
                && let Some(standing) = extras.standing.take()
            {
                let flight = line.flight(place);
                match (flight.detached(), flight.lead()) {
                    (false, _) => {
                        self.offer_on(&here, &mut line, place, standing.cause, &mut after);
                    }
                    (true, None) => self.end_detached(&here, &mut line, place, &mut after),
                    (true, Some(_)) => self.restart_followers(&here, &mut line, place, &mut after),
                }
            }
            seated
        };
        drop(seated);
        self.finish(after);
    }

    /// Drops one flight that lost its leader and that nobody waits for, to make room for another.
    /// Its attempts are forgotten, which policy HOLD forbids unless nobody can see it any more.
    pub(super) fn reclaim_lost(&self) -> bool {
        // A refused begin must not cost a look at every flight: none is lost before this moment.
        let now = clock::now();
        if now < self.shared.losses_from.load(Ordering::Relaxed) {
            return false;
        }
        self.shared.losses_from.store(NEVER, Ordering::Relaxed);
        let mut next = NEVER;
        let found = self.reclaim_one(&mut next);
        if found {
            self.expect_losses(now);
        } else if next != NEVER {
            // One that is overdue and not lost has a line, or is held: no hurry to look again.
            self.expect_losses(next.max(now + 100 * MILLISECOND));
        }
        found
    }

    /// Walks from the line where the last one was found. `next` becomes the first moment at which a
    /// flight looked at may be lost.
    fn reclaim_one(&self, next: &mut Moment) -> bool {
        let hand = &self.shared.losses_hand;
        let start = hand.load(Ordering::Relaxed);
        let mut ends_here = |number| {
            let found = self.reclaim_in(number, next);
            if found {
                hand.store(number, Ordering::Relaxed);
            }
            found
        };
        // All lines once; and then those that came to be meanwhile, since what parts from a line
        // goes to one with a higher number.
        let mut end = start;
        while end < self.index.len() {
            if ends_here(end) {
                return true;
            }
            end += 1;
        }
        (0..start).any(&mut ends_here) || (end..self.index.len()).any(ends_here)
    }

    /// `next` becomes the first moment at which a flight looked at may be lost.
    fn reclaim_in(&self, number: usize, next: &mut Moment) -> bool {
        let mut after = After::default();
        let found = {
            let here = self.here();
            let mut line = self.index.hold_line(number);
            let lost = find_flight(&mut line, |flight| {
                let lost = self.lost(flight);
                if !lost {
                    *next = flight.lease_until.min(*next);
                }
                lost
            });
            if let Some(place) = lost {
                let verdict = || Verdict::Failed(ErrorKind::Overloaded);
                self.end(&here, &mut line, place, verdict, &mut after);
            }
            lost.is_some()
        };
        self.finish(after);
        found
    }

    fn lost(&self, flight: &Flight<F>) -> bool {
        let hold = self.config.on_lease_expired == OnLeaseExpired::Hold;
        (!hold || flight.detached())
            && flight.waiting() == 0
            && flight.standing().is_none()
            && flight.overdue()
    }

    /// Makes room in the window: of 16 responses, or all if there are fewer, the one goes that would
    /// expire soonest. The next time others are looked at.
    pub(super) fn evict(&self) {
        const SAMPLE: usize = 16;
        let start = self.shared.window.hand.load(Ordering::Relaxed);
        let mut soonest: Option<(Moment, usize)> = None;
        let (mut seen, mut number, mut around) = (0, start, false);
        while seen < SAMPLE {
            let Some(marked) = self.index.marked_from(number) else {
                if around {
                    break;
                }
                (number, around) = (0, true);
                continue;
            };
            if around && marked >= start {
                break;
            }
            number = marked + 1;
            let (there, first) = self.look_over(marked);
            seen += there;
            if soonest.is_none_or(|(soonest, _)| first < soonest) && first != NEVER {
                soonest = Some((first, marked));
            }
        }
        self.shared.window.hand.store(number, Ordering::Relaxed);
        let Some((expires, number)) = soonest else {
            // Somebody else is between counting a response in and showing it, or evicted it.
            crate::sync::yield_now();
            return;
        };
        let after = {
            let here = self.here();
            let mut line = self.index.hold_line(number);
            let is = |view: &mut View<'_, F>| matches!(view, View::Completed(response) if response.expires() <= expires);
            let Some(place) = line.find_any(is) else { return };
            here.tally.evictions.add(u64::from(clock::before(expires)));
            self.drop_completed(&mut line, place)
        };
        self.finish(after);
    }

    /// How many responses stand in a line, and when the first of them expires.
    fn look_over(&self, number: usize) -> (usize, Moment) {
        let (mut seen, mut first) = (0, NEVER);
        let mut line = self.index.hold_line(number);
        line.find_any(|view| {
            if let View::Completed(response) = view {
                seen += 1;
                first = first.min(response.expires());
            }
            false
        });
        if seen == 0 {
            self.index.unmark(number);
        }
        (seen, first)
    }

    /// Drops what has expired, a line at a time.
    fn sweep(&self) {
        let window = &self.shared.window;
        let began = clock::now();
        {
            let mut sweep = window.sweep.lock();
            self.stop_alarm(&mut sweep);
            sweep.under_way = true;
            window.soonest.store(NEVER, Ordering::Relaxed);
        }
        let (mut next, mut number, mut elsewhere) = (NEVER, 0, 0);
        while let Some(marked) = self.index.marked_from(number) {
            number = marked + 1;
            while let Some(after) = self.sweep_line(marked, &mut next) {
                let left = clock::now();
                // A destructor's panic is its owner's; the others still go.
                let _ = catch_unwind(AssertUnwindSafe(|| self.finish(after)));
                elsewhere += clock::now() - left;
            }
        }
        let mut sweep = window.sweep.lock();
        sweep.under_way = false;
        // A walk takes long where there is much to look at; it is not to take up a processor.
        let now = clock::now();
        let walked = (now - began).saturating_sub(elsewhere);
        sweep.not_before = now + (10 * walked).min(1000 * MILLISECOND);
        let next = next.min(window.soonest.load(Ordering::Relaxed));
        if next != NEVER && !self.is_closed() {
            window.soonest.store(next, Ordering::Relaxed);
            self.set_alarm(&mut sweep, next);
        }
    }

    /// Takes an expired response out; `next` becomes the first moment at which another will be.
    fn sweep_line(&self, number: usize, next: &mut Moment) -> Option<After<F>> {
        let mut line = self.index.hold_line(number);
        match find_expired(&mut line, next) {
            Found::Expired(place) => return Some(self.drop_completed(&mut line, place)),
            Found::Kept => {}
            Found::Nothing => self.index.unmark(number),
        }
        None
    }

    /// Has the reaper come soon after `expires`, unless it comes earlier anyway. Look-ups are exact
    /// without it.
    #[inline]
    pub(super) fn schedule_sweep(&self, expires: Moment) {
        if expires < self.shared.window.soonest.load(Ordering::Relaxed) {
            self.expires_sooner(expires);
        }
    }

    #[cold]
    fn expires_sooner(&self, expires: Moment) {
        let window = &self.shared.window;
        let mut sweep = window.sweep.lock();
        if expires < window.soonest.load(Ordering::Relaxed) && !self.is_closed() {
            window.soonest.store(expires, Ordering::Relaxed);
            if !sweep.under_way {
                self.set_alarm(&mut sweep, expires);
            }
        }
    }

    /// A short delay lets the reaper take many at once.
    fn set_alarm(&self, sweep: &mut Sweep, expires: Moment) {
        const DELAY: u64 = 10 * MILLISECOND;
        let at = expires.saturating_add(DELAY).max(sweep.not_before);
        if sweep.alarm.is_none_or(|alarm| at < alarm.at()) {
            self.stop_alarm(sweep);
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            sweep.alarm = Some(self.reaper.set(at, me, Alarm::Sweep));
        }
    }

    /// At most one alarm to sweep is ever set.
    pub(super) fn stop_alarm(&self, sweep: &mut Sweep) {
        if let Some(alarm) = sweep.alarm.take() {
            self.reaper.cancel(alarm);
        }
    }
}

/// What a line has for the reaper.
enum Found {
    Expired(Place),
    /// Responses, but none that has expired.
    Kept,
    Nothing,
}

/// A response that has expired; `next` becomes the first moment at which one looked at will have.
fn find_expired<F: Form>(line: &mut Guard<'_, F>, next: &mut Moment) -> Found {
    let (mut now, mut found) = (0, Found::Nothing);
    let expired = line.find_any(|view| {
        let View::Completed(response) = view else { return false };
        if now == 0 {
            now = clock::now();
        }
        let expires = response.expires();
        if expires > now {
            *next = expires.min(*next);
            found = Found::Kept;
        }
        expires <= now
    });
    expired.map_or(found, Found::Expired)
}
