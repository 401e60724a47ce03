# Targets for contributors. They use the tools in .venv where it exists, otherwise those on PATH.

PYTHON ?= python3
JOBS ?= 2
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup test test-fast lint format docs

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## Create .venv, install the package with its tools, and install the commit hooks
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --editable '.[dev]'
	.venv/bin/pre-commit install

test: ## Run all tests
	OMP_NUM_THREADS=1 pytest -n $(JOBS) --dist worksteal

test-fast: ## Run the tests that are not marked slow
	OMP_NUM_THREADS=1 pytest -n $(JOBS) --dist worksteal -m "not slow"

lint: ## Check style, types and imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: ## Format the code and fix what ruff can fix
	ruff check --fix .
	ruff format .

docs: ## Check the documents: links, tables, examples and wording
	pytest tests/integration/test_documents.py tests/integration/test_doctests.py \
	  tests/integration/test_wording.py tests/integration/test_*_document.py
