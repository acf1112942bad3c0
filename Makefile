# Everything here sets itself up: `make demo` and `make test` work in a fresh clone with Python 3.11+, make and git.
# Say `make` for the list.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# Two cores are what the smallest machine that builds this has, and of three workers one mostly waits for a door.
WORKERS ?= 3
# Where it is set, every process that a test starts compiles the product anew, a tenth of a second each.
unexport PYTHONDONTWRITEBYTECODE
# Of the fault lab.
RUNS ?= 100
SEED ?= 1
# Of the red team's commands.
COMMANDS ?= 100000
# Of the lock boards' conformance suite and of their codecs' fuzzing.
OPERATIONS ?= 1000000
BYTES ?= 10000000
# pytest's 5 says that it ran no test: wrong for the whole suite, right where ARGS chose a part of it.
MAYBE_NONE := $(if $(ARGS),|| [ $$? -eq 5 ])

# Stamps: newer than what they were made from, so that a second run has nothing to do.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SYSTEM := $(VENV)/.system
WEB := web/dist/.built
PEERS := tests/contract/peers/node_modules/.installed
WEB_SOURCES := $(shell find web \( -name node_modules -o -name dist -o -name __pycache__ \) -prune -o -type f -print)

.DEFAULT_GOAL := help
.PHONY: help demo setup check test test-long faults attack doors fuzz bench lock format clean
.DELETE_ON_ERROR:

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(RUNTIME) $(WEB) ## the whole locker on this machine, simulated hardware; ARGS="--once --json" plays it by itself
	@$(BIN)/lastmile demo $(ARGS)

setup: $(DEV) $(WEB) ## virtual environment, packages and pages, for working on the code

check: $(DEV) $(WEB) ## lint, format, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	tools/node.sh $(BIN)/python check

test: $(DEV) $(SYSTEM) $(WEB) $(PEERS) check ## everything that must hold, in under ten minutes on two cores
	$(PYTEST) -m "not serial and not long" -n $(WORKERS) --dist loadgroup $(ARGS) $(MAYBE_NONE)
	$(PYTEST) -m "serial and not long" $(ARGS) $(MAYBE_NONE)

test-long: $(DEV) $(SYSTEM) $(WEB) $(PEERS) ## what takes longer: storms, long fuzzing, whole crash runs
	HYPOTHESIS_PROFILE=explore $(PYTEST) -m long --timeout=3600 $(ARGS)

faults: $(DEV) $(SYSTEM) ## the fault lab: RUNS=10000 SEED=1; a seed that failed alone by ARGS="--only SEED"
	@nice $(BIN)/python -m tests.faults --runs $(RUNS) --seed $(SEED) $(ARGS)

attack: $(DEV) $(SYSTEM) ## duplicate, stale and crashing commands; COMMANDS=2000 SEED=1 for a short attack
	@nice $(BIN)/python -m tests.redteam.attack --commands $(COMMANDS) --seed $(SEED) $(ARGS)

doors: $(DEV) ## every kind of lock board under drawn faults; OPERATIONS=20000 SEED=1 for fewer, ARGS="--lock-board MODULE:RIG"
	@nice $(BIN)/python -m tests.locker.conformance --operations $(OPERATIONS) --seed $(SEED) $(ARGS)

fuzz: $(DEV) ## rubbish for the codec of every kind of lock board; BYTES=1000000 for less
	@nice $(BIN)/python -m tests.locker.conformance --fuzz $(BYTES) --seed $(SEED) $(ARGS)

bench: $(RUNTIME) ## the figures of benchmarks/, as a table; ARGS="--quick" for under a minute each
	@$(BIN)/python tools/bench.py $(ARGS)

format: $(DEV) ## let the tools put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Neither index addresses nor local paths: a lock names packages and hashes, whoever installs chooses the index.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
lock: $(DEV) ## resolve the dependencies anew; UPGRADE=--upgrade takes newer ones
	$(LOCK) $(UPGRADE) pyproject.toml --extra demo --group build -o requirements.lock
	$(LOCK) $(UPGRADE) pyproject.toml --extra postgresql --extra amqp --extra gpio --extra camera --group dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) $(UPGRADE) --group node -o requirements-node.lock

clean: ## remove all that make has made
	rm -rf $(VENV) web/node_modules web/dist tests/contract/peers/node_modules .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@tools/venv.sh "$(PYTHON)" $(VENV)

$(RUNTIME): requirements.lock pyproject.toml | $(VENV)/pyvenv.cfg
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(SYSTEM): tools/system.sh | $(VENV)/pyvenv.cfg
	@tools/system.sh
	@touch $@

$(WEB): tools/node.sh requirements-node.lock $(WEB_SOURCES) | $(VENV)/pyvenv.cfg
	tools/node.sh $(BIN)/python build
	@touch $@

$(PEERS): tools/node.sh requirements-node.lock tests/contract/peers/package-lock.json | $(VENV)/pyvenv.cfg
	tools/node.sh $(BIN)/python peers
	@touch $@
