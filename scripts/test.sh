#!/usr/bin/env bash
# Every test that needs only stable Rust, gcc, cmake, Python and the stores' servers: `make test`.
# The servers are private ones, started here and stopped at the end.
cd "$(dirname "$0")/.."
[[ -n ${ONCEFLIGHT_TEST_SERVERS:-} ]] || exec scripts/servers.sh run scripts/test.sh "$@"
. scripts/steps.sh

# An installation in a place of its own, and programs built from it alone.
install_tests() {
    place=$(mktemp -d) # seen by the trap, so not local
    trap 'rm -rf "$place"' EXIT
    make install PREFIX=/opt/onceflight DESTDIR="$place"
    ffi-tests/install/run.sh "$place/opt/onceflight"
}

step format cargo fmt --check
step clippy cargo clippy --locked --all-targets -- -D warnings
step clippy-all cargo clippy --locked --all-targets --all-features -- -D warnings
for feature in capi store sqlite postgres redis memcached http ureq; do
    step "clippy-$feature" cargo clippy --locked --lib --features $feature -- -D warnings
done
step docs env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
step docs-all env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
step rust cargo test --locked --no-fail-fast
step servers scripts/servers_test.sh
# The clusters need no feature, and have just run.
step rust-all env ONCEFLIGHT_SEEDS=100 ONCEFLIGHT_CHAOS=1 cargo test --locked --no-fail-fast --all-features
# The library's own assertions watch the models too; LTO would only make them slow to build.
step models env RUSTFLAGS="--cfg onceflight_shuttle -D warnings" CARGO_TARGET_DIR="$TARGET/models" \
    CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_LTO=off \
    cargo test --locked --no-fail-fast --release --test models
step vectors python3 tests/vectors/reference.py --check
step lib make lib
step c-and-python ffi-tests/run.sh --lib-dir "$TARGET/release"
step install install_tests
step readme scripts/readme_check.sh
finish
