#!/bin/sh
# Make or refresh .venv from the lock files; called by make, and quick when pip finds all in place.
# usage: packaging/venv.sh VENV
set -eu
venv=$1
cd "$(dirname "$0")/.."

# A package index can be out of step with itself for minutes: a lock that was good is tried again, with patience.
patiently() {
    for pause in 5 20 60 120 240; do
        "$@" && return 0
        echo "venv: '$*' failed; trying again in $pause s" >&2
        sleep "$pause"
    done
    "$@"
}

usable() { "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        if usable "$name"; then
            echo "$name"
            return
        fi
    done
    echo "venv: Python 3.11 or newer, with its venv module, is needed (Debian: apt-get install python3-venv)" >&2
    exit 1
}

if ! usable "$venv/bin/python"; then
    python=$(find_python)
    echo "venv: making $venv with $python"
    "$python" -m venv --clear "$venv"
fi
pip="$venv/bin/python -m pip --disable-pip-version-check --no-input -q"
patiently $pip install --require-hashes -r requirements.lock

# Guest programs and the native part are compiled here: without a compiler for both architectures, take zig's.
if ! "$venv/bin/python" guest/toolchain.py; then
    patiently $pip install --require-hashes -r requirements-zig.lock
fi
