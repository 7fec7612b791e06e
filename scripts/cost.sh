#!/usr/bin/env bash
# What calls cost, in instructions and allocations, against tests/cost/bounds.txt: cost.sh [WORKLOAD...]
# With --record, the bounds are written anew: 3 % above the instructions measured, and the very allocations.
#
# Instructions are callgrind's, of the calling thread: what 2 N rounds have more than N, divided by N, so that
# start-up drops out. They repeat from run to run where compiler and C library are the same; times never do. What the
# kernel does isn't in them, and a look at the clock is a system call here, where it usually is none.
set -euo pipefail
cd "$(dirname "$0")/.."

bounds=tests/cost/bounds.txt
rounds=10000 # as in tests/cost/meter.rs
slack=3      # per cent

record=
if [[ ${1:-} == --record ]]; then
    record=yes
    shift
    (($# == 0)) || { echo "cost: --record writes all bounds or none" >&2 && exit 2; }
fi

unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS # they would change what is counted
program=$(cargo test --locked --release --features capi --test cost --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
[[ -x $program ]] || { echo "cost: cargo built no program" >&2 && exit 1; }
toolchain="$(rustc --version | cut -d' ' -f1,2), $(uname -m), $(getconf GNU_LIBC_VERSION || echo 'another C library')"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One core and no environment, whatever the machine: the environment decides where the stack begins.
core=$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')
bare=(env -i PATH="$PATH" taskset -c "$core")

# total WORKLOAD ROUNDS: all instructions of the main thread.
total() {
    rm -f "$work"/callgrind*
    if ! "${bare[@]}" valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$work/callgrind" \
        "$program" measure "$1" "$2" >"$work/log" 2>&1; then
        cat "$work/log" >&2
        return 1
    fi
    sed -n 's/^summary: *//p' "$work/callgrind-01"
}

# measure WORKLOAD: sets `instructions`, and `allocations` in thousandths, both an iteration and rounded up.
measure() {
    local once twice count
    once=$(total "$1" "$rounds") && twice=$(total "$1" $((2 * rounds))) &&
        count=$("${bare[@]}" "$program" measure "$1" "$rounds") || return 1
    instructions=$(((twice - once + rounds - 1) / rounds))
    allocations=$(((count * 1000 + rounds - 1) / rounds))
}

# decimal THOUSANDTHS, thousandths DECIMAL: shells know whole numbers only.
decimal() { awk -v n="$1" 'BEGIN { print n / 1000 }'; }
thousandths() { awk -v n="$1" 'BEGIN { print int(n * 1000 + 0.5) }'; }

# verdict MAX_INSTRUCTIONS MAX_ALLOCATIONS: what is wrong with the measured ones; fails if anything is.
verdict() {
    local wrong=
    ((instructions <= $1)) || wrong+=", $((instructions - $1)) instructions"
    ((allocations <= $(thousandths "$2"))) || wrong+=", $(decimal $((allocations - $(thousandths "$2")))) allocations"
    echo "${wrong:+TOO MUCH: by${wrong#,}}" | sed 's/^$/ok/'
    [[ -z $wrong ]]
}

# A counter that counts nothing would find everything cheap.
passed=0 failed=0
if measure planted && ! verdict 100 1 >/dev/null && ! verdict 1000000 0 >/dev/null && verdict 1000000 1 >/dev/null; then
    echo "the planted cost was counted: $instructions instructions, 1 allocation"
    passed=1
else
    echo "the planted cost was not counted: this check checks nothing"
    echo "0 passed, 1 failed"
    exit 1
fi

# bound WORKLOAD: sets `max_instructions` and `max_allocations`; fails if there are none.
bound() {
    read -r max_instructions max_allocations < <(awk -v name="$1" '$1 == name { print $2, $3 }' "$bounds" 2>/dev/null)
}

row() { printf '%-20s %12s %8s %8s   %11s %8s   %s\n' "$@"; }

recorded=$(sed -n 's/^# Recorded with \(.*\)\.$/\1/p' "$bounds" 2>/dev/null || true)
if [[ -z $record && $toolchain != "$recorded" ]]; then
    printf '\nThe bounds were recorded with %s; this is %s: some difference may be theirs.\n' "$recorded" "$toolchain"
fi
echo
row "an iteration" instructions bound goal allocations bound ""
: >"$work/bounds"
known=()
while read -r name goal; do
    known+=("$name")
    [[ $# == 0 || " $* " == *" $name "* ]] || continue
    if ! measure "$name"; then
        row "$name" - - "$goal" - - "FAILED to run"
        failed=$((failed + 1))
        continue
    fi
    max_instructions=- max_allocations=-
    if [[ -n $record ]]; then
        max_instructions=$(((instructions * (100 + slack) + 99) / 100))
        max_allocations=$(decimal "$allocations")
        printf '%-20s %8d %8s\n' "$name" "$max_instructions" "$max_allocations" >>"$work/bounds"
        said=recorded
    elif ! bound "$name"; then
        max_instructions=- max_allocations=-
        said="NO BOUND: scripts/cost.sh --record"
    else
        said=$(verdict "$max_instructions" "$max_allocations") || true
    fi
    case $said in
    ok | recorded) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
    [[ $goal == - ]] || ((instructions <= goal)) || said+=" (goal missed)"
    row "$name" "$instructions" "$max_instructions" "$goal" "$(decimal "$allocations")" "$max_allocations" "$said"
done < <("$program" workloads)

# A name that is nobody's holds nothing.
for name in "$@" $([[ -n $record ]] || sed '/^#/d; s/ .*//' "$bounds" 2>/dev/null); do
    if [[ " ${known[*]} " != *" $name "* ]]; then
        echo "$name is no workload"
        failed=$((failed + 1))
    fi
done

if [[ -n $record ]] && ((failed == 0)); then
    {
        echo "# The most that an iteration of each workload may cost: instructions, allocations."
        echo "# Written by scripts/cost.sh --record; the workloads are in tests/cost."
        echo "# Recorded with $toolchain."
        cat "$work/bounds"
    } >"$bounds"
fi
echo
echo "$passed passed, $failed failed"
((failed == 0))
