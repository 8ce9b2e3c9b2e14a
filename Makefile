# The developer's verbs.  Everything lives in .venv, .cache, build and guest/build; `make clean` forgets it.
SHELL := /bin/bash
# Byte code is cached: without it every run compiles three hundred modules anew.
unexport PYTHONDONTWRITEBYTECODE
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Without cached bytecode every start of the emulator compiles all of it anew: 0.1 s.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
PY := $(VENV)/bin/python
DEPS := $(VENV)/.deps
INSTALLED := $(VENV)/.installed
NATIVE := emu/native/libemunative.so
# Words for pytest, as in: make test PYTEST_ARGS='-k mremap'
PYTEST_ARGS ?=
WORKERS ?= $(shell nproc)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

# --- the environment: made on first use, refreshed when the lock or a native source is newer -------------------------
$(DEPS): requirements.lock requirements-zig.lock packaging/venv.sh guest/toolchain.py
	sh packaging/venv.sh $(VENV)
	@touch $@

$(INSTALLED): $(DEPS) pyproject.toml
	$(PY) -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
	@touch $@

$(NATIVE): $(INSTALLED) packaging/backend.py $(wildcard emu/native/*.c emu/native/*.h)
	$(PY) packaging/backend.py
	@touch $@

.PHONY: setup
setup: $(INSTALLED) $(NATIVE) ## make .venv with the locked packages and build the native part

.PHONY: lock
lock: ## resolve the dependencies anew and write the lock files, with hashes
	sh packaging/lock.sh

# --- the main job ----------------------------------------------------------------------------------------------------
.PHONY: guest
guest: setup ## build the guest programs for both architectures
	@$(PY) -m guest.builder

.PHONY: run
run: setup ## build a guest program and run it with its faults explained
	@$(PY) -m guest.builder --arch x86-64 --only start/tour
	$(VENV)/bin/minikernel run --explain --stats guest/build/x86-64/start/tour

.PHONY: seven
seven: setup ## seven processes of 36 MiB in a machine of 16: what was resident, swapped, dropped and read back
	@$(PY) -m guest.builder --arch x86-64 --only pressure/seven
	$(VENV)/bin/minikernel run --ram 16M --swap 64M guest/build/x86-64/pressure/seven table

.PHONY: native
native: setup ## run every guest program on this machine's own Linux: the oracle
	@$(PY) -m guest.builder
	@$(PY) -m guest.native

# --- the checks ------------------------------------------------------------------------------------------------------
.PHONY: test
test: setup ## the tests, on all cores
	$(PY) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

.PHONY: explain-all
explain-all: setup ## every fault of every guest program: explained, foreseen, decided where we say; half an hour
	$(PY) -m tests.explain_all

.PHONY: stress
stress: setup ## minutes of forking, mapping and swapping on machines short of memory; STRESS_ARGS='--minutes 10 --seed 7'
	$(PY) -m tests.stress $(STRESS_ARGS)

.PHONY: travel
travel: setup ## back and forth through 100 million instructions of 50 processes that swap; TRAVEL_ARGS='--moves 50 --seed 7'
	@$(PY) -m guest.builder --bench --only bench/crowd
	$(PY) -m tests.travel $(TRAVEL_ARGS)

.PHONY: traces
traces: setup ## record, replay and verify every guest and Debian program; 1,000 runs, one digest; TRACES_ARGS='--only thread'
	$(PY) -m tests.traces $(TRACES_ARGS)

.PHONY: coverage
coverage: setup ## every branch of paging and memory management is taken by a test that needs no guest program
	$(PY) -m pytest -n $(WORKERS) -q tests/emu/test_paging*.py tests/minikernel/mm --cov=emu.paging --cov=minikernel.mm --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=100

.PHONY: format lint types imports
format: setup ## fail where the formatter would change something (`.venv/bin/ruff format` changes it)
	$(VENV)/bin/ruff format --check .
lint: setup ## ruff, all rules but those that pyproject.toml argues away
	$(VENV)/bin/ruff check .
types: setup ## mypy --strict
	$(VENV)/bin/mypy
imports: setup ## the laws of the house: imports go down one staircase
	$(VENV)/bin/lint-imports

.PHONY: check
check: format lint types imports test ## what CI runs

.PHONY: bench
bench: setup ## times beside native, qemu-user and bare Unicorn; BENCH_ARGS='--only null_call --json FILE'
	@$(PY) -m guest.builder --bench
	$(PY) -m bench.bench $(BENCH_ARGS)
	$(PY) -m bench.kernel
	$(PY) -m bench.travel
	$(PY) -m bench.stops
	$(PY) -m bench.traces
	$(PY) -m bench.levels

.PHONY: clean
clean: ## forget what was built and fetched
	rm -rf $(VENV) .cache build dist *.egg-info guest/build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f emu/native/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
