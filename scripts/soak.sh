#!/usr/bin/env bash
# The long runs: `make soak`.
#
# ONCEFLIGHT_SCHEDULES   schedules a model (100000)
# ONCEFLIGHT_SEED        what they are drawn from (another each time, and printed)
# ONCEFLIGHT_STRESS      seconds of stress on a table, and as many on one over a store (1800)
# ONCEFLIGHT_KILLS       workers killed on each store (10000)
# ONCEFLIGHT_RECORDS     records in each store, one store at a time (1000000)
# ONCEFLIGHT_SEEDS       simulated clusters (10000)
# ONCEFLIGHT_CHAOS       rounds of faults for the processes of examples/replicated_kv (300, some 6 seconds each)
# ONCEFLIGHT_SEQUENCES   sequences of random calls on a table of sessions (200000)
# ONCEFLIGHT_FUZZ        seconds under each fuzzer's target (1800)
# ONCEFLIGHT_REPEAT      how often all tests are repeated, each time with another seed (20)
cd "$(dirname "$0")/.."
[[ -n ${ONCEFLIGHT_TEST_SERVERS:-} ]] || exec scripts/servers.sh run scripts/soak.sh "$@"
. scripts/steps.sh

export ONCEFLIGHT_STRESS=${ONCEFLIGHT_STRESS:-1800}
export ONCEFLIGHT_SEED=${ONCEFLIGHT_SEED:-$SRANDOM}
repeat=${ONCEFLIGHT_REPEAT:-20} seed=$ONCEFLIGHT_SEED
echo "ONCEFLIGHT_SEED=$ONCEFLIGHT_SEED"

step models env RUSTFLAGS="--cfg onceflight_shuttle" CARGO_TARGET_DIR="$TARGET/models" \
    CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_LTO=off \
    ONCEFLIGHT_SCHEDULES="${ONCEFLIGHT_SCHEDULES:-100000}" \
    cargo test --locked --no-fail-fast --release --test models
step session-controls env CARGO_TARGET_DIR="$TARGET/session-controls" tests/session/control.sh
step stress cargo test --locked --release --test stress
step stress-store cargo test --locked --release --features store --test idempotency -- storm::
step sessions env ONCEFLIGHT_SEQUENCES="${ONCEFLIGHT_SEQUENCES:-200000}" \
    cargo test --locked --release --test session -- --nocapture random::
if rustc +nightly --version >/dev/null 2>&1; then
    for target in restore calls; do
        step "fuzz-$target" env CARGO_TARGET_DIR="$TARGET/fuzz" fuzz/run.sh "$target" "${ONCEFLIGHT_FUZZ:-1800}"
    done
else
    skip fuzz "there is no nightly Rust, which alone instruments for it: rustup toolchain install nightly"
fi
step crash env ONCEFLIGHT_KILLS="${ONCEFLIGHT_KILLS:-10000}" \
    cargo test --locked --no-fail-fast --release --features stores --test crash -- --nocapture --skip many::
step records env ONCEFLIGHT_RECORDS="${ONCEFLIGHT_RECORDS:-1000000}" \
    cargo test --locked --no-fail-fast --release --features stores --test crash -- --nocapture --test-threads 1 many::
step cluster env ONCEFLIGHT_SEEDS="${ONCEFLIGHT_SEEDS:-10000}" CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
    cargo test --locked --release --test cluster -- --nocapture
step nodes env ONCEFLIGHT_CHAOS="${ONCEFLIGHT_CHAOS:-300}" \
    cargo test --locked --release --test nodes -- --nocapture
step lib make lib
unset ONCEFLIGHT_SEEDS ONCEFLIGHT_CHAOS ONCEFLIGHT_STRESS ONCEFLIGHT_KILLS ONCEFLIGHT_RECORDS ONCEFLIGHT_SEQUENCES
# More threads than cores, and another order each time: what only luck kept apart meets.
for ((run = 1; run <= repeat; run++)); do
    export ONCEFLIGHT_SEED=$((seed + 1000000 * run)) # the clusters take a thousand from there on
    step "rust-$run" cargo test --locked --no-fail-fast --release --all-features --lib --tests -- --test-threads 16
    step "c-and-python-$run" ffi-tests/run.sh --lib-dir "$TARGET/release"
done
finish
