#!/usr/bin/env bash
# Breaks the table in one place at a time and demands that a model fails for it: `make verify`.
#
# A control fails if its patch no longer applies, if the broken table doesn't compile, if the model
# passes, or if it fails without a schedule to show for it. Arguments choose controls by name.
set -euo pipefail
cd "$(dirname "$0")/../.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/controls}
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
export RUSTFLAGS="--cfg onceflight_shuttle" RUST_BACKTRACE=0
export ONCEFLIGHT_SCHEDULES=${ONCEFLIGHT_SCHEDULES:-20000}
# Each control compiles once and runs briefly.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_INCREMENTAL=true
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
tar --exclude=./target --exclude=./.git -c . | tar -x -C "$tree"
cd "$tree"

wanted=("$@")
ran=0
failed=0

# broken NAME MODEL FILE PERL: with FILE changed by PERL, MODEL must fail.
broken() {
    local name=$1 model=$2 file=$3 change=$4 log="$tree/control.log" sound="$tree/control.sound" verdict
    [[ ${#wanted[@]} == 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
    ran=$((ran + 1))
    cp "$file" "$sound"
    perl -0pi -e "$change" "$file"
    if cmp -s "$file" "$sound"; then
        verdict="the patch no longer applies to $file"
    elif ! cargo test --locked --quiet --release --test models --no-run >"$log" 2>&1; then
        verdict="the broken table doesn't compile"
    elif timeout 120 cargo test --locked --quiet --release --test models -- --exact "$model" >"$log" 2>&1; then
        verdict="$model passes all the same"
    elif ! grep -q 'failing schedule' "$log"; then
        verdict="$model fails, but shows no schedule"
    else
        verdict=
    fi
    # Copied anew, so that its time is a new one too: cargo goes by that.
    cp "$sound" "$file"
    if [[ -z $verdict ]]; then
        echo "ok: $name: $model fails"
    else
        failed=$((failed + 1))
        echo "FAILED: $name: $verdict"
        [[ ! -s $log ]] || tail -n 15 "$log"
    fi
}

broken followers-not-told settle::complete_is_shared src/table/shard.rs \
    's/place\.seat\.tell\(Told::Look\);/let _ = place;/'

broken offer-not-told settle::cancel_promotes_in_order src/table/shard.rs \
    's/offer\.seat\.tell\(Told::Offer\(offer\.id\)\);/let _ = offer;/'

broken drop-does-not-abandon settle::a_panic_is_succeeded src/table/lead.rs \
    's/if self\.live && self\.inner/if !self.live && self.inner/'

broken overtaken-lead-still-settles offer::completed_while_the_offer_is_accepted src/table/flight.rs \
    's/self\.lead = Some\(id\);/self.lead = self.lead.or(Some(id));/'

broken offered-one-not-dismissed hold::recovered_or_completed src/table/shard.rs \
    's/followers\.line\.insert\(0, standing\.place\);/drop(standing);/'

broken cancel-told-as-takeover offer::cancelled_while_the_offer_is_accepted src/table/settle.rs \
    's/standing\.cause = cause;/let _ = &standing.cause;/'

broken renewal-leaves-the-offer offer::renewed_while_the_offer_is_accepted src/table/settle.rs \
    's/(state\.take_back\(hash, number, false, &mut after\);)/if number == 0 { $1 }/'

broken taken-back-out-of-line offer::renewed_while_the_offer_is_accepted src/table/shard.rs \
    's/followers\.line\.insert\(place\.seat\.ticket.*?, place\);/let _ = followers;/'

broken offered-twice offer::abandoned_while_the_offer_is_accepted src/table/settle.rs \
    's/if !on_offer \{/if !on_offer || true {/'

broken lapsed-offer-not-passed-on offer::joined_and_renewed_while_lapsing src/table/upkeep.rs \
    's/if waiting == 0 && !clock/if waiting < 9 && !clock/'

broken lapsed-offer-not-for-begin offer::joined_and_renewed_while_lapsing src/table/begin.rs \
    's/if lapsed \{/if lapsed && false {/'

broken older-offer-overwrites-newer offer::offered_again src/table/seat.rs \
    's/\(Told::Offer\(newer\), Told::Offer\(id\)\) if newer > id => \{\}//'

broken lapse-takes-any-offer offer::lapsing_while_accepted src/table/seat.rs \
    's/if state\.told == Told::Offer\(id\) \{/if matches!(state.told, Told::Offer(_) if id > 0) {/'

broken dropped-offer-not-passed-on offer::dropped_while_offered src/table/upkeep.rs \
    's/\|record: &Record<K, V>\| record\.offered_to\(seat\);/|_: &Record<K, V>| false;/'

broken place-kept-after-leaving offer::dropped_while_offered src/table/begin.rs \
    's/\.line\.remove\(&ticket\)\?;/.line.get(&ticket).map(|at| Place { seat: Arc::clone(&at.seat), ..*at })?;/'

broken promoted-one-leaves lease::promoted_while_timing_out src/table/begin.rs \
    's/(take_place\(&mut state, hash, seat\.ticket\.load\(Ordering::Relaxed\)\)\.is_some\(\)) \{/$1 || timed_out {/'

broken promoted-lease-not-watched lease::a_promoted_leader_is_watched_too src/table/begin.rs \
    's/(self\.unwatch\(flight\);)\s*self\.watch_lease\(hash, flight\);/$1/'

broken renewal-not-seen-by-the-alarm lease::renewed_is_safe src/table/upkeep.rs \
    's/if !flight\.overdue\(\) \{/if false {/'

broken anyone-recovers hold::abandoned src/table/settle.rs \
    's/\|\| !held \|\| terms\.recover/|| !held || terms.recover || true/'

broken unknown-line-not-dismissed hold::the_one_that_recovers_leaves src/table/settle.rs \
    's/after\.dismissed = dismiss\(tally, flight, \|\| Verdict::Failed\(ErrorKind::Unknown\)\);/let _ = (tally, &after.dismissed);/'

broken forgotten-flight-visible forget::then_complete src/table/shard.rs \
    's/self\.flight\(\)\.is_none_or\(\|flight\| !flight\.detached\)/self.flight().is_none_or(|_| true)/'

broken retained-after-close close::with_everything_in_flight src/table/settle.rs \
    's/if !retain \|\| state\.closed \{/if !retain {/'

broken orphan-kept-after-close close::while_abandoned src/table/settle.rs \
    's/\(cause == Cause::Cancelled \|\| closed\) \{/(cause == Cause::Cancelled || closed && false) {/'

broken replayed-at-its-end window::replay_or_expiry src/table/begin.rs \
    's/clock::now\(\) < completed\.expires/clock::now() <= completed.expires/'

broken bound-checked-then-taken window::one_makes_room_for_the_other src/table/window.rs \
    's/counter\s*\.fetch_update\(.*?\.is_ok\(\)/let now = counter.load(Ordering::Relaxed);\n    if now + amount <= max {\n        counter.store(now + amount, Ordering::Relaxed);\n    }\n    now + amount <= max/s'

broken reservation-leaks bounds::an_unused_place_is_given_back src/table/engine.rs \
    's/if let Some\(in_flight\) = self\.0 \{/if let Some(in_flight) = self.0.filter(|_| false) {/'

broken edge-not-published deadlock::a_ring_of_two src/table/deadlock.rs \
    's/edges\.insert\(me, Arc::clone\(leader\)\);//'

((ran > 0)) || { echo "no such control: ${wanted[*]}"; exit 1; }
echo "$ran controls, $failed failed"
((failed == 0))
