#!/bin/bash
# Builds programs against an installation alone: by pkg-config and by CMake, shared and static.
#
#   ffi-tests/install/run.sh PREFIX        where `make install PREFIX=...` has been
#
# The installation is tested as a copy elsewhere, so that a path that didn't move with it is noticed.
set -u
[ $# = 1 ] || { sed -n 2,6p "$0" >&2 && exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(cd "$1" && pwd) || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
moved=$work/moved
cp -a "$prefix" "$moved"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../../Cargo.toml" | head -n 1)
soname=libonceflight.so.${version%%.*}
export PKG_CONFIG_LIBDIR=$moved/lib/pkgconfig
unset PKG_CONFIG_PATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH CPATH LIBRARY_PATH

passed=0 failed=0
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "$name: ok"
    else
        failed=$((failed + 1))
        cat "$work/out"
        echo "$name: FAILED"
    fi
}

in_place() {
    test -f "$moved/include/onceflight.h" && test -f "$moved/include/onceflight.hpp" &&
        test -f "$moved/lib/libonceflight.a" && test ! -L "$moved/lib/libonceflight.so.$version" &&
        test "$(readlink -f "$moved/lib/libonceflight.so")" = "$(readlink -f "$moved/lib/libonceflight.so.$version")" &&
        test "$(readlink "$moved/lib/$soname")" = "libonceflight.so.$version" &&
        readelf -d "$moved/lib/libonceflight.so" | grep "SONAME.*\[$soname\]"
}

names_no_place() {
    ! grep -rF "$prefix" "$moved/include" "$moved/lib/pkgconfig" "$moved/lib/cmake"
}

# A program runs, tells the version, and needs the shared library or doesn't.
runs_shared() {
    LD_LIBRARY_PATH=$moved/lib ldd "$1" | grep "$moved/lib/$soname" && test "$(LD_LIBRARY_PATH=$moved/lib "$1")" = "$version"
}
runs_static() {
    ! ldd "$1" | grep onceflight && test "$("$1")" = "$version"
}

by_pkg_config() {
    # shellcheck disable=SC2046 # flags are words
    gcc -Wall -Werror "$here/program/user.c" -o "$work/shared" $(pkg-config --cflags --libs onceflight) &&
        runs_shared "$work/shared"
}
by_pkg_config_cpp() {
    # shellcheck disable=SC2046
    g++ -std=c++17 -Wall -Werror "$here/program/user.cpp" -o "$work/cpp" $(pkg-config --cflags --libs onceflight) &&
        runs_shared "$work/cpp"
}
# The linker prefers a shared library where both are; naming the archive is the usual way around.
by_pkg_config_static() {
    # shellcheck disable=SC2046
    gcc -Wall -Werror "$here/program/user.c" -o "$work/static" \
        $(pkg-config --static --cflags --libs onceflight | sed 's/-lonceflight/-l:libonceflight.a/') &&
        runs_static "$work/static"
}

configure() { # BUILD_DIR WANTED_VERSION
    cmake -S "$here/program" -B "$work/$1" -DCMAKE_PREFIX_PATH="$moved" -DWANTED="$2"
}
by_cmake() {
    configure build "$version" && cmake --build "$work/build" &&
        runs_shared "$work/build/shared" && runs_static "$work/build/static" && runs_shared "$work/build/cpp"
}
refuses() { # WANTED_VERSION
    ! configure "refused-$1" "$1"
}

check "files in place" in_place
check "nothing names the prefix" names_no_place
check "pkg-config version" test "$(pkg-config --modversion onceflight)" = "$version"
check "pkg-config shared" by_pkg_config
check "pkg-config static" by_pkg_config_static
check "pkg-config C++" by_pkg_config_cpp
check "CMake shared, static, C++" by_cmake
check "CMake without a version" configure any ""
check "CMake refuses a later version" refuses 99.0
echo "$passed passed, $failed failed"
[ $failed = 0 ]
