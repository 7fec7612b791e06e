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
need libc6-dev test -e /usr/include/stdlib.h
need make command -v make
need cmake command -v cmake
need pkg-config command -v pkg-config
need binutils command -v nm
need curl command -v curl
need git command -v git
need python3 command -v python3
need python3-venv python3 -c 'import ensurepip, venv'
if [[ $suite == verify ]]; then
    need valgrind command -v valgrind
    need llvm command -v llvm-symbolizer
fi

if ((${#missing[@]})); then
    echo "installing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "setup: no apt-get here; install the like of these yourself: ${missing[*]}" >&2
        exit 1
    fi
    sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
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
