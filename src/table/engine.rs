//! The insides of a table: its index, limits and timers, and what the verbs in `begin`, `settle`,
//! `clear` and `upkeep` share. The hash of a key comes from outside: nothing here knows the hasher.

use std::num::NonZero;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::builder::Config;
use super::flight::{Extras, Flight, Followers, LeadId, Offer, Terms};
use super::form::Form;
use super::index::Index;
use super::line::{Entry, Guard, Place, View};
use super::local::{Here, Local, Locals};
use super::seat::{Room, Seat, Told, Verdict};
use super::stats::Stats;
use super::window::Window;
use crate::clock::{self, Moment, NEVER};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize};
use crate::timer::{Alarm, Alarmed, Kind, Timer};

pub(crate) struct Inner<F: Form> {
    pub form: F,
    pub config: Config,
    /// What a request asks for that asks for nothing.
    pub usual: Terms,
    pub(super) index: Index<F>,
    pub(super) locals: Locals<F>,
    generation: u64,
    /// Set before the lines are emptied, and read while one is held: so whoever enters a line
    /// after it was emptied sees it.
    pub(super) closed: AtomicBool,
    pub(super) me: Weak<Self>,
    pub(super) alarms: Arc<Timer>,
    pub(super) reaper: Arc<Timer>,
    /// On cache lines of its own: what follows changes, what stands above is only read.
    pub(super) shared: Shared,
}

/// What all threads change.
#[repr(align(128))]
pub(super) struct Shared {
    /// Places among the flights that are taken, or held as some thread's credit.
    in_flight: AtomicUsize,
    /// The earliest moment at which some flight may have lost its leader: before it there is none
    /// to look for.
    pub losses_from: AtomicU64,
    /// The line where one was found last.
    pub losses_hand: AtomicUsize,
    pub window: Window,
}

/// One request to begin.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub terms: Terms,
    pub fingerprint: Option<&'a [u8]>,
    /// Whether to stand in line if the key is in flight, and how.
    pub follow: Follow,
    /// When a follower that doesn't block leaves the line by itself.
    pub deadline: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    No,
    /// A thread will block in the seat at once.
    Blocking,
    /// The follower will be told through its waker, or will come and look.
    Later,
}

/// A lead as it is given.
#[derive(Clone, Copy)]
pub(crate) struct Granted {
    pub id: LeadId,
    pub attempt: u32,
}

pub(crate) enum Step<F: Form> {
    Lead(Granted),
    Replay(F::Response),
    Follow(Joined<F>),
}

/// A place in line, and a hold on the table's insides. It is made before the line is let go and the place is
/// counted: whoever sees that a thread waits may free the table's handle under it.
pub(crate) struct Joined<F: Form> {
    pub(super) inner: Arc<Inner<F>>,
    pub(super) room: Arc<Room<F>>,
    pub(super) seat: Arc<Seat>,
}

/// What a transition leaves to be done once its line is let go.
pub(super) struct After<F: Form> {
    /// The followers of a flight that ended. The room goes here too, since the last hold on it
    /// drops the outcome, which is a user value.
    pub dismissed: Option<Followers<F>>,
    /// A follower that the lead was offered to.
    pub offer: Option<Offer>,
    /// An offer that was revoked.
    pub revoked: Option<(Arc<Seat>, LeadId)>,
    /// A follower whose time was up while it held an offer.
    pub timed_out: Option<Arc<Seat>>,
    /// Dropped with nothing locked: it holds user values.
    pub garbage: Option<Entry<F>>,
}

impl<F: Form> Default for After<F> {
    fn default() -> Self {
        Self { dismissed: None, offer: None, revoked: None, timed_out: None, garbage: None }
    }
}

impl<F: Form> After<F> {
    pub fn drop_entry(entry: Entry<F>) -> Self {
        Self { garbage: Some(entry), ..Self::default() }
    }
}

impl<F: Form> Followers<F> {
    /// Tells them that the outcome is there.
    pub fn dismiss(self) {
        self.room.gate.open();
        for place in self.line.values().filter(|place| !place.seat.blocking) {
            place.seat.tell(Told::Look);
        }
    }
}

impl<F: Form> Inner<F> {
    pub fn new(form: F, config: Config) -> Arc<Self> {
        // Before the timers, which must be this generation's.
        let generation = fork::enrol();
        let usual = Terms {
            lease: config.lease_of(config.lease),
            ttl: clock::span(config.completed_ttl),
            thread: 0,
            recover: false,
        };
        Arc::new_cyclic(|me| Self {
            form,
            usual,
            index: Index::new(),
            locals: Locals::new(config.max_in_flight),
            generation,
            closed: AtomicBool::new(false),
            me: Weak::clone(me),
            alarms: Timer::shared(Kind::Transition),
            reaper: Timer::shared(Kind::Reaping),
            shared: Shared {
                in_flight: AtomicUsize::new(0),
                losses_from: AtomicU64::new(NEVER),
                losses_hand: AtomicUsize::new(0),
                window: Window::new(config.max_completed, config.max_bytes),
            },
            config,
        })
    }

    #[inline(always)]
    pub fn forked(&self) -> bool {
        fork::generation() != self.generation
    }

    #[inline(always)]
    pub fn check_fork(&self) -> Result<(), Error> {
        if self.forked() { Err(ErrorKind::Forked.into()) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn here(&self) -> Here<'_, F> {
        self.locals.here()
    }

    #[inline(always)]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub fn stats(&self) -> Stats {
        if self.forked() {
            return Stats::default();
        }
        let mut stats = self.locals.sum();
        (stats.completed, stats.completed_bytes) = self.shared.window.held();
        stats
    }

    /// A place for one more flight.
    #[inline(always)]
    pub(super) fn reserve(&self, here: &Local<F>) -> bool {
        match here.credit.get() {
            0 => self.draw_credit(here),
            credit => {
                here.credit.set(credit - 1);
                true
            }
        }
    }

    #[cold]
    fn draw_credit(&self, here: &Local<F>) -> bool {
        [here.batch, 1].into_iter().any(|places| {
            let drawn =
                self.shared.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                    now.checked_add(places).filter(|sum| *sum <= self.config.max_in_flight)
                });
            if drawn.is_ok() {
                here.credit.set(places - 1);
            }
            drawn.is_ok()
        })
    }

    /// One flight fewer.
    #[inline(always)]
    pub(super) fn landed(&self, here: &Local<F>) {
        here.tally.landed.up();
        let credit = here.credit.get() + 1;
        if credit < here.enough {
            here.credit.set(credit);
        } else {
            // Others may need them more.
            self.shared.in_flight.fetch_sub(here.batch, Ordering::Relaxed);
            here.credit.set(credit - here.batch);
        }
    }

    /// Wakes whom a transition concerns, and drops what it left. No line may be held.
    pub(super) fn finish(&self, after: After<F>) {
        let After { dismissed, offer, revoked, timed_out, garbage } = after;
        if let Some((seat, id)) = revoked {
            seat.lapse(id);
        }
        if let Some(seat) = timed_out {
            seat.tell(Told::TimedOut);
        }
        if let Some(offer) = offer {
            offer.seat.tell(Told::Offer(offer.id));
        }
        if let Some(followers) = dismissed {
            followers.dismiss();
        }
        if let Some(Entry::Flying(mut flight)) = garbage {
            let key = F::clear(&mut flight.key);
            let extras = flight.take_extras();
            self.here().keep_spare(flight);
            drop((key, extras));
        }
    }

    /// An alarm for a lease, if somebody needs it: a follower in line.
    pub(super) fn watch_lease(&self, hash: u32, flight: &mut Flight<F>) {
        let at = flight.lease_until;
        let Some(id) = flight.lead() else { return };
        if at == NEVER {
            return;
        }
        self.expect_losses(at);
        let waiting = flight.waiting() > 0;
        let Some(extras) = flight.extras_mut() else { return };
        // With an offer made, the alarm is the offer's.
        let watched = extras.alarm.is_some_and(|(lead, _)| lead == id);
        if extras.standing.is_none() && !watched && waiting {
            self.unwatch(flight);
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            let alarm = (id, self.alarms.set(at, me, Alarm::Lease { hash, id }));
            flight.widen(&self.usual).alarm = Some(alarm);
        }
    }

    /// From `at` on a flight may be without its leader.
    pub(super) fn expect_losses(&self, at: Moment) {
        // Looked at first: a line that every begin wrote would be fought over.
        if at < self.shared.losses_from.load(Ordering::Relaxed) {
            self.shared.losses_from.fetch_min(at, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn unwatch(&self, flight: &mut Flight<F>) {
        if let Some(extras) = flight.extras_mut()
            && let Some((_, alarm)) = extras.alarm.take()
        {
            self.alarms.cancel(alarm);
        }
    }

    /// An alarm for an offer that may go unread.
    pub(super) fn watch_offer(&self, hash: u32, flight: &mut Flight<F>, offer: &Offer) {
        let id = offer.id;
        self.unwatch(flight);
        if !offer.seat.blocking {
            let at = clock::after(clock::span(self.config.offer));
            if at != NEVER {
                let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
                let alarm = (id, self.alarms.set(at, me, Alarm::Offer { hash, id }));
                flight.widen(&self.usual).alarm = Some(alarm);
            }
        }
    }

    /// Gives a flight's followers their outcome and empties its line. A follower with an unaccepted
    /// offer gets it too. With no follower nothing is allocated and nobody is told.
    #[inline(always)]
    pub(super) fn dismiss(
        &self,
        here: &Local<F>,
        flight: &mut Flight<F>,
        verdict: impl FnOnce() -> Verdict<F>,
    ) -> Option<Followers<F>> {
        let extras = flight.extras_mut()?;
        Self::dismiss_extras(here, extras, verdict)
    }

    fn dismiss_extras(
        here: &Local<F>,
        extras: &mut Extras<F>,
        verdict: impl FnOnce() -> Verdict<F>,
    ) -> Option<Followers<F>> {
        let mut followers = extras.followers.take()?;
        here.tally.left.add(followers.line.len() as u64);
        if let Some(standing) = extras.standing.take() {
            followers.line.insert(0, standing.place);
        }
        if !followers.line.is_empty() {
            let _ = followers.room.outcome.set(verdict());
        }
        followers.room.leader.store(0, Ordering::Relaxed);
        Some(followers)
    }

    /// Takes a flight out of its line: its key is vacant. The caller dismisses its followers.
    #[inline(always)]
    pub(super) fn land(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
    ) -> Box<Flight<F>> {
        let Entry::Flying(mut flight) = line.remove(place, &self.index.crowded) else {
            unreachable!("the place of a flight")
        };
        self.unwatch(&mut flight);
        self.landed(here);
        flight
    }
}

/// The flight that `id` leads.
#[inline(always)]
pub(super) fn find_lead<F: Form>(
    line: &mut Guard<'_, F>,
    tag: Option<NonZero<u8>>,
    id: LeadId,
) -> Option<Place> {
    let led = |view: &mut View<'_, F>| matches!(view, View::Flying(flight) if flight.led_by(id));
    match tag {
        Some(tag) => line.find(tag.get(), led),
        None => line.find_any(led),
    }
}

/// The flight in that line that is the one.
pub(super) fn find_flight<F: Form>(
    line: &mut Guard<'_, F>,
    mut which: impl FnMut(&Flight<F>) -> bool,
) -> Option<Place> {
    line.find_any(|view| matches!(view, View::Flying(flight) if which(flight)))
}
