# Two commands and nothing else: `make demo` and `make test`. Both set everything up first, once.
# Works with the make of Linux and of macOS (3.81), as root or not, in a folder with spaces in its name.
#   PYTHON=/path/to/python   which Python makes the environment (otherwise the first of 3.11 or newer that runs)
#   ARGS="..."               further arguments of the command behind demo, test and bench
#   READY=                   skips the set-up and takes .venv as it is

SHELL := /bin/sh
READY := .venv/ready
BIN := .venv/bin

# An environment that was copied from another folder, or whose Python has gone, is made ready again: the console scripts
# and the editable install in it name the folder that they were made for.
ifneq ($(READY),)
ifneq ($(shell .venv/bin/python -c "" 2>/dev/null && cat .venv/ready 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif
endif

.PHONY: help setup demo test storm check lint types imports coverage bench examples clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## everything the other commands need, in .venv

demo: $(READY) ## the crash of March 2020: vaults, walls, statements and a report
	@$(BIN)/ringfence demo $(ARGS)

test: $(READY) ## the whole test suite (ARGS="-k wall" for a part of it)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

storm: $(READY) ## minutes of random kills over fifty vaults, on both databases
	@$(BIN)/python -m pytest -m storm --timeout 0 tests/faults $(ARGS)

check: lint types imports ## lint, format, types and import contracts: what CI demands

lint: $(READY)
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet . || { echo "ruff format: the files above are not formatted; run $(BIN)/ruff format" >&2; exit 1; }

types: $(READY)
	@$(BIN)/python -m mypy --no-error-summary

imports: $(READY)
	@$(BIN)/lint-imports --no-cache

coverage: $(READY) ## branches of risk and vaults that tests reach, JIT off; at least 95 %
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m coverage run -m pytest --timeout 0 tests/risk tests/vaults tests/laws tests/reference $(ARGS)
	@$(BIN)/python -m coverage report

bench: $(READY) ## every benchmark, one after the other
	@for script in benchmarks/[!_]*.py; do \
	  test -f "$$script" || { echo "make bench: benchmarks/ holds no script" >&2; exit 1; }; \
	  echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; \
	done

examples: $(READY) ## the example mandates on recorded years, beside buy and hold and plain CPPI (docs/EXAMPLES.md)
	@$(BIN)/python examples/compare.py $(ARGS)

clean: ## remove .venv and every cache; reports and databases in out/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist
	find . -name .git -prune -o -name out -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

# A shim may exist for a Python that does not run, and a system Python may lack ensurepip, so every candidate is tried.
.venv/ready: pyproject.toml constraints.txt
	@set -e; \
	if test -f .venv/ready && test "$$(cat .venv/ready)" != "$$(pwd -P)"; then rm -rf .venv; fi; \
	if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then \
	  chosen=; refused=; \
	  for candidate in $${PYTHON:+"$$PYTHON"} $$(test -n "$$PYTHON" || echo python3.13 python3.12 python3.11 python3 python); do \
	    found=$$(command -v "$$candidate" 2>/dev/null) || { refused="$$refused\n  $$candidate: not found"; continue; }; \
	    version=$$("$$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) \
	      || { refused="$$refused\n  $$found: does not run"; continue; }; \
	    "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	      || { refused="$$refused\n  $$found: is Python $$version, too old"; continue; }; \
	    "$$candidate" -c 'import ensurepip, venv' 2>/dev/null \
	      || { refused="$$refused\n  $$found: Python $$version without the venv module (Debian, Ubuntu: apt-get install python3-venv)"; continue; }; \
	    chosen=$$candidate; break; \
	  done; \
	  if test -z "$$chosen"; then \
	    printf 'Ringfence needs Python 3.11 or newer with its venv module. Tried:%b\n' "$$refused" >&2; \
	    printf 'Install one, or name it: make PYTHON=/path/to/python3.12 ...\n' >&2; exit 1; \
	  fi; \
	  echo "Setting up .venv with Python $$version ($$found): once, a minute or two."; \
	  rm -rf .venv; \
	  "$$candidate" -m venv .venv || { rm -rf .venv; echo "Python $$version could not make an environment in .venv (see above)." >&2; exit 1; }; \
	else \
	  echo "Bringing .venv up to date."; \
	fi; \
	rm -f .venv/ready; \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --retries 2 -c constraints.txt -e '.[dev]' || { \
	  echo "The packages could not be installed; pip says why above." >&2; \
	  echo "They come from the package index that pip is set up for: is the network there? Then run the same command again." >&2; exit 1; }; \
	pwd -P > .venv/ready
