# Every command of the project; each does all the set-up that it needs and nothing twice.
# Made for Debian 12 with Python 3.11. `make test` installs the Debian packages that are missing when it runs as root;
# elsewhere it says what it lacks, and skips the tests that need it. With CI set, what is missing is an error.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) python3.11)
UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
BIN := .venv/bin
# modules whole, in the order of tests/conftest.py
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
NODE_MODULES := tests/node/node_modules/.package-lock.json
KOTLIN_MODULES := tests/kotlin/node_modules/.package-lock.json
PYTHON_CLIENT := .tools/openapi-python-client

export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv

.PHONY: help run test test-fast soak check lint format types imports bench sdk release openapi debian-packages clean

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: .venv/installed ## Start the gateway, mail servers and demo mail in one process
	@exec $(BIN)/postgate demo

test: debian-packages .venv/installed-dev $(NODE_MODULES) $(PYTHON_CLIENT)/installed check ## All checks and the whole test suite
	$(PYTEST) --durations 25 --durations-min 1

test-fast: .venv/installed-dev ## The unit tests in less than a minute: no root, no Debian packages
	$(PYTEST) -q -p no:schemathesis -m 'not soak and not slow' tests/unit

soak: debian-packages .venv/installed-dev $(NODE_MODULES) $(KOTLIN_MODULES) ## Run the large tests at full size (an hour or more)
	$(BIN)/python -m pytest -m soak --timeout 7200

check: lint types imports ## Check style, types and import contracts

lint: .venv/installed-dev ## Check the style of the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/installed-dev ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/installed-dev ## Check the types
	$(BIN)/mypy

imports: .venv/installed-dev ## Check the import contracts
	$(BIN)/lint-imports

bench: debian-packages .venv/installed-dev ## Compare Postgate with a minimal IMAP client on a private Dovecot
	$(BIN)/python -m benchmarks

openapi: .venv/installed-dev ## Generate openapi/, docs/errors.md and the table in docs/events.md
	$(BIN)/postgate openapi
	$(BIN)/python -m app.problems.page > docs/errors.md
	$(BIN)/python -m app.api.events_page

release: .venv/installed-dev ## Build and tag a version: make release VERSION=0.2.0
	@.ci/release "$(VERSION)"

sdk: .venv/installed-dev $(NODE_MODULES) ## Generate TypeScript and Python clients in build/sdk
	PATH="$$PATH:$(CURDIR)/$(BIN)" openapi/generate-sdk

clean: ## Remove everything that was built, but keep data/
	rm -rf build dist .tools .venv tests/node/node_modules tests/kotlin/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(UV):
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq; apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/installed: $(UV) pyproject.toml uv.lock
	$(UV) sync --quiet --frozen --inexact --no-dev --extra uvloop --python $(PYTHON)
	touch $@

.venv/installed-dev: .venv/installed
	$(UV) sync --quiet --frozen --inexact --extra uvloop --python $(PYTHON)
	touch $@

.venv/installed-node: .venv/installed-dev
	$(UV) sync --quiet --frozen --inexact --extra uvloop --group node --python $(PYTHON)
	touch $@

debian-packages:
	@tests/install-debian-packages

# npm is the system's; without one, that of a package from PyPI, which needs no root
$(NODE_MODULES) $(KOTLIN_MODULES): tests/%/node_modules/.package-lock.json: tests/%/package.json tests/%/package-lock.json \
	| $(if $(shell command -v npm),,.venv/installed-node)
	PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --prefix tests/$* --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@

$(PYTHON_CLIENT)/installed: tests/openapi-python-client.txt $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) $(PYTHON_CLIENT)
	$(UV) pip install --quiet --python $(PYTHON_CLIENT)/bin/python -r tests/openapi-python-client.txt
	touch $@
