# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Each target first gets the clone ready (demo/bootstrap): Debian packages from bindep.txt,
# Python packages into .venv. Where nothing is missing that takes a second.

SHELL := /bin/bash
# Ansible refuses a locale that is not UTF-8; a bare machine has LANG=C.
export LC_ALL := C.UTF-8
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
RUN_ALL := $(PYTHON) -m tests.tools.run_all

.PHONY: help
help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ready-demo ## Back up, ship logs, verify and restore sample databases on this machine (DEMO_ARGS=…)
	@PYTHONPATH=collections $(PYTHON) -m demo.run $(DEMO_ARGS)

.PHONY: test
test: ready-test ## Every check and test: lint, unit, engine, sanity, Molecule on Debian 12
	@$(RUN_ALL)

.PHONY: test-all
test-all: ready-test ## The same, the slow tests, the calendar on real timers, and Molecule on Debian 13
	@$(RUN_ALL) --all

.PHONY: lint
lint: ready-test ## ruff, mypy, ansible-lint, yamllint, shellcheck, licence headers, changelog, build
	@$(RUN_ALL) lint

.PHONY: unit
unit: ready-test ## Unit tests (PYTEST_ARGS=…)
	@$(RUN_ALL) unit -- $(PYTEST_ARGS)

.PHONY: engine
engine: ready-test ## Tests against private database servers (PYTEST_ARGS=…)
	@$(RUN_ALL) engine -- $(PYTEST_ARGS)

.PHONY: sanity
sanity: ready-test ## ansible-test sanity
	@$(RUN_ALL) sanity

.PHONY: molecule
molecule: ready-test ## Molecule on real hosts (DBC_PLATFORM=debian12 or debian13)
	@$(RUN_ALL) molecule

.PHONY: bench
bench: ready-demo ## Benchmarks against the bare pipelines (BENCH_ARGS=…)
	@PYTHONPATH=collections $(PYTHON) -m benchmarks.run $(BENCH_ARGS)

.PHONY: format
format: ready-test ## Let ruff lay out the Python files
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

.PHONY: lock
lock: ready-test ## Write constraints.txt anew from .venv
	@{ sed '/^$$/q' constraints.txt; echo '# Every Python package of .venv with its version: "make lock" writes this file.'; \
	   $(PYTHON) -m pip freeze; } > .cache/constraints.new && mv .cache/constraints.new constraints.txt

.PHONY: clean
clean: ## Remove what runs have left in this folder, except .venv
	@rm -rf .cache .demo .ansible tests/output .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: ready-demo ready-test
ready-demo:
	@bash demo/bootstrap demo
ready-test:
	@bash demo/bootstrap test
