#!/usr/bin/env bash
# Compiles and runs the C, C++ and Python blocks of README.md, and compares what they print with
# their "prints:" comments. The Rust blocks are documentation tests.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
libraries=$(cat packaging/static-libs)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One file a block: 1.c, 2.cpp, 3.python.
awk -v work="$work" '
    /^```(c|cpp|python)$/ { file = work "/" ++count "." substr($0, 4); next }
    /^```/ { file = "" }
    file { print >file }' README.md

c_flags="-Wall -Wextra -Wpedantic -Werror -Iinclude"
# Builds a block, if it is to be built, and runs it.
run() {
    # shellcheck disable=SC2086 # flags and libraries are words
    case $1 in
    *.c) gcc -std=c11 $c_flags "$1" "$target/libonceflight.a" $libraries -o "$1.out" && "$1.out" ;;
    *.cpp) g++ -std=c++17 $c_flags "$1" "$target/libonceflight.a" $libraries -o "$1.out" && "$1.out" ;;
    *.python) PYTHONPATH=python ONCEFLIGHT_LIBRARY="$target/libonceflight.so" python3 "$1" ;;
    esac
}

passed=0 failed=0
for block in "$work"/*.*; do
    sed -nE 's,^(//|#|/\*) prints: (.*[^ */]).*,\2,p' "$block" >"$block.expected"
    if [[ -s $block.expected ]] && run "$block" >"$block.printed" && diff "$block.expected" "$block.printed"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "README.md: block $(basename "$block") FAILED"
    fi
done
echo "$passed passed, $failed failed"
((passed == 3 && failed == 0))
