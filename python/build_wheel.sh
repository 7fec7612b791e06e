#!/bin/sh
# Builds the wheel, with the shared library inside: build_wheel.sh [DIRECTORY, default python/dist]
#
# ONCEFLIGHT_LIBRARY  the library to carry; built here if unset
# PYTHON              the interpreter (python3); needs pip and setuptools, and wheel where setuptools
#                     is older than 70.1; else they are fetched into a throw-away environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$here/dist}"
dist=$(cd "${1:-$here/dist}" && pwd)
python=${PYTHON:-python3}

library=${ONCEFLIGHT_LIBRARY:-}
if [ -z "$library" ]; then
    (cd "$here/.." && cargo rustc --lib --release --features capi,stores --crate-type cdylib,staticlib)
    library=${CARGO_TARGET_DIR:-$here/../target}/release/libonceflight.so
fi

# A copy is built from, so that the tree stays clean and two builds don't meet.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cp -R "$here/onceflight" "$here/pyproject.toml" "$here/setup.py" "$here/README.md" "$work"
rm -rf "$work/onceflight/_lib"
mkdir "$work/onceflight/_lib"
cp -L "$library" "$work/onceflight/_lib/libonceflight.so"
strip --strip-debug "$work/onceflight/_lib/libonceflight.so" 2>/dev/null || true

tools="import setuptools
try:
    import setuptools.command.bdist_wheel
except ImportError:
    import wheel.bdist_wheel
import pip"
if ! "$python" -c "$tools" 2>/dev/null; then
    "$python" -m venv "$work/env"
    python=$work/env/bin/python
    "$python" -m pip install -q --disable-pip-version-check "setuptools>=70.1"
fi
rm -f "$dist"/onceflight-*.whl
"$python" -m pip wheel -q --disable-pip-version-check --no-index --no-deps --no-build-isolation \
    --wheel-dir "$dist" "$work"
ls "$dist"/onceflight-*.whl
