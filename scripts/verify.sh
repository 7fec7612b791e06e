#!/usr/bin/env bash
# Sanitizers, valgrind, the models' controls, the oldest Rust: `make verify`.
#
# A tool that finds nothing proves nothing until it has found what was planted: see proof.rs.
. "$(dirname "$0")/steps.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
asan="-Zsanitizer=address"
tsan="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg onceflight_tsan"
# Threads after a fork are TSan's limit, not ours.
export TSAN_OPTIONS="suppressions=$PWD/scripts/tsan.supp die_after_fork=0"
# Sequences of random calls: what is instrumented is slow.
export ONCEFLIGHT_SEQUENCES=1000
export ASAN_OPTIONS="detect_leaks=1 detect_stack_use_after_return=1"

# proof FAULT MESSAGE FLAGS: a program with that fault, built and run as the tests are, must die of it.
proof() {
    local fault=$1 message=$2 flags=$3 program="$TARGET/proof-$1"
    mkdir -p "$TARGET"
    # shellcheck disable=SC2086 # flags are words
    rustc +nightly --edition 2024 -g $flags --target "$host" -o "$program" scripts/proof.rs
    if "$program" "$fault" >"$program.out" 2>&1 || ! grep -q "$message" "$program.out"; then
        cat "$program.out"
        echo "the planted $fault was not caught: this sanitizer checks nothing"
        echo "0 passed, 1 failed"
        return 1
    fi
    echo "the planted $fault was caught"
    echo "1 passed, 0 failed"
}

# nightly NAME FLAGS ARGUMENTS...: cargo with every crate instrumented. The target is told by the environment,
# so that tests which build an example get it instrumented too; without a target, build scripts would be.
nightly() {
    local name=$1 flags=$2 features=capi
    shift 2
    [[ $name == tsan ]] || features=capi,store
    RUSTFLAGS=$flags CARGO_BUILD_TARGET=$host CARGO_TARGET_DIR="$TARGET/$name" \
        cargo +nightly "$@" --locked --features "$features"
}

thread_sanitized_c() {
    nightly tsan "$tsan" rustc --lib --crate-type staticlib
    ffi-tests/run.sh --sanitize thread --lib-dir "$TARGET/tsan/$host/debug"
}

if rustc +nightly --version >/dev/null 2>&1; then
    step proof-overflow proof overflow "AddressSanitizer: heap-buffer-overflow" "$asan"
    step proof-leak proof leak "LeakSanitizer: detected memory leaks" "$asan"
    step asan nightly asan "$asan" test --no-fail-fast --lib --tests
    step proof-race proof race "ThreadSanitizer: data race" "$tsan"
    # Not every Rust test: std comes without instrumentation, so TSan can't see what orders the end of a scope before
    # what follows it, and reports the tests that don't join their threads: some in tests/table and tests/peers read
    # a counter then. The storms join, and so do the C tests.
    step tsan nightly tsan "$tsan" test --no-fail-fast --lib --test stress --test fingerprint --test alloc --test session
    step tsan-c thread_sanitized_c
    # Long enough to show that they build and run; `make soak` lets them search.
    step fuzz-restore env CARGO_TARGET_DIR="$TARGET/fuzz" fuzz/run.sh restore 20
    step fuzz-calls env CARGO_TARGET_DIR="$TARGET/fuzz" fuzz/run.sh calls 20
else
    skip sanitizers-of-rust "there is no nightly Rust, which alone has them: rustup toolchain install nightly"
fi

step lib make lib
step asan-c ffi-tests/run.sh --sanitize address --lib-dir "$TARGET/release"
step valgrind ffi-tests/run.sh --valgrind --lib-dir "$TARGET/release"
if [[ $host == x86_64-* ]]; then
    step cost scripts/cost.sh
else
    skip cost "the bounds were recorded for x86-64"
fi
step controls env CARGO_TARGET_DIR="$TARGET/controls" tests/models/control.sh
step store-controls env CARGO_TARGET_DIR="$TARGET/store-controls" tests/store/control.sh
# Some of a hundred, others each time; `make soak` has all of them.
mapfile -t some < <(sed -n 's/^broken \([^ ]*\) .*/\1/p' tests/session/control.sh | shuf -n 24)
step session-controls env CARGO_TARGET_DIR="$TARGET/session-controls" tests/session/control.sh "${some[@]}"
step http-controls env CARGO_TARGET_DIR="$TARGET/http-controls" tests/http/control.sh
step msrv scripts/msrv.sh
finish
