# `make` lists the targets. Two of them are all that a newcomer needs: `make demo` and `make test`.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# Where the embedded server keeps everything. The path may be given: make demo WINDLASS_HOME=/data/windlass
WINDLASS_HOME ?= $(CURDIR)/.windlass
export WINDLASS_HOME

# Set in many images and shells, and costly here: servers, trainers and tests are many short processes.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
SOURCES := platform api operators pipelines tests docs
TESTS ?=

.PHONY: help
help: ## List what can be made
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n\033[1m%s\033[0m\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  \033[36m%-13s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use

.PHONY: setup demo
setup: ## Install what `windlass up` needs into .venv, from the hash-locked requirements
	@requirements/sync embedded

demo: setup ## Fine-tune and serve two real models on this machine
	@$(BIN)/python -m windlass.cli.demo

##@ Check

.PHONY: dev test pytest lint types contracts coverage cluster cluster-test cluster-down
dev: ## Install the development tools too
	@requirements/sync dev

test: lint types contracts pytest ## What CI runs, but for the tests of the cluster
	@echo "left out: the tests that need a real Kubernetes; on Linux, as root, with Go: make cluster-test"

# By file, since the tests of one share servers and models; in the order of collection, which has the long ones first.
# Three workers for two cores, since tests of processes also wait.
IN_PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder
COVERAGE := --cov --cov-report=term:skip-covered

# Measuring coverage costs a fifth of the time, so that only CI and `make coverage` do.
pytest: dev ## The tests alone, but for those of the cluster: make pytest TESTS='tests/unit -k quota'
	@$(BIN)/pytest $(IN_PARALLEL) -m 'not cluster' --durations=20 $(if $(CI),$(COVERAGE)) $(TESTS)

lint: dev ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: dev ## mypy --strict
	@$(BIN)/mypy $(SOURCES)

contracts: dev ## import-linter: who may import whom
	@$(BIN)/lint-imports

coverage: dev ## The tests, and htmlcov/index.html with every line they miss
	@$(BIN)/pytest $(IN_PARALLEL) -m 'not cluster' $(COVERAGE) $(TESTS)
	@$(BIN)/coverage html --quiet

cluster: dev ## Start a real Kubernetes on this machine (Linux, root, Go); INSTALL=1 adds Debian packages
	@$(BIN)/python -m tests.bed up $(if $(INSTALL),--install)

# The one test of the project's image has it built anyway; in CI the times of the build shall be seen.
cluster-test: dev ## The tests that need the cluster, which is started for them unless it is up
	@$(BIN)/python -m tests.bed up $(if $(CI)$(INSTALL),--install) $(if $(CI),--image control-plane)
	@$(BIN)/pytest -m cluster --durations=10 $(TESTS)

cluster-down: dev ## End it, and everything that runs on it
	@$(BIN)/python -m tests.bed down

##@ Measure

# Its own cluster, which it ends again: BENCH='--projects 50 --workloads 100' is small, --help lists what can be said.
.PHONY: bench-cluster
BENCH ?=
bench-cluster: dev ## The operators and Kueue's admissions, on a cluster of their own; build/bench-cluster.md
	@$(BIN)/python -m tests.bench.cluster $(BENCH)

##@ Change

.PHONY: fmt docs lock clean
fmt: dev ## Format, and mend what ruff can mend
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs: dev ## Write what is generated: pages of docs/reference, the custom resource definitions
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m windlass.kube helm/windlass/crds

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
INSTALL_TOOLS = requirements/bootstrap.in requirements/build.in
lock: dev ## Resolve pyproject.toml into requirements/*.txt; UPGRADE=1 takes newer versions
	@$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(COMPILE) pyproject.toml $(INSTALL_TOOLS) --extra embedded --extra operators --group dev -o requirements/dev.txt
	@$(COMPILE) pyproject.toml $(INSTALL_TOOLS) --extra embedded -c requirements/dev.txt -o requirements/embedded.txt
	@$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/base.txt
	@for role in api data operators pipelines train; do \
	  $(COMPILE) pyproject.toml --extra $$role -c requirements/dev.txt -o requirements/$$role.txt; \
	done

clean: ## Remove the environment, caches and reports; keeps $(WINDLASS_HOME)
	@rm -rf .venv .cache .coverage* htmlcov dist build .hypothesis .schemathesis .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
