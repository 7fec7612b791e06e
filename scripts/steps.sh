# shellcheck shell=bash
# Sourced by test.sh, verify.sh and soak.sh: runs their steps, keeps the output, adds up the tests.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TARGET=$PWD/target
[[ -z ${CARGO_TARGET_DIR:-} ]] || TARGET=$(realpath -m "$CARGO_TARGET_DIR")

suite=$(basename "$0" .sh)
if [[ -z ${ONCEFLIGHT_LOGS:-} ]]; then
    ONCEFLIGHT_LOGS=$(mktemp -d)
    trap 'rm -rf "$ONCEFLIGHT_LOGS"' EXIT
fi
steps=0

# step NAME COMMAND...: a failure is noted, and the steps after it still run.
step() {
    local name=$1 began=$SECONDS log code
    steps=$((steps + 1))
    log=$(printf '%s/%s.%02d.%s.log' "$ONCEFLIGHT_LOGS" "$suite" "$steps" "$name")
    shift
    printf '\n== %s: %s\n' "$suite" "$name"
    set +e
    (
        set -e
        "$@"
    ) </dev/null 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    set -e
    echo "$code $((SECONDS - began))" >"$log.end"
    ((code == 0)) || printf '== %s: %s FAILED (%d)\n' "$suite" "$name" "$code"
}

# skip NAME WHY: loud, so that nobody takes a step that didn't run for one that passed.
skip() {
    printf '\n!!!! %s: %s SKIPPED: %s\n' "$suite" "$1" "$2" | tee "$ONCEFLIGHT_LOGS/$suite.skipped.$1"
}

# finish: tells what ran. The exit code is 0 if tests ran and nothing failed.
finish() {
    cat "$ONCEFLIGHT_LOGS/$suite".skipped.* 2>/dev/null || true
    scripts/count.sh "$ONCEFLIGHT_LOGS" "$suite"
}
