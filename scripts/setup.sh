#!/usr/bin/env bash
# Installs what is missing on a Debian machine: setup.sh [test | verify | soak].
# Rust itself it only asks for: how you install that is yours to choose.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${1:-test}
oldest=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)

# need PACKAGE COMMAND...: the package is wanted if the command fails.
missing=()
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

need gcc command -v gcc
need g++ command -v g++
need libmicrohttpd-dev pkg-config --exists libmicrohttpd
need libc6-dev test -e /usr/include/stdlib.h
need make command -v make
need cmake command -v cmake
need pkg-config command -v pkg-config
need binutils command -v nm
need curl command -v curl
need git command -v git
need faketime command -v faketime
need util-linux command -v unshare
need python3 command -v python3
need python3-venv python3 -c 'import ensurepip, venv'
need postgresql sh -c 'command -v initdb || ls /usr/lib/postgresql/*/bin/initdb'
need postgresql-client command -v psql
need redis-server command -v redis-server
need redis-tools command -v redis-cli
need memcached command -v memcached
need procps command -v pgrep
if [[ $suite == verify ]]; then
    need valgrind command -v valgrind
    need llvm command -v llvm-symbolizer
fi

as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }

# install_packages PACKAGE...: no server among them is started, now or with the machine. The tests have their own.
install_packages() (
    ours=(/etc/postgresql-common/createcluster.d/onceflight.conf)
    trap 'as_root rm -f "${ours[@]}"' EXIT
    echo create_main_cluster=false | as_root install -D -m 644 /dev/stdin "${ours[0]}"
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        ours+=("$policy")
        printf '#!/bin/sh\nexit 101 # start nothing\n' | as_root install -m 755 /dev/stdin "$policy"
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    for package; do
        [[ $package != @(redis-server|memcached) ]] || as_root update-rc.d "$package" disable
    done
)

if ((${#missing[@]})); then
    echo "installing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "setup: no apt-get here; install the like of these yourself: ${missing[*]}" >&2
        exit 1
    fi
    install_packages "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    echo "setup: cargo isn't here: install Rust $oldest or newer (https://rustup.rs)" >&2
    exit 1
fi
rust=$(rustc --version | cut -d' ' -f2)
if [[ $(printf '%s\n' "$oldest" "${rust%%-*}" | sort -V | head -n1) != "$oldest" ]]; then
    echo "setup: Rust $rust is too old: $oldest or newer is needed" >&2
    exit 1
fi
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
