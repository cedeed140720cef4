# Two commands are enough: make run, make test. They need Python 3.11 or newer, and pip's access to packages.

.PHONY: run test check screenshots bench clean
.DEFAULT_GOAL := run

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that starts and is new enough; looked for only when there is no environment yet.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$name"; break; }; done)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable

## Starts the gateway, with demo data when there is no database yet.
run: $(VENV)/installed
	@$(BIN)/gateway init --demo --if-missing --token-file data/demo.env
	@$(BIN)/gateway serve

# Most tests wait for processes that they started, so more of them run at once than there are cores.
WORKERS ?= 3

## Runs the whole suite; make test ARGS="-k plans" runs a part.
test: $(VENV)/installed-test $(VENV)/nginx $(VENV)/chromium $(VENV)/node-tools $(VENV)/redis
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

## Style, types, and the rules of the house: what the documents name, who imports whom.
check: $(VENV)/installed-test $(VENV)/node-tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict gateway client_sdk
	$(BIN)/python -m pytest tests/house

## Takes the pictures of the dashboard that the documents show.
screenshots: $(VENV)/installed-test $(VENV)/chromium
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/browser/test_screenshots.py $(ARGS)

## Measures; make bench ARGS="push --sessions 1000" measures one thing.
bench: $(VENV)/installed-test
	$(BIN)/gateway bench $(ARGS)

# The proxy of some tests.
$(VENV)/nginx: | $(BIN)/python
	@.ci/fetch-nginx $@

# The browser of others.
$(VENV)/chromium: | $(BIN)/python
	@.ci/fetch-chromium $@

# What checks JavaScript.
$(VENV)/node-tools: .ci/fetch-node-tools | $(BIN)/python
	@.ci/fetch-node-tools $@

# What workers of an application share, in others.
$(VENV)/redis: | $(BIN)/python
	@.ci/fetch-redis $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: $(PYTHON) can not make environments (on Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/installed: pyproject.toml requirements.lock | $(BIN)/python
	$(INSTALL) .
	@touch $@

$(VENV)/installed-test: pyproject.toml requirements.lock | $(BIN)/python
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/installed
