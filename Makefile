# `make` lists the targets; start with `make demo` and `make test`.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# Data folder of the embedded server, e.g. make demo WINDLASS_HOME=/data/windlass
WINDLASS_HOME ?= $(CURDIR)/.windlass
export WINDLASS_HOME

# Set in many images and shells, but servers, trainers and tests are many short processes that need the bytecode cache.
unexport PYTHONDONTWRITEBYTECODE

# Node of tests/factories/node.py, on machines without another one.
export PATH := $(CURDIR)/.cache/node/bin:$(PATH)

BIN := .venv/bin
SOURCES := platform api operators pipelines tests docs
TESTS ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n\033[1m%s\033[0m\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  \033[36m%-13s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use

.PHONY: setup demo cluster-demo
setup: ## Install what `windlass up` needs into .venv, from the hash-locked requirements
	@requirements/sync embedded

demo: setup ## Fine-tune and serve two real models on this machine
	@$(BIN)/python -m windlass.cli.demo

cluster-demo: dev ## Start a Kubernetes test cluster, `helm install`, fine-tune and serve a model in it (Linux, root, Go)
	@$(BIN)/python -m tests.cluster_demo $(if $(INSTALL),--install)

##@ Check

.PHONY: dev test pytest lint types contracts coverage mutants faults fuzz cluster cluster-build cluster-up cluster-test predictions s3-test test-kfp cluster-down
dev: ## Install the development tools too
	@requirements/sync dev

test: lint types contracts pytest ## Everything that CI runs except the cluster tests
	@echo "not run: the tests that need a real Kubernetes cluster; on Linux, as root, with Go: make cluster-test"
	@echo "not run: the tests that need a real S3 server; with Go: make s3-test"

# Distributed by file, see tests/conftest.py; in the order in which they are collected, the longest tests first.
# Three workers for two cores, since process tests also wait.
IN_PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

# Coverage takes 20 % more time, so only `make coverage` measures it.
pytest: dev ## Only the tests, without the cluster tests: make pytest TESTS='tests/unit -k quota'; INSTALL=1 adds PostgreSQL, Chromium and Node
	@$(if $(CI)$(INSTALL),$(BIN)/python -m tests.factories.postgres_server)
	@$(if $(CI)$(INSTALL),$(BIN)/python -m tests.factories.browser)
	@$(if $(CI)$(INSTALL),$(BIN)/python -m tests.factories.node)
	@$(BIN)/pytest $(IN_PARALLEL) -m 'not cluster and not s3' --durations=20 $(TESTS)

lint: dev ## ruff: rules and format; with Node also tsc and eslint of the console
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(if $(CI)$(INSTALL),$(BIN)/python -m tests.factories.node)
	@if command -v npm >/dev/null; then $(BIN)/python api/console/build.py --check; else echo "not checked: the console, which needs Node"; fi

types: dev ## mypy --strict
	@$(BIN)/mypy $(SOURCES)

contracts: dev ## import-linter: the import rules
	@$(BIN)/lint-imports

coverage: dev ## Run the tests, and write htmlcov/index.html
	@$(BIN)/pytest $(IN_PARALLEL) -m 'not cluster and not s3' --cov --cov-report=term:skip-covered $(TESTS)
	@$(BIN)/coverage html --quiet

# Some minutes at the scale of 50 times the examples of CI. FUZZ_SEED repeats a run, TESTS='-k parquet' is a part.
FUZZ_SCALE ?= 50
fuzz: dev ## Fuzz the API and every parser with random inputs, and time refused keys; prints the seed
	@seed=$(or $(FUZZ_SEED),$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')); echo "repeat with: make fuzz FUZZ_SEED=$$seed"; \
	  FUZZ_SCALE=$(FUZZ_SCALE) $(BIN)/pytest $(IN_PARALLEL) --timeout=7200 --hypothesis-seed=$$seed tests/fuzz $(TESTS); \
	  $(BIN)/python -m tests.bench.key_timing --seed $$seed

# 400 jobs for each seed: about 15 minutes each on two cores. FAULT_SEEDS=7 is one seed, FAULT_JOBS=50 is shorter.
FAULT_JOBS ?= 400
FAULT_SEEDS ?= 1 2 3
FAULT_TESTS := tests/e2e/test_faults.py tests/e2e/test_failpoints.py tests/e2e/test_resource_exhaustion.py \
  tests/integration/api/test_dispatcher_processes.py tests/integration/api/test_intake_kills.py tests/integration/replicas
faults: dev ## Kill, stop and disconnect processes while jobs run, and check that none is lost or runs twice; prints the seeds
	@FAULT_JOBS=$(FAULT_JOBS) FAULT_SEEDS='$(FAULT_SEEDS)' $(BIN)/pytest -n0 -rP $(FAULT_TESTS) $(TESTS)

# Changes one place of a module at a time; half an hour on two idle cores.
# MUTANTS='--named' runs the named ones, MUTANTS='windlass.db.outbox --sample 20' a part, see --help.
MUTANTS ?=
mutants: dev ## Check that the tests notice changes of the code that must not fail
	@$(BIN)/python -m tests.mutants $(MUTANTS)

cluster: dev ## Start a Kubernetes test cluster on this machine (Linux, root, Go); INSTALL=1 adds Debian packages
	@$(BIN)/python -m tests.testcluster up $(if $(INSTALL),--install)

IMAGES := control-plane operators pipelines ray
FOR_CLUSTER_TESTS := --backing-services $(foreach name,$(IMAGES),--image $(name)) $(if $(CI)$(INSTALL),--install)
# Without `dev`: both may run beside `make test`.
cluster-build: ## Build what `make cluster-test` needs, and start nothing; needs `make dev`
	@$(BIN)/python -m tests.testcluster build --tools $(FOR_CLUSTER_TESTS)

cluster-up: ## Start the cluster of `make cluster-test`, unless it is up; needs `make dev`
	@$(BIN)/python -m tests.testcluster up $(FOR_CLUSTER_TESTS)

# The tests add what they need to a running cluster anyway; a cluster that starts with it is faster. The tests of the S3
# server run beside those of the cluster, which wait most of the time. MARKED='cluster and not long' is a part. Exit code 5:
# TESTS selects none of a kind.
MARKED ?= cluster
cluster-test: dev cluster-up ## Run the cluster tests; starts the cluster unless it is up
	@mkdir -p build
	@$(BIN)/pytest -m 's3 and not cluster and not long' $(TESTS) >build/s3-test.log 2>&1 & s3=$$!; cluster_code=0; s3_code=0; \
	  $(BIN)/pytest -m '$(MARKED)' --durations=20 $(TESTS) || cluster_code=$$?; wait $$s3 || s3_code=$$?; cat build/s3-test.log; \
	  for code in $$cluster_code $$s3_code; do [ $$code = 0 ] || [ "$$code,$(if $(TESTS),some)" = 5,some ] || exit $$code; done

predictions: dev ## Compare predictions with Kueue's decisions in 200 random setups; takes six minutes
	@WINDLASS_TESTCLUSTER_SETUPS=all $(BIN)/pytest -s tests/integration/cluster/test_prediction.py

s3-test: dev ## Run the tests that need a real S3 server; builds one unless it is cached (Go)
	@$(BIN)/pytest -m s3 $(TESTS)

# KFP_NAMESPACE, KFP_IMAGE, KFP_SERVICE_ACCOUNT, KFP_TOKEN_FILE: see docs/guides/use-a-kubeflow-pipelines-server.md.
test-kfp: dev ## Run the contract of pipeline back ends against a real server: KFP_HOST=http://..., and a kubeconfig of its cluster
	@test -n "$(KFP_HOST)" || { echo "set KFP_HOST to the URL of a Kubeflow Pipelines API server" >&2; exit 2; }
	@KFP_HOST='$(KFP_HOST)' $(BIN)/pytest -n0 -s tests/contracts/kfp_real_server.py

cluster-down: dev ## Stop the test cluster
	@$(BIN)/python -m tests.testcluster down

##@ Release

.PHONY: console wheel images
console: setup ## Build the web console, which `windlass up` serves (Node 20.19 or newer; INSTALL=1 adds it)
	@$(if $(CI)$(INSTALL),$(BIN)/python -m tests.factories.node)
	@$(BIN)/python api/console/build.py

wheel: dev console ## Build the wheel, with the console, into dist/
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .

# With docker, podman or buildah, see helm/images/build. CUDA=no: `ray` for machines without GPUs.
images: ## Build the container images: REGISTRY=registry.example.com/team PUSH=1 pushes them, IMAGES=ray is one
	@helm/images/build $(IMAGES)

##@ Measure

BENCH ?=
MLFLOW := build/mlflow
# About ten minutes; the peer is installed into build/mlflow. BENCH='--rounds 1' is shorter, see --help.
.PHONY: bench
bench: dev ## Benchmark requests of the API beside those of MLflow, on SQLite and PostgreSQL; writes build/bench.md
	@test -x $(MLFLOW)/bin/mlflow || { $(BIN)/uv venv --quiet --clear --python $(BIN)/python $(MLFLOW) && \
	  $(BIN)/uv pip install --quiet --python $(MLFLOW)/bin/python --require-hashes -r requirements/mlflow.txt; }
	@$(BIN)/python -m tests.bench.api --mlflow $(MLFLOW)/bin/mlflow $(BENCH)

# BENCH='--jobs 1000 --finished 10000' is shorter, see --help.
.PHONY: bench-control-plane
bench-control-plane: dev ## Benchmark submission, admission and idle cost with many queued and finished jobs; writes build/bench-control-plane.md
	@$(BIN)/python -m tests.bench.control_plane $(BENCH)

# BENCH='--data reviews --seeds 1' is short, see --help.
.PHONY: bench-quality
bench-quality: dev ## Benchmark trained models against a plain training loop and simple models; writes build/bench-quality.md
	@$(BIN)/python -m tests.bench.quality $(BENCH)

# Some minutes; MARGINS='--sets AVX2 --threads 1' is a part, see --help.
MARGINS ?=
.PHONY: margins
margins: dev ## Measure how far the results of the learning tests are from their limits, by CPU, threads and seed
	@$(BIN)/python -m tests.bench.margins $(MARGINS)

# BENCH='--seconds 5 --users 0 4' is shorter, see --help.
.PHONY: bench-flood
bench-flood: dev ## Benchmark the requests of a tenant while another one floods the server; writes build/bench-flood.md
	@$(BIN)/python -m tests.bench.flood $(BENCH)

# BENCH='--loads 3' is short, see --help. Needs Chromium and Node.
.PHONY: bench-console
bench-console: dev ## Benchmark first loads of the console, alone and while a job trains; writes build/bench-console.md
	@$(BIN)/python -m tests.bench.console $(BENCH)

# Uses a separate cluster and stops it afterwards: BENCH='--projects 50 --workloads 100' is small, see --help.
.PHONY: bench-cluster
bench-cluster: dev ## Benchmark the operators and Kueue's admissions; writes build/bench-cluster.md
	@$(BIN)/python -m tests.bench.cluster $(BENCH)

# Uses the test cluster, which keeps running: BENCH='--pairs 2' is short.
.PHONY: bench-start
bench-start: dev ## Benchmark the time to the first optimizer step in a cluster; writes build/bench-start.md
	@$(BIN)/python -m tests.bench.start $(BENCH)

##@ Change

.PHONY: fmt docs lock clean
fmt: dev ## Format, and apply ruff's fixes
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs: dev ## Generate pages of docs/reference, the CRDs, the blocking SDK and the compiled pipelines
	@$(BIN)/python -m docs.generate_sync_sdk
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m windlass.kube helm/windlass-crds/templates
	@$(BIN)/python -m windlass_pipelines.compile --on-server --image IMAGE platform/windlass/orchestration/kfp/fine_tune.yaml
	@$(BIN)/python -m windlass_pipelines.compile --for-users --image IMAGE platform/windlass/orchestration/kfp/submit_job.yaml

.PHONY: docs-images
docs-images: dev ## Take the screenshots of the console in docs/images again, in a run of its test (Chromium and Node)
	@GUIDE_IMAGES=1 $(BIN)/pytest -q -n0 tests/integration/browser/test_first_model.py -k in_the_browser_alone

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
INSTALL_TOOLS = requirements/bootstrap.in requirements/build.in
lock: dev ## Resolve pyproject.toml into requirements/*.txt; UPGRADE=1 takes newer versions
	@$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(COMPILE) requirements/node.in -o requirements/node.txt
	@$(COMPILE) pyproject.toml $(INSTALL_TOOLS) --extra embedded --extra operators --group dev -o requirements/dev.txt
	@$(COMPILE) pyproject.toml $(INSTALL_TOOLS) --extra embedded -c requirements/dev.txt -o requirements/embedded.txt
	@$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/base.txt
	@$(COMPILE) requirements/mlflow.in -o requirements/mlflow.txt
	@for role in api data operators pipelines train; do \
	  $(COMPILE) pyproject.toml --extra $$role -c requirements/dev.txt -o requirements/$$role.txt; \
	done

clean: ## Remove the environment, caches and reports; keeps $(WINDLASS_HOME)
	@rm -rf .venv .cache .coverage* htmlcov dist build .hypothesis .schemathesis .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
