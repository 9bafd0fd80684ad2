# `make demo` and `make test` do all set-up on a machine that has Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN_READY := $(VENV)/run.ready
DEV_READY := $(VENV)/dev.ready
# Workers for the tests: three on the build machine's two cores, since tests wait as long as they compute.
WORKERS ?= 3

.PHONY: setup demo test check lint imports types types-windows compiled bench soak screenshots lock clean

setup: $(RUN_READY)

$(RUN_READY): lock/run.txt pyproject.toml
	@test -x $(BIN)/python || { echo "Setting up $(VENV) …"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Jumpdeck needs Python 3.11 or newer")'
	@echo "Installing what Jumpdeck needs …"
	@$(PIP) install --require-hashes --only-binary :all: -r lock/run.txt
	@$(PIP) install --require-hashes --only-binary :all: -r lock/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_READY): $(RUN_READY) lock/dev.txt
	@echo "Installing what the tests need …"
	@$(PIP) install --require-hashes --only-binary :all: -r lock/dev.txt
	@touch $@

demo: $(RUN_READY)
	@$(BIN)/python -m jumpdeck demo

check: $(DEV_READY)
	@$(MAKE) --no-print-directory -j2 types types-windows lint imports

lint: $(DEV_READY)
	@$(BIN)/ruff check --quiet .

imports: $(DEV_READY)
	@said=$$($(BIN)/lint-imports --no-cache) || { echo "$$said"; exit 1; }

types: $(DEV_READY)
	@$(BIN)/mypy

# As on Windows too: no test runs there.
types-windows: $(DEV_READY)
	@$(BIN)/mypy --platform win32 --no-warn-unreachable --cache-dir .mypy_cache/win32

# Many tests start the program anew: it is compiled once for all of them, also where Python may not write byte code.
compiled: $(DEV_READY)
	@$(BIN)/python -m compileall -q app screens widgets tests jumpdeck.py

test: check compiled
	@$(BIN)/python -m pytest --quiet -n $(WORKERS)

# Prints one row per goal; BENCH=P-2 runs one.
bench: $(DEV_READY)
	@$(BIN)/python -m bench

# The full counts of what `make test` does once.
soak: $(DEV_READY)
	@SOAK=1 $(BIN)/python -m pytest --quiet --timeout 1800

screenshots: $(DEV_READY)
	@$(BIN)/python -m tests.screenshots docs/images

# Makes the lock files anew (needs uv). They name no host and hold a hash for every file.
lock:
	uv pip compile pyproject.toml $(LOCK) -o lock/run.txt
	uv pip compile pyproject.toml --group dev $(LOCK) -c lock/run.txt -o lock/dev.txt
	uv pip compile lock/build.in $(LOCK) -c lock/dev.txt -o lock/build.txt
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
