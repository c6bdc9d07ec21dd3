# `make app` and `make test` do all the set-up on a fresh machine; the rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: app setup test check test-slow bench soak audit screenshots clean

app: $(VENV)/.app
	$(BIN)/python app.py --open

setup: $(VENV)/.dev

$(VENV)/.app: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.app
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

test-slow: check
	$(BIN)/python -m pytest -m "slow and not gpu"

bench: $(VENV)/.dev
	$(BIN)/python -m bench.quick_path

# The long ones, an hour and a half in all: what comes out goes to bench/RESULTS.md by hand.
soak: $(VENV)/.dev
	$(BIN)/python -m bench.kills --worker 50 --web 20
	$(BIN)/python -m bench.crowd
	$(BIN)/python -m bench.hostile --minutes 5
	$(BIN)/python -m bench.cluster
	$(BIN)/python -m bench.hour --minutes 60

# Needs the network: 0 none, 1 known holes that are not allowed, 2 nobody could be asked.
audit: $(VENV)/.dev
	$(BIN)/python -m tools.audit

screenshots: $(VENV)/.dev
	$(BIN)/python -m tools.screenshots

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
