#!/bin/sh
# Write requirements.lock and requirements-zig.lock from pyproject.toml: every version and hash, for every Python >= 3.11.
# usage: packaging/lock.sh [--upgrade]
set -eu
cd "$(dirname "$0")/.."
tool=.cache/lock
[ -x $tool/bin/uv ] || { .venv/bin/python -m venv $tool && $tool/bin/pip install -q uv; }
lock() {
    $tool/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        "$@" </dev/null >/dev/null
}
lock pyproject.toml --group dev -o requirements.lock "$@"
lock --group zig -o requirements-zig.lock "$@"
