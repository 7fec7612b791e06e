# shellcheck shell=bash disable=SC2034 # the suites use what is set here
# Sourced by the suites' control.sh: breaks the crate in one place at a time, and demands that a test fails for it.
#
# A suite's own part: `broken`, which calls `control`; `build TEST` and `run TEST`, which answer as their commands do;
# `shows`, what the output of a test that fails has; `mistakes`, if it is set, what that of one has that fails for another
# reason. At its end it calls `finish`.
#
# A control fails if a part of its patch no longer applies, if the broken crate doesn't compile, if its test isn't
# there, passes, fails for another reason, or doesn't come to an end. Arguments choose controls by name.
set -euo pipefail
suite=$(basename "$(dirname "$0")")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/$suite-controls}
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
export RUST_BACKTRACE=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
tar --exclude=./target --exclude=./.git --exclude=./fuzz -c . | tar -x -C "$tree"
cd "$tree"

wanted=("$@")
ran=0
failed=0

# change FILE PERL: fails unless each substitution of PERL changes something.
change() {
    perl -0777 -i -e '
        my $changed = 1;
        my @substitutions = split m{/[a-z]*\K; (?=s/)}, shift;
        $_ = <>;
        for my $one (@substitutions) {
            my $before = $_;
            eval $one;
            die $@ if $@;
            $changed &&= $before ne $_;
        }
        print;
        END { $? ||= !$changed }' "$2" "$1"
}

# control NAME TEST FILE PERL [FILE PERL]...: with each FILE changed by its PERL, TEST must fail.
control() {
    local name=$1 test=$2 log="$tree/control.log" verdict='' file
    local -A sound=()
    shift 2
    [[ ${#wanted[@]} == 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
    ran=$((ran + 1))
    : >"$log"
    while (($#)); do
        file=$1
        sound[$file]=$(mktemp "$tree/sound.XXXXXX")
        cp "$file" "${sound[$file]}"
        change "$file" "$2" || verdict="the patch no longer applies to $file"
        shift 2
    done
    if [[ -n $verdict ]]; then
        :
    elif ! build "$test" >"$log" 2>&1; then
        verdict="the broken crate doesn't compile"
    elif run "$test" >"$log" 2>&1; then
        verdict="$test passes all the same"
    elif ! grep -q "$shows" "$log"; then
        verdict="$test doesn't come to an end"
    elif [[ -n ${mistakes:-} ]] && grep -q "$mistakes" "$log"; then
        verdict="$test fails for another reason"
    fi
    # Copied anew, so that its time is a new one too: cargo goes by that.
    for file in "${!sound[@]}"; do cp "${sound[$file]}" "$file"; done
    if [[ -z $verdict ]]; then
        echo "ok: $name: $test fails"
    else
        failed=$((failed + 1))
        echo "FAILED: $name: $verdict"
        tail -n 15 "$log"
    fi
}

finish() {
    ((ran > 0)) || { echo "no such control: ${wanted[*]}"; exit 1; }
    echo "$ran controls, $failed failed"
    ((failed == 0))
}
