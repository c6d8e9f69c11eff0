# `make help` lists what there is. Nothing but Python 3.11+ is needed beforehand.
.DEFAULT_GOAL := help
.PHONY: help run test bench savings chaos oom lint fix lock clean
python := .venv/bin/python
# Tests and benchmarks choose their own; whatever else is set stays the developer's.
PYTEST_ARGS ?=
# Of trouble, for `make chaos`; of each run, for `make oom` (0: its own default).
SECONDS ?= 0
# A recorded hour of arrivals for `make oom`, such as azure_llm_2023.csv.gz; else made-up ones.
# For `make savings` a directory of questions with known answers (docs/savings.md).
DATA ?=

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## Start the service; Ctrl-C stops it
	@scripts/bootstrap run
	@exec $(python) manage.py ai-orchestra up

test: ## Run every test, on real engines and a real browser
	@scripts/bootstrap dev
	@scripts/debian-packages chromium
	@exec $(python) -m pytest $(PYTEST_ARGS)

bench: ## Measure, side by side with the alternatives
	@scripts/bootstrap dev
	@scripts/debian-packages wrk nginx-light nghttp2-client
	@exec $(python) -m benchmarks

savings: ## Replay questions with known answers: cost against quality (DATA=directory)
	@scripts/bootstrap dev
	@exec $(python) -m benchmarks.savings --data "$(DATA)"

chaos: ## Ten minutes of endpoints that fail in every way, then engines that go away (SECONDS=600)
	@scripts/bootstrap dev
	@exec $(python) -m tests.chaos $(if $(filter-out 0,$(SECONDS)),--seconds $(SECONDS))

oom: ## Replay bursts at an engine that dies of its memory, without the orchestra and with it (DATA=file)
	@scripts/bootstrap dev
	@exec $(python) -m benchmarks.oom $(if $(DATA),--data $(DATA)) $(if $(filter-out 0,$(SECONDS)),--seconds $(SECONDS))

lint: ## Check format, style, types, layers, migrations and lock files
	@scripts/bootstrap dev
	@scripts/lint

fix: ## Repair format and style
	@scripts/bootstrap dev
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

lock: ## Bring the lock files up to date with pyproject.toml
	@scripts/bootstrap dev
	@scripts/lock

clean: ## Remove caches and .venv; data in var/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +
