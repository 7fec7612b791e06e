#!/bin/sh
# Installs the headers, the libraries, and what pkg-config and CMake need to find them.
#
#   packaging/install.sh PREFIX [LIB_DIR]
#
# LIB_DIR (target/release) holds libonceflight.so and libonceflight.a. $DESTDIR, if set, is put before PREFIX. Nothing that is
# installed names PREFIX, so it can be moved afterwards.
set -eu
[ $# -ge 1 ] || { sed -n 2,7p "$0" >&2 && exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
to=${DESTDIR:-}$1
from=${2:-$root/target/release}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
soname=libonceflight.so.${version%%.*}
static_libs=$(cat "$root/packaging/static-libs")
cmake_static_libs=$(echo "$static_libs" | sed 's/-l//g; s/ /;/g')

readelf -d "$from/libonceflight.so" | grep -q "SONAME.*\[$soname\]" || {
    echo "$from/libonceflight.so doesn't have the soname $soname" >&2
    exit 1
}

fill() { # TEMPLATE FILE
    sed -e "s|@VERSION@|$version|g" -e "s|@SONAME@|$soname|g" -e "s|@STATIC_LIBS@|$static_libs|g" \
        -e "s|@CMAKE_STATIC_LIBS@|$cmake_static_libs|g" "$root/packaging/$1" >"$2"
    chmod 644 "$2"
}

lib=$to/lib
mkdir -p "$to/include" "$lib/pkgconfig" "$lib/cmake/onceflight"
install -m 644 "$root/include/onceflight.h" "$root/include/onceflight.hpp" "$to/include"
install -m 644 "$from/libonceflight.a" "$lib"
install -m 755 "$from/libonceflight.so" "$lib/libonceflight.so.$version"
ln -sf "libonceflight.so.$version" "$lib/$soname"
ln -sf "$soname" "$lib/libonceflight.so"
fill onceflight.pc.in "$lib/pkgconfig/onceflight.pc"
fill onceflight-config.cmake.in "$lib/cmake/onceflight/onceflight-config.cmake"
fill onceflight-config-version.cmake.in "$lib/cmake/onceflight/onceflight-config-version.cmake"
echo "onceflight $version is installed in $to"
