#!/usr/bin/env bash
# Breaks the table in one place at a time and demands that a model fails for it: `make verify`.
#
# When a control fails, and its arguments: tests/support/control.sh.
. "$(dirname "$0")/../support/control.sh"

export RUSTFLAGS="--cfg onceflight_shuttle"
export ONCEFLIGHT_SCHEDULES=${ONCEFLIGHT_SCHEDULES:-20000}
# Each control compiles once and runs briefly.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_INCREMENTAL=true
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true

models=(cargo test --locked --quiet --release --test models)
shows='failing schedule' # or it failed for another reason

build() { "${models[@]}" --no-run; }

run() { timeout 120 "${models[@]}" -- --exact "$1"; }

# broken NAME MODEL FILE PERL: with FILE changed by PERL, MODEL must fail.
broken() { control "$@"; }

broken followers-not-told settle::complete_is_shared src/table/engine.rs \
    's/self\.room\.gate\.open\(\);//'

broken offer-not-told settle::cancel_promotes_in_order src/table/engine.rs \
    's/offer\.seat\.tell\(Told::Offer\(offer\.id\)\);/let _ = offer;/'

broken drop-does-not-abandon settle::a_panic_is_succeeded src/table/lead.rs \
    's/(fn drop\b.*?)self\.inner\.abandon\(self\.at(\(\))?\)\.is_err\(\)/$1false/s'

broken overtaken-lead-still-settles offer::completed_while_the_offer_is_accepted src/table/flight.rs \
    's/(fn succeed\b.*?)self\.lead = id;/$1if self.lead == 0 {\n            self.lead = id;\n        }/s'

broken offered-one-not-dismissed hold::recovered_or_completed src/table/engine.rs \
    's/followers\.line\.insert\(0, standing\.place\);/drop(standing);/'

broken cancel-told-as-takeover offer::cancelled_while_the_offer_is_accepted src/table/settle.rs \
    's/=> standing\.cause = cause,/=> drop(standing.cause),/'

broken renewal-leaves-the-offer offer::renewed_while_the_offer_is_accepted src/table/settle.rs \
    's/(fn renew\b.*?)(self\.take_back\(.*?\);)/$1if false {\n $2 }/s'

broken taken-back-out-of-line offer::renewed_while_the_offer_is_accepted src/table/settle.rs \
    's/followers\.line\.insert\(seated\.seat\.ticket.*?, seated\);/let _ = followers;/s'

broken offered-twice offer::abandoned_while_the_offer_is_accepted src/table/settle.rs \
    's/Some\(_\) => \{\}(\s*None => )(self\.offer_on\(.*?\)),/Some(_) => $2,$1$2,/s'

broken lapsed-offer-not-passed-on offer::joined_and_renewed_while_lapsing src/table/upkeep.rs \
    's/if waiting == 0 && !clock/if waiting < 9 && !clock/'

broken lapsed-offer-not-for-begin offer::joined_and_renewed_while_lapsing src/table/begin.rs \
    's/if lapsed \{/if lapsed && false {/'

broken older-offer-overwrites-newer offer::offered_again src/table/seat.rs \
    's/\(Told::Offer\(newer\), Told::Offer\(id\)\) if newer > id => \{\}//'

broken lapse-takes-any-offer offer::lapsing_while_accepted src/table/seat.rs \
    's/if state\.told == Told::Offer\(id\) \{/if matches!(state.told, Told::Offer(_) if id > 0) {/'

broken dropped-offer-not-passed-on offer::dropped_while_offered src/table/upkeep.rs \
    's/(fn give_up\b.*?)\|flight\| flight\.offered_to\(seat\)/$1|_| false/s'

broken place-kept-after-leaving offer::dropped_while_offered src/table/begin.rs \
    's/(fn take_seat\b.*?\.line)\.remove\(&ticket\)\?;/$1.get(&ticket).map(|at| Seated { seat: Arc::clone(&at.seat), ..*at })?;/s'

broken promoted-one-leaves lease::promoted_while_timing_out src/table/begin.rs \
    's/(fn leave\b.*?take_seat\(.*?\)\.is_some\(\)) \{/$1 || timed_out {/s'

broken promoted-lease-not-watched lease::a_promoted_leader_is_watched_too src/table/begin.rs \
    's/(fn succeed\b.*?)self\.watch_lease\(flight\.hash, flight\);/$1/s'

broken renewal-not-seen-by-the-alarm lease::renewed_is_safe src/table/upkeep.rs \
    's/if !flight\.overdue\(\) \{/if false {/'

broken anyone-recovers hold::abandoned src/table/settle.rs \
    's/\|\| !held \|\| terms\.recover/|| !held || terms.recover || true/'

broken unknown-line-not-dismissed hold::the_one_that_recovers_leaves src/table/settle.rs \
    's/(after\.dismissed = self\.dismiss\(here, flight, verdict\);)/if false {\n $1 }/'

broken forgotten-flight-visible forget::then_complete src/table/begin.rs \
    's/(fn find\b.*?)&& !flight\.detached\(\)/$1/s'

broken retained-after-close close::with_everything_in_flight src/table/settle.rs \
    's/(admits\(weight\)\s*)&& !self\.is_closed\(\)/$1/'

broken orphan-kept-after-close close::while_abandoned src/table/settle.rs \
    's/\(cause == Cause::Cancelled \|\| self\.is_closed\(\)\)/(cause == Cause::Cancelled)/'

# `before` decides about every replay, the fast one too.
broken replayed-at-its-end window::replay_or_expiry src/clock.rs \
    's/(fn before\b.*?)!passed\(deadline\)/$1now() <= deadline/s'

broken bound-checked-then-taken window::one_makes_room_for_the_other src/table/window.rs \
    's/counter\s*\.fetch_update\(.*?\.is_ok\(\)/let now = counter.load(Ordering::Relaxed);\n    if now + amount <= max {\n        counter.store(now + amount, Ordering::Relaxed);\n    }\n    now + amount <= max/s'

broken reservation-leaks bounds::an_unused_place_is_given_back src/table/begin.rs \
    's/(fn begin_in_full\b.*?)(if let Some\(place\) = find\(.*?)if !self\.reserve\(&here\) \{/$1let reserved = self.reserve(&here);\n$2if !reserved {/s'

broken edge-not-published deadlock::a_ring_of_two src/table/deadlock.rs \
    's/edges\.insert\(me, Arc::clone\(leader\)\);//'

broken watchers-not-told offer::the_receiver_rings_at_the_end src/table/engine.rs \
    's/place\.seat\.tell\(Told::Look\);/let _ = place;/'

broken lines-shown-before-they-are-there grow::never_lost_and_never_twice src/table/index.rs \
    's/(let _ = self\.segments\[level\]\.set\(.*?\);)(\s*)(self\.level\.store\(level \+ 1, Ordering::\w+\);)/$3$2crate::sync::yield_now();$2$1/s'

broken born-before-they-have-their-entries grow::never_lost_and_never_twice src/table/index.rs \
    's/Line::new\(UNBORN\)/Line::new(level + 1)/'

broken left-behind grow::never_lost_and_never_twice src/table/line.rs \
    's/while (let Some\(place\) = self\.find_any\(goes\))/if $1/'

broken parted-twice grow::never_lost_and_never_twice src/table/index.rs \
    's/(let mut parent = .*?;)(.*?if parent\.level\(\) == before \{)(\s*)/$1$2$3drop(parent);$3$1$3/s'

broken unborn-parent-taken-for-parted grow::twice src/table/index.rs \
    's/if parent\.level\(\) == UNBORN \|\| parent\.level\(\) < before \{/if parent.level() < before {/'

broken looked-for-where-it-was grow::never_lost_and_never_twice src/table/index.rs \
    's/(fn hold\b.*?)if line\.level\(\) == 0 \{/$1if line.level() < UNBORN {/s'

# Twins draw from one counter, or from what the line had come to: here from neither.
broken fences-begin-anew grow::fences_go_on src/table/line.rs \
    's/(twin\.set_sequence\()self\.sequence\(\)\.next_multiple_of\(BLOCK\)/${1}0/; s/(const COUNTERS: usize) = .*?;/$1 = 1 << 10;/'

broken closed-while-it-grows grow::closed_meanwhile src/table/clear.rs \
    's/self\.index\.settle\(\);//'

broken grows-though-closed grow::closed_meanwhile src/table/index.rs \
    's/if closed\(\) \|\| /if closed() \&\& false || /'

broken call-not-passed-on gate::misheard src/table/seat.rs \
    's/(calls\.cried = true;\s*)self\.bell\.notify_all\(\);/$1/'

broken one-call-at-a-time offer::lapsed_with_nobody_else src/table/seat.rs \
    's/calls\.called \+= usize::from\((!seat\.called\.swap\(true, Ordering::Relaxed\))\);/if $1 {\n calls.called = 1;\n }/; s/calls\.called -= 1;/calls.called = 0;/'

broken cried-once-and-for-all gate::two_calls_at_once src/table/seat.rs \
    's/calls\.cried = false;//'

broken turn-wakes-nobody turn::all_return src/table/seat.rs \
    's/(impl Drop for Turn\b.*?)self\.gate\.bell\.notify_one\(\);/$1/s'

broken usher-wakes-nobody turn::all_return src/table/seat.rs \
    's/(Door::Ushered;\s*)self\.bell\.notify_one\(\);/$1/'

broken usher-not-told-of-the-last turn::all_return src/table/seat.rs \
    's/Door::Ushered if calls\.sleepers == 0 => self\.emptied\.notify_one\(\),//'

broken usher-without-patience turn::a_turn_that_does_not_end src/table/seat.rs \
    's/if calls\.sleepers == before \|\| /if /'

broken closed-asked-before-the-line-is-held close::while_joining src/table/begin.rs \
    's/(fn begin_in_full\b.*?)(let mut line = self\.index\.hold\(spot\.hash\(\)\);\s*if )self\.is_closed\(\)/$1let closed = self.is_closed();\n$2closed/s'

broken kept-as-closed-was-asked-before close::with_everything_in_flight src/table/settle.rs \
    's/(fn complete_in_full\b.*?)(let \(mut line, place\) = match self\.lead\(.*?&& )!self\.is_closed\(\)/$1let closed = self.is_closed();\n$2!closed/s'

broken limit-looked-at-then-taken bounds::never_more_than_allowed src/table/engine.rs \
    's/(fn draw_credit\b.*?let drawn =\s*)self\.shared\.in_flight\.fetch_update\(.*?\}\);/$1\{\n let now = self.shared.in_flight.load(Ordering::Relaxed);\n let fits = now + places <= self.config.max_in_flight;\n if fits {\n self.shared.in_flight.store(now + places, Ordering::Relaxed);\n }\n fits.then_some(()).ok_or(())\n };/s'

broken place-never-given-back bounds::never_more_than_allowed src/table/engine.rs \
    's/self\.shared\.in_flight\.fetch_sub\((here\.)?batch, Ordering::Relaxed\);//'

broken completed-during-the-walk-forgotten window::completed_during_the_walk src/table/upkeep.rs \
    's/next\.min\(window\.soonest\.load\(Ordering::Relaxed\)\)/next/'

broken found-by-the-walk-forgotten window::a_long_walk src/table/upkeep.rs \
    's/if expires > now \{/if expires > now \&\& false {/'

broken walk-without-end-of-it window::a_long_walk src/table/upkeep.rs \
    's/sweep\.under_way = false;//'

broken mark-does-not-go-along grow::swept_meanwhile src/table/index.rs \
    's/self\.mark\(high\);//'

broken lines-that-came-meanwhile-not-looked-at grow::reclaimed_meanwhile src/table/upkeep.rs \
    's/(fn reclaim_one\b.*?)(let mut end = start;\s*while end < )self\.index\.len\(\)(.*?)self\.index\.len\(\)/$1let lines = self.index.len();\n$2lines$3lines/s'

broken line-that-holds-one-unmarked window::replay_or_expiry src/table/upkeep.rs \
    's/found = Found::Kept;//'

finish
