#!/usr/bin/env bash
# Whether the oldest Rust that Cargo.toml states can build the library.
#
# With that toolchain installed, it builds. Without, two things are held that usually break the
# promise: a std item that is newer (a clippy lint), and a dependency that asks for more.
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target/msrv

python3 - "$oldest" <<'PYTHON'
import json, subprocess, sys

def version(text):
    return [int(part) for part in text.split(".")][:2]

def metadata(*options):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features", *options]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

host = next(line[6:] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host: "))
found = metadata("--filter-platform", host)
nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
wanted, todo = set(), [found["resolve"]["root"]]
while todo:  # what users build: dependencies and build dependencies, not the tests'
    package = todo.pop()
    if package not in wanted:
        wanted.add(package)
        todo += [d["pkg"] for d in nodes[package]["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
newer = [p for p in found["packages"] if p["id"] in wanted and version(p["rust_version"] or "0") > version(sys.argv[1])]
for package in newer:
    print(f"{package['name']} {package['version']} needs Rust {package['rust_version']}, we promise {sys.argv[1]}")
print(f"{len(wanted)} packages looked at")
sys.exit(bool(newer))
PYTHON

for toolchain in "$oldest" "$oldest.0"; do
    if rustc "+$toolchain" --version 2>/dev/null; then
        cargo "+$toolchain" build --locked --lib
        cargo "+$toolchain" build --locked --lib --all-features
        exit
    fi
done
printf '\n!!!! Rust %s is not installed: the library was NOT built with it; clippy looks for newer std items instead\n' "$oldest"
cargo clippy --locked --lib --all-features -- -A clippy::all -A clippy::pedantic -D clippy::incompatible_msrv
