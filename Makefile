# The front door. `make` alone prints the targets; every target sets up what it needs by itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
NATIVE := src/firepond/_native.abi3.so
SIMULATOR := tests/sim/_sim.abi3.so
NATIVE_SOURCES := Cargo.toml Cargo.lock $(shell find fs/native meta/native storage/native client/native -name '*.rs' -o -name Cargo.toml)
SIMULATOR_SOURCES := $(NATIVE_SOURCES) $(shell find tests/sim/native -name '*.rs' -o -name Cargo.toml)

# One set of variables for every cargo call, so that nothing is built twice.
export PYO3_BUILD_EXTENSION_MODULE := 1
export PYO3_PYTHON := $(CURDIR)/$(PYTHON)
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# The last is where rustup puts cargo, for shells that have not been told yet.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(HOME)/.cargo/bin

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/ready ## Install missing Debian packages (as root) and the Python environment

.venv/ready: fs/tools/setup.sh fs/tools/constraints.txt pyproject.toml smallpond/pyproject.toml
	@bash fs/tools/setup.sh

$(NATIVE): .venv/ready $(NATIVE_SOURCES)
	@command -v cargo >/dev/null || bash fs/tools/setup.sh
	cargo build --release -p firepond-native
	@cp $(CARGO_TARGET_DIR)/release/lib_native.so $@.new && mv $@.new $@

.PHONY: build
build: $(NATIVE) ## Build the native module (release) and put it in place

.PHONY: quick
quick: .venv/ready ## Build the native module for the inner loop: incremental, a little slower code
	cargo build --profile quick -p firepond-native
	@cp $(CARGO_TARGET_DIR)/quick/lib_native.so $(NATIVE).new && mv $(NATIVE).new $(NATIVE)

$(SIMULATOR): .venv/ready $(SIMULATOR_SOURCES)
	cargo build --release -p firepond-sim --features python
	@cp $(CARGO_TARGET_DIR)/release/lib_sim.so $@.new && mv $@.new $@

.PHONY: simulator
simulator: $(NATIVE) $(SIMULATOR)

.PHONY: sim
sim: simulator ## Simulate: SEED=n replays one and explains it, SEEDS=n (from FIRST=n) is the soak
	@$(PYTHON) -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000) --first $(or $(FIRST),1))

.PHONY: sim-mistakes
sim-mistakes: simulator ## Plant known mistakes in the code that ships; a seed must fail for each
	@$(PYTHON) -m tests.sim --mistakes

.PHONY: demo
demo: build ## Run the tour: a three-replica cluster, a checkpoint, a crash, a KV cache
	@$(PYTHON) -m benchmarks.demo

.PHONY: test
test: build simulator ## Run all tests: Rust, then the simulator and Python, real clusters included
	cargo test --workspace -- --quiet
	$(PYTHON) -m pytest

.PHONY: check
check: build ## Run formatters, linters, type checkers and the tidy test
	$(PYTHON) fs/tools/errors_generate.py --check
	ruff format --check .
	ruff check .
	mypy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features firepond-sim/python -- -D warnings
	$(PYTHON) -m pytest -q tests/test_tidy.py

.PHONY: format
format: .venv/ready ## Format all code
	ruff format .
	ruff check --fix --select I .
	cargo fmt --all

.PHONY: bench
bench: build ## Measure against the machine's own limits; BENCH="--quick" for a short run
	@$(PYTHON) -m benchmarks.run $(BENCH)

.PHONY: model-soak
model-soak: build ## Compare SDK, mounts and a local directory for MINUTES (default 30), with faults
	FIREPOND_SOAK_MINUTES=$(or $(MINUTES),30) $(PYTHON) -m pytest -q -s tests/model/test_model.py -k soak --timeout 100000

.PHONY: crash-soak
crash-soak: build ## Kill processes under load for MINUTES (default 30)
	FIREPOND_SOAK_MINUTES=$(or $(MINUTES),30) $(PYTHON) -m pytest -q tests/cluster/test_crash_soak.py --timeout 100000

.PHONY: store-soak
store-soak: ## Kill a process that writes to a chunk store, at random moments, for MINUTES (default 30)
	FIREPOND_TEST_KILL_MINUTES=$(or $(MINUTES),30) cargo test --release -p firepond-storage --test store -- kill --nocapture

.PHONY: smallpond-soak
smallpond-soak: build ## Kill smallpond jobs and resume them for MINUTES (default 30)
	FIREPOND_SOAK_MINUTES=$(or $(MINUTES),30) $(PYTHON) -m pytest -q -s tests/smallpond/frame/test_kill_drill.py --timeout 100000

.PHONY: clean
clean: ## Remove everything that was built; clusters and their data stay
	rm -rf target build dist .venv .mypy_cache .ruff_cache .pytest_cache $(NATIVE) $(SIMULATOR)
