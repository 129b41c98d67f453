SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Which Python makes the environment, and where it stands. `make test PYTHON=python3.12 VENV=.venv-3.12` keeps both.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PYTHON

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --extra dev --universal --python-version 3.11 \
	--no-annotate --custom-compile-command "make constraints" --upgrade

PLAIN = sed -n -e '/==/s/ *\\$$//p'

# What does not depend on the version of Airflow is not run on each.
SKIP = $(addprefix --ignore=tests/,client conformance local local_cli typing test_documents.py test_examples.py test_repository.py test_site.py test_snippets.py)
# Between the oldest and the newest, Airflow itself uses what its requirements have deprecated since.
OUTDATED = -W default
# dag.test() of these versions builds an API server for each task, two seconds each: forty tasks take too long.
SLOW = --deselect "tests/test_example_dags.py::test_an_example_runs_against_the_local_control_plane[example_fan_out]"
define test_on_airflow
	@dev/setup.sh .venv-airflow-$(1) $(2)
	@.venv-airflow-$(1)/bin/python -m pytest -m "not airflow and not slow" $(SKIP) $(SPREAD) $(3) $(ARGS)
endef

# The newest Airflow's tab is part of `make test`.
define test_tab_on_airflow
	@dev/setup.sh .venv-airflow-$(1) $(2)
	@dev/browser.sh
	@.venv-airflow-$(1)/bin/python -m pytest -m airflow $(OUTDATED) tests/airflow/test_tab.py $(ARGS)
endef

# Most tests wait more than they compute, so that several processes share a core; what a file's tests share stays in
# one. ARGS="-n 0" runs all in one process.
SPREAD = -n 4 --dist loadfile
# Branch coverage, of whole runs only. Processes of a real Airflow are not measured.
COVERAGE = $(if $(ARGS),,--cov --cov-report=term)
# What ARGS select may be of one kind only.
MAYBE_NONE = $(if $(ARGS),|| [ $$? = 5 ])

PICTURED = tests/local/test_pages.py tests/airflow/test_browser.py tests/airflow/test_tab.py

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Run the example on a real Airflow with a local control plane (KEEP=1 leaves both running)
	@$(BIN)/python -m dev.demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

.PHONY: test
test: setup lint types docs dist ## Check everything: lint, types, wheel, unit tests, a real scheduler and triggerer
	@dev/browser.sh
	@$(BIN)/python -m pytest -m "airflow and not slow" $(ARGS) $(MAYBE_NONE)
	@$(BIN)/python -m pytest -m "not airflow and not slow" $(SPREAD) $(COVERAGE) $(ARGS) $(MAYBE_NONE)

.PHONY: test-fast
test-fast: setup ## Run the tests that need no running Airflow
	@$(BIN)/python -m pytest -m "not airflow and not slow" $(SPREAD) $(ARGS)

.PHONY: setup
setup: ## Make the environment, once and again when the pinned requirements change
	@dev/setup.sh $(VENV) constraints.txt

.PHONY: lint
lint: setup ## Check style, import rules, and that generated code is fresh
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-logo >$(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/python dev/unasync.py --check

.PHONY: types
types: setup ## Check types with mypy and pyright, both strict
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: docs
docs: setup ## Build the documentation site into build/docs; warnings are errors
	@$(BIN)/sphinx-build -W --keep-going -n -q -d build/doctrees -b html docs build/docs

.PHONY: tutorial
tutorial: setup ## Follow the tutorial command by command in an empty environment, a real Airflow included (some minutes)
	@$(BIN)/python -m dev.walk_tutorial

.PHONY: pictures
pictures: setup ## Make the documentation's pictures anew from the demo and the browser tests (minutes)
	@dev/browser.sh
	@mkdir -p build/pictures
	@COLUMNS=110 FORCE_COLOR=1 $(BIN)/python -m dev.demo >build/pictures/demo.txt
	@HELMR_PICTURES=build/pictures $(BIN)/python -m pytest $(PICTURED)
	@$(BIN)/python -m dev.pictures build/pictures

.PHONY: format
format: setup ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: generate
generate: setup ## Generate the sync client from the async one, and the diagrams
	@$(BIN)/python dev/unasync.py
	@$(BIN)/python -m dev.drawings

.PHONY: dist
dist: setup ## Build sdist and wheel, and try the wheel in an empty environment
	@dev/try_wheel.sh $(VENV)

.PHONY: release
release: setup ## Build, check and sign a release in dist/ (docs/releasing.md)
	@dev/release.sh $(VENV)

.PHONY: constraints
constraints: setup ## Pin all requirements anew (needs the package index)
	$(COMPILE) --extra docs --generate-hashes dev/requirements/airflow-3.3.in -o constraints.txt
	$(COMPILE) --generate-hashes dev/requirements/airflow-2.11.in -o constraints-airflow-2.11.txt
	for version in 3.0 3.1 3.2; do \
		$(COMPILE) dev/requirements/airflow-$$version.in -o constraints/airflow-$$version.txt; \
	done
	$(BIN)/uv pip compile dev/requirements/celery.in --constraint constraints.txt --quiet --universal \
		--python-version 3.11 --no-annotate --custom-compile-command "make constraints" -o dev/requirements/celery.txt
	$(MAKE) constraints-plain

.PHONY: constraints-plain
constraints-plain: ## Write what users pass to pip install -c: the pins without hashes
	$(PLAIN) constraints.txt >constraints/airflow-3.3.txt
	$(PLAIN) constraints-airflow-2.11.txt >constraints/airflow-2.11.txt

.PHONY: test-airflow-2.11
test-airflow-2.11: ## Run the provider's tests on the oldest supported Airflow (SKIP= for the client's and others too)
	$(call test_on_airflow,2.11,constraints-airflow-2.11.txt)

.PHONY: test-real-airflow-2.11
test-real-airflow-2.11: ## Try sessions on the scheduler and triggerer of a real Airflow 2.11 on PostgreSQL (three minutes)
	@dev/services.sh
	@dev/setup.sh .venv-airflow-2.11 constraints-airflow-2.11.txt
	@.venv-airflow-2.11/bin/uv pip install --quiet --python .venv-airflow-2.11/bin/python \
		"$$(grep '^psycopg2' dev/requirements/celery.txt)"
	@.venv-airflow-2.11/bin/python -m pytest -m slow tests/airflow_2 $(ARGS)

.PHONY: test-airflow-3.0
test-airflow-3.0: ## Run the provider's tests on Airflow 3.0
	$(call test_on_airflow,3.0,constraints/airflow-3.0.txt,$(OUTDATED) $(SLOW))

.PHONY: test-airflow-3.1
test-airflow-3.1: ## Run the provider's tests on Airflow 3.1
	$(call test_on_airflow,3.1,constraints/airflow-3.1.txt,$(OUTDATED) $(SLOW))

.PHONY: test-airflow-3.2
test-airflow-3.2: ## Run the provider's tests on Airflow 3.2
	$(call test_on_airflow,3.2,constraints/airflow-3.2.txt,$(OUTDATED) $(SLOW))

.PHONY: test-matrix
test-matrix: test-airflow-2.11 test-airflow-3.0 test-airflow-3.1 test-airflow-3.2 ## Run the provider's tests on each older Airflow

.PHONY: test-oldest-python
test-oldest-python: ## Run the tests that need no running Airflow on Debian 12's Python 3.11.2
	@dev/oldest_python.sh
	@$(MAKE) test-fast PYTHON=/usr/bin/python3.11 VENV=.venv-oldest-python

.PHONY: test-tab-3.1 test-tab-3.2
test-tab-3.1: ## Try the Helmr tab of Airflow 3.1 in a real browser (minutes)
	$(call test_tab_on_airflow,3.1,constraints/airflow-3.1.txt)

test-tab-3.2: ## Try the Helmr tab of Airflow 3.2 in a real browser (minutes)
	$(call test_tab_on_airflow,3.2,constraints/airflow-3.2.txt)

.PHONY: test-reliability
test-reliability: ## Kill everything at every moment on a real Airflow on PostgreSQL (about an hour; ARGS="-k triggerer" for less; STOPS=200 SEED=12)
	@dev/celery.sh .venv-celery
	@STOPS=$(or $(STOPS),200) SEED=$(or $(SEED),12) .venv-celery/bin/python -m pytest tests/reliability -m slow $(ARGS) $(MAYBE_NONE)
	@.venv-celery/bin/python -m pytest tests/airflow -m "airflow and slow" $(ARGS) $(MAYBE_NONE)

# The last published state of the package.
PREVIOUS ?= 5ab4f8d

.PHONY: test-upgrade
test-upgrade: setup ## Resume what another revision has deferred, and the other way round (minutes; PREVIOUS=REVISION)
	@rm -rf build/previous && mkdir -p build/previous
	@git archive $(PREVIOUS) helmr_provider | tar -x -C build/previous
	@HELMR_PREVIOUS=build/previous $(BIN)/python -m pytest tests/upgrade -m slow $(ARGS)

.PHONY: test-faults
test-faults: setup ## Run 10,000 fault schedules of the client, and 300 over sockets (half an hour of one core; SEED=1234 replays one)
	@nice $(BIN)/python -m tests.client.faults \
		$(if $(SEED),--seed $(SEED) $(if $(SOCKETS),--sockets 1),--seeds $(or $(SEEDS),10000) --sockets $(or $(SOCKETS),300)) $(ARGS)

.PHONY: test-celery
test-celery: ## Kill and drain workers, triggerers and schedulers on Celery, Redis and PostgreSQL (about five minutes)
	@dev/celery.sh .venv-celery
	@.venv-celery/bin/python -m pytest tests/celery -m slow $(ARGS)

.PHONY: bench-client
bench-client: setup ## Measure the client: reading, and waiting compared with naive ways (about ten minutes; ARGS=--help)
	@$(BIN)/python -m benchmarks.client $(ARGS)

.PHONY: bench-slow-answers
bench-slow-answers: setup ## Simulate many waits while the control plane answers slowly (seconds; no network)
	@$(BIN)/python -m benchmarks.slow_answers

.PHONY: bench-triggers
bench-triggers: setup ## Measure the run trigger beside those of two other providers and a naive one (about 15 minutes; ARGS=--help)
	@dev/peers.sh $(BIN)/uv .venv-peers
	@$(BIN)/python -m benchmarks.triggers $(ARGS)

.PHONY: bench-day
bench-day: setup ## Simulate a day of a thousand sessions with approvals, retries and restarts (seconds; ARGS=--help)
	@$(BIN)/python -m benchmarks.day $(ARGS)

.PHONY: bench-calls
bench-calls: setup ## Measure one call beside bare httpx, and one event beside httpx-sse and openai (about a minute)
	@[ -x .venv-calls/bin/python ] || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-calls
	@$(BIN)/uv pip install --quiet --python .venv-calls/bin/python --no-deps --editable .
	@$(BIN)/uv pip install --quiet --python .venv-calls/bin/python --requirement dev/requirements/peers-calls.in
	@.venv-calls/bin/python -m benchmarks.calls $(ARGS)

.PHONY: bench-parse
bench-parse: setup ## Measure what the provider adds to parsing a DAG file, beside two other providers (about a minute)
	@dev/peers.sh $(BIN)/uv .venv-peers
	@.venv-peers/bin/python -m benchmarks.parse_cost $(ARGS)

.PHONY: bench-local
bench-local: setup ## Measure the local control plane: starts, events to followers, memory (about a minute; ARGS=--help)
	@$(BIN)/python -m benchmarks.local $(ARGS)

.PHONY: bench-tab
bench-tab: setup ## Measure Airflow's own pages beside viewers of the Helmr tab, also of a control plane that hangs (two minutes)
	@$(BIN)/python -m benchmarks.tab $(ARGS)

.PHONY: bench-triggerer
bench-triggerer: ## Measure 200 deferred sessions through a real triggerer on PostgreSQL (minutes; ARGS="runs=1000 --executor celery")
	@dev/celery.sh .venv-celery
	@.venv-celery/bin/python -m benchmarks.triggerer $(ARGS)

.PHONY: soak
soak: ## Let 500 waits turn over in a real triggerer for 45 minutes, and look for leaks (MINUTES=5 SESSIONS=50)
	@dev/celery.sh .venv-celery
	@.venv-celery/bin/python -m benchmarks.soak --minutes $(or $(MINUTES),45) --sessions $(or $(SESSIONS),500) \
		--seconds $(or $(SECONDS_EACH),150) $(ARGS)

.PHONY: mutation
mutation: setup ## Change the client's pure core in small ways and see whether its tests notice (ARGS="sse durations")
	@$(BIN)/python -m dev.mutation $(ARGS)

.PHONY: clean
clean: ## Remove what was built and cached, the environments included
	rm -rf .venv .venv-* .coverage* .demo .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
