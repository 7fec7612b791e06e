#!/bin/sh
# Compares onceflight's languages with what is used there: run.sh --lib-dir DIR [--quick] [--json FILE]
#
# DIR holds libonceflight.so, built with optimization. C and C++ need gcc and g++; Python 3.10 or newer
# with venv takes the packages of packages.txt from PyPI; Go needs go, and golang.org/x/sync as Debian
# installs it (golang-golang-x-sync-dev) or through its module proxy. What is missing is said and left out.
# Nothing is installed: all that is built or fetched goes into a temporary directory.
#
#   PYTHON  the interpreter (python3)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
lib_dir= quick= json=
while [ $# -gt 0 ]; do
    case $1 in
    --lib-dir) lib_dir=$(cd "$2" && pwd) && shift 2 ;;
    --quick) quick=--quick && shift ;;
    --json) json=$2 && shift 2 ;;
    *) sed -n 2,9p "$0" >&2 && exit 2 ;;
    esac
done
[ -f "$lib_dir/libonceflight.so" ] || {
    echo "no libonceflight.so in '$lib_dir': --lib-dir" >&2
    exit 2
}

work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT # Go makes its modules read-only
trap 'exit 1' INT TERM
left_out() { echo "LEFT OUT: $*" >&2; }

soname=$(readelf -d "$lib_dir/libonceflight.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
for name in libonceflight.so ${soname:+"$soname"}; do ln -sf "$lib_dir/libonceflight.so" "$work/$name"; done

flags="-O2 -Wall -Wextra -I$root/include"
gcc -std=c11 -D_GNU_SOURCE $flags "$here/capi.c" -o "$work/capi" -L"$work" -lonceflight -Wl,-rpath,"$work" -lpthread
g++ -std=c++17 $flags "$here/future.cpp" -o "$work/future" -lpthread ||
    left_out "C++: no g++, or it does not compile future.cpp"

go_built() {
    export GOCACHE="$work/go-cache" GOFLAGS= GOTOOLCHAIN=local
    if [ -d /usr/share/gocode/src/golang.org/x/sync/singleflight ]; then
        GO111MODULE=off GOPATH=/usr/share/gocode go build -o "$work/flight" "$here/flight.go"
        return
    fi
    export GOPATH="$work/go"
    mkdir "$work/module"
    cp "$here/flight.go" "$work/module"
    (cd "$work/module" && go mod init flight && go get golang.org/x/sync@v0.7.0 && go build -o "$work/flight" .)
}
if ! command -v go >/dev/null; then
    left_out "Go: no go on the path"
elif ! go_built >"$work/go.log" 2>&1; then
    cat "$work/go.log" >&2
    left_out "Go: singleflight can't be had or built"
fi

python=$work/env/bin/python
"${PYTHON:-python3}" -m venv "$work/env"
while read -r package; do
    "$python" -m pip install -q --disable-pip-version-check "$package" >"$work/pip.log" 2>&1 || {
        tail -n 3 "$work/pip.log" >&2
        left_out "Python: $package can't be installed"
    }
done <"$here/packages.txt"

ONCEFLIGHT_LIBRARY=$lib_dir/libonceflight.so PYTHONPATH=$root/python \
    "$python" "$here/compare.py" "$work" $quick ${json:+--json "$json"}
