# What a newcomer guesses. `make demo` shows it, `make test` proves it, `make check` is the fast part.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
PY := .venv/bin/python
CLUSTER ?=
export CLUSTER
export KUBECONFIG_FILE := $(CURDIR)/.cluster/kubeconfig

.PHONY: help demo down test postgres browser examples check e2e lint types unit explore format crds docs lock bench bench-grouping bench-analysis bench-dora fuzz cluster-up cluster-down images install uninstall clean

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

# uv makes the environment in a second once its cache is warm; it is itself kept by version, outside the clone.
UV_VERSION := $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements-dev.lock)
UV_HOME := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/serinus/uv-$(UV_VERSION)
UV := $(UV_HOME)/bin/uv

$(UV):
	@rm -rf $(UV_HOME)
	python3 -m venv $(UV_HOME)
	awk '/^uv==/ { on = 1 } /^[a-z]/ && !/^uv==/ { on = 0 } on' requirements-dev.lock > $(UV_HOME)/uv.lock
	$(UV_HOME)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(UV_HOME)/uv.lock

.venv/.installed: requirements-dev.lock pyproject.toml | $(UV)
	@[ -x .venv/bin/python ] || $(UV) venv --quiet --seed --python $$(command -v python3) .venv
	$(UV) pip sync --quiet --python .venv/bin/python --require-hashes requirements-dev.lock
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	touch $@

venv: .venv/.installed ## The locked tools and dependencies, in .venv

demo: venv ## A good, a bad and a crashing release on a real cluster; KEEP=1 leaves it running, CLUSTER=kind|local|current chooses
	@$(PY) -m e2e.demo $(if $(KEEP),--keep)

down: cluster-down ## Remove all of it

cluster-up: venv ## A cluster with Traefik and Prometheus; prints where its kubeconfig is
	@$(PY) -m e2e.cluster up

cluster-down: venv ## Stop the cluster and remove it
	@$(PY) -m e2e.cluster down

images: venv ## Build the images that are needed and load them into the cluster
	@$(PY) -m e2e.cluster images

install: venv ## The operator into the cluster, with the Helm chart
	@$(PY) -m e2e.install

uninstall: venv ## Take it out again
	@$(PY) -m e2e.install --uninstall

test: postgres browser check explore e2e ## Everything, unit to end-to-end

postgres: venv ## PostgreSQL's programs, where Debian's package manager may install them: the stores are tested on both databases
	@$(PY) -m e2e.cluster.postgres

browser: venv ## Chromium and its driver, where Debian's package manager may install them: the page is tested in a browser
	@$(PY) -m e2e.cluster.browser

check: venv lint types unit ## The fast part: lint, types, unit tests

lint: venv
	@.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	$(PY) -m serinus.api.crdgen --check
	$(PY) charts/readme.py --check
	$(PY) docs/reference.py --check
	test ! -e operator/__init__.py

types: venv
	@.venv/bin/mypy

examples: venv ## GitHub's published webhooks, where npm is: one of the unit tests reads them all
	@$(PY) -m e2e.cluster.examples

unit: venv examples
	@.venv/bin/pytest tests -m "not long" --numprocesses=auto --dist=worksteal

explore: venv ## Every state of a small world, and seeded faults that must be found there
	@.venv/bin/pytest tests -m long --numprocesses=auto --dist=worksteal --durations=3

e2e: venv ## The tests on a real cluster
	@$(PY) -m e2e.cluster up
	$(PY) -m e2e.cluster images
	$(PY) -m e2e.cluster.gotools
	.venv/bin/pytest e2e/test_api_server.py e2e/test_dora_rights.py e2e/test_envoy.py e2e/test_alertmanager.py tests/test_chart.py tests/test_dora_prometheus.py --durations=5  # the last two again: now there are helm and promtool
	$(PY) -m e2e.scenarios

bench: venv ## The figures of the README, measured: prints a table and writes it to bench-results/
	@$(PY) -m e2e.cluster up
	$(PY) -m e2e.cluster images
	$(PY) -m e2e.install --restart
	$(PY) -m e2e.bench $(PARTS)

bench-grouping: venv ## 1,000 Canaries at a real Prometheus, asked one by one and together; needs no cluster
	@$(PY) -m e2e.grouping

bench-analysis: venv ## Rules for judging a canary, side by side: docs/verdicts.md; QUICK=1 a few seconds, of a part; needs no cluster
	@$(PY) -m e2e.verdicts $(if $(QUICK),--quick)

bench-dora: venv postgres ## A million facts told to serinus dora on both databases: rate, memory, the page, the live page; needs no cluster
	@$(PY) -m e2e.ledger $(if $(FACTS),--facts $(FACTS))

fuzz: venv ## Manifests at and past every bound, and odd things done in mid-release, for MINUTES (30); SEED=n does the same again
	@$(PY) -m e2e.cluster up
	$(PY) -m e2e.cluster images
	$(PY) -m e2e.install --restart
	$(PY) -m e2e.fuzz --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

format: venv ## Format and sort
	@.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

crds: venv ## Generate crds/ and the chart's copies from the models
	@$(PY) -m serinus.api.crdgen

docs: venv ## Generate the reference pages and the chart's README
	@$(PY) charts/readme.py
	$(PY) docs/reference.py

lock: venv ## Resolve the dependencies anew
	@$(UV) pip compile -q --upgrade --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra dora -o requirements.lock
	$(UV) pip compile -q --upgrade --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra dora --group dev -o requirements-dev.lock

clean: cluster-down ## Also the virtual environment
	@rm -rf .venv .build
