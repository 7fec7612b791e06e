#!/bin/bash
# Compiles and runs every C, C++ and Python test against the shared and the static library.
#
#   ffi-tests/run.sh [--lib-dir DIR] [--sanitize address|thread|none] [--valgrind]
#
# DIR (target/release) holds libonceflight.so and libonceflight.a, or for a sanitizer libonceflight.a alone.
#   --sanitize address   the C side under ASan and UBSan; it sees the library's memory, since both share one malloc
#   --sanitize thread    C and library under TSan; the library must have been built with -Zsanitizer=thread
#   --valgrind           under memcheck
# Each checker first has to catch a planted fault. The last line is "N passed, N failed", of single tests.
#
# The durable programs run in memory and on SQLite, and without a checker on every server whose URL is set:
# ONCEFLIGHT_TEST_POSTGRES, ONCEFLIGHT_TEST_REDIS, ONCEFLIGHT_TEST_REDIS_CLUSTER, ONCEFLIGHT_TEST_MEMCACHED.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
lib_dir=$root/target/release sanitize=none valgrind=
while [ $# -gt 0 ]; do
    case $1 in
    --lib-dir) lib_dir=$2 && shift 2 ;;
    --sanitize) sanitize=$2 && shift 2 ;;
    --valgrind) valgrind=yes && shift ;;
    *) sed -n 2,13p "$0" >&2 && exit 2 ;;
    esac
done
lib_dir=$(cd "$lib_dir" && pwd) || exit 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
# Longer than any program takes; each test in it has an alarm of its own.
limit="timeout 1200"

# check NAME COMMAND...: one program's tests, which its last "N passed, N failed" counts. One without is one test,
# and so is a failure that its program doesn't count: it crashed, or was stopped.
check() {
    local name=$1 status counts good bad
    shift
    "$@" >"$work/out" 2>&1
    status=$?
    sed "/^-*$/d; s|^|$name: |" "$work/out"
    counts=$(sed -nE 's/^([^ ]+: )?([0-9]+) passed, ([0-9]+) failed$/\2 \3/p' "$work/out" | tail -n 1)
    read -r good bad <<<"${counts:-$((status == 0)) 0}"
    [ $status = 0 ] || [ "$bad" != 0 ] || bad=1
    passed=$((passed + good)) failed=$((failed + bad))
    if [ $status != 0 ]; then
        echo "$name: FAILED with status $status"
    elif [ ! -s "$work/out" ]; then
        echo "$name: ok"
    fi
}

# built NAME COMMAND...: says nothing unless it fails.
built() {
    local name=$1
    shift
    "$@" >"$work/out" 2>&1 && return
    cat "$work/out"
    echo "$name: does not build"
    failed=$((failed + 1))
    return 1
}

# caught NAME PATTERN COMMAND...: a planted fault must make the command fail and say PATTERN.
caught() {
    local name=$1 pattern=$2
    shift 2
    if "$@" >"$work/out" 2>&1 || ! grep -q "$pattern" "$work/out"; then
        cat "$work/out"
        echo "$name: FAILED: the planted fault was not caught, so this checker checks nothing"
        failed=$((failed + 1))
    else
        echo "$name: caught"
        passed=$((passed + 1))
    fi
}

warnings="-Wall -Wextra -Wpedantic -Werror"
flags="$warnings -g -O1 -I$root/include"
linkages="shared static" c_standards="c99 c11" cpp_standards="c++17 c++20"
runner=$limit
case $sanitize in
none) ;;
address)
    flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    linkages=static c_standards=c11 cpp_standards=c++17
    export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
    ;;
thread)
    nm "$lib_dir/libonceflight.a" 2>/dev/null | grep -q __tsan_func_entry || {
        echo "$lib_dir/libonceflight.a was not built with -Zsanitizer=thread: TSan can't see its locks" >&2
        exit 2
    }
    flags="$flags -fsanitize=thread"
    linkages=static c_standards=c11 cpp_standards=c++17
    export TSAN_OPTIONS="suppressions=$here/tsan.supp halt_on_error=1 die_after_fork=0"
    ;;
*) echo "unknown sanitizer: $sanitize" >&2 && exit 2 ;;
esac
if [ -n "$valgrind" ]; then
    linkages=static c_standards=c11 cpp_standards=c++17
    memcheck="$limit valgrind -q --fair-sched=yes --error-exitcode=99"
    runner="$memcheck --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite"
fi

# The loader looks for the soname, which only an installation has as a file.
mkdir "$work/lib"
if [[ $linkages = *shared* ]]; then
    soname=$(readelf -d "$lib_dir/libonceflight.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
    for name in libonceflight.so ${soname:+"$soname"}; do
        ln -sf "$lib_dir/libonceflight.so" "$work/lib/$name"
    done
fi
link_shared="-L$work/lib -lonceflight -Wl,-rpath,$work/lib -lpthread"
link_static="$lib_dir/libonceflight.a $(cat "$root/packaging/static-libs")"
if [ $sanitize = thread ]; then
    gcc -O1 -fno-builtin -c "$here/c/tsan_shim.c" -o "$work/tsan_shim.o" || exit 2
    link_static="$work/tsan_shim.o $link_static"
fi

compile() { # STANDARD SOURCE OBJECT
    local compiler=gcc
    [[ $1 = c++* ]] && compiler=g++
    built "$2 as $1" $compiler -std="$1" $flags -c "$2" -o "$3"
}
link() { # LINKAGE OBJECT PROGRAM
    local libraries=link_$1
    built "$3 with the $1 library" g++ $flags "$2" ${!libraries} -o "$3"
}

# Every C test: compiled once a standard, linked both ways.
c_tests="basics flight lease limits misuse lifetime queue keys sessions sessions_handle forked"
# TSan doesn't support threads in the child of a multi-threaded process.
[ $sanitize = thread ] && c_tests=${c_tests/ forked/}

planted() {
    compile c11 "$here/c/planted.c" "$work/planted.o" && link static "$work/planted.o" "$work/planted" || return
    case $sanitize$valgrind in
    address)
        caught "planted overflow" AddressSanitizer:.heap-buffer-overflow "$work/planted" overflow
        caught "planted leak" LeakSanitizer "$work/planted" leak
        ;;
    thread) caught "planted race" "ThreadSanitizer: data race" "$work/planted" race ;;
    noneyes)
        caught "planted overflow" "Invalid read" $runner "$work/planted" overflow
        caught "planted leak" "definitely lost" $runner "$work/planted" leak
        ;;
    esac
}

# What a program runs under.
runner_of() { # NAME
    case $1$valgrind in
    # A child of fork loses by nature what only the stacks of its parent's threads point to.
    forkedyes | durable_processesyes) echo "$memcheck" ;;
    *) echo "$runner" ;;
    esac
}

# A test program, compiled once a standard and linked both ways.
test_program() { # STANDARD SOURCE
    local linkage name
    name=$(basename "${2%.*}")
    compile "$1" "$2" "$work/$name.o" || return
    for linkage in $linkages; do
        link "$linkage" "$work/$name.o" "$work/$name" && check "$linkage $1" $(runner_of "$name") "$work/$name"
    done
}

# Programs that take a table's URL: compiled as every standard, linked one way, run on each URL.
durable_programs() {
    local -a urls=(memory: "sqlite:$work/durable.db")
    local test url standard standards name linkage=${linkages##* }
    local tests="c/durable.c c/durable_leases.c c/durable_queue.c c/durable_processes.c cpp/durable_raii.cpp"
    case $sanitize$valgrind in
    none)
        urls+=(${ONCEFLIGHT_TEST_POSTGRES:-} ${ONCEFLIGHT_TEST_REDIS:-} ${ONCEFLIGHT_TEST_REDIS_CLUSTER:-}
            ${ONCEFLIGHT_TEST_MEMCACHED:-})
        ;;
    thread) urls=(memory:) tests=${tests/ c\/durable_processes.c/} ;; # SQLite is C that TSan doesn't see into; and it forks
    esac
    for test in $tests; do
        name=$(basename "${test%.*}") standards=$c_standards
        [[ $test = cpp/* ]] && standards=$cpp_standards
        for standard in $standards; do compile "$standard" "$here/$test" "$work/$name.o" || continue 2; done
        link "$linkage" "$work/$name.o" "$work/$name" || continue
        for url in "${urls[@]}"; do
            check "$linkage $standard ${url%%:*}" $(runner_of "$name") "$work/$name" "$url"
        done
    done
}

c_and_cpp_programs() {
    local standard test
    for standard in $c_standards; do
        for test in $c_tests; do test_program "$standard" "$here/c/$test.c"; done
    done
    for standard in $cpp_standards; do
        for test in raii sessions_raii; do test_program "$standard" "$here/cpp/$test.cpp"; done
    done
}

# An example; a server is asked by a client program.
example() { # LINKAGE STANDARD SOURCE [LED]
    local name
    name=$(basename "${3%.*}")
    compile "$2" "$root/examples/$3" "$work/$name.o" && link "$1" "$work/$name.o" "$work/$name" &&
        check "$1 $2" $limit ${4:+"$work/server_test"} "$work/$name" ${4:-}
}

# The one that needs another library.
microhttpd() { # LINKAGE STANDARD
    if ! pkg-config --exists libmicrohttpd; then
        echo "!!!! server_microhttpd SKIPPED: libmicrohttpd isn't installed"
    elif [ $sanitize != thread ]; then # which would have to see into it
        local link_static="$link_static $(pkg-config --libs libmicrohttpd)" name=server_microhttpd
        local link_shared="$link_shared $(pkg-config --libs libmicrohttpd)"
        compile "$2" "$root/examples/c/$name.c" "$work/$name.o" && link "$1" "$work/$name.o" "$work/$name" &&
            check "$1 $2" $limit python3 "$here/c/server_microhttpd_test.py" "$work/$name"
    fi
}

examples() {
    local linkage standard=c99
    compile c11 "$here/c/server_test.c" "$work/server_test.o" &&
        link static "$work/server_test.o" "$work/server_test" || return
    for linkage in $linkages; do
        example $linkage $standard c/server_threads.c 1
        example $linkage $standard c/server_epoll.c 0
        example $linkage c++17 cpp/server.cpp 1
        example $linkage $standard c/replicated_bank.c
        microhttpd $linkage $standard
        standard=c11
    done
}

# Each header alone, and twice in one program.
header() { # STANDARD SOURCE
    flags="$flags -x ${3:-none} -DFIRST" compile "$1" "$2" "$work/first.o" &&
        flags="$flags -x ${3:-none}" compile "$1" "$2" "$work/second.o" &&
        built "header twice" g++ "$work/first.o" "$work/second.o" $link_shared -o "$work/header" &&
        check "$(basename "$2") as $1" "$work/header"
}

headers() {
    local standard
    for standard in c99 c11 c17 c2x; do header $standard "$here/c/header.c"; done
    for standard in c++11 c++17 c++20; do header $standard "$here/c/header.c" c++; done
    for standard in c++17 c++20; do header $standard "$here/cpp/header.cpp"; done
}

python_tests() {
    # Its watchdog shows every thread's stack, which the limit alone would not.
    ONCEFLIGHT_LIBRARY=$lib_dir/libonceflight.so check python $limit python3 "$here/python/run.py"
}

planted
c_and_cpp_programs
durable_programs
[ -n "$valgrind" ] || examples
if [ $sanitize = none ] && [ -z "$valgrind" ]; then
    headers
    python_tests
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
