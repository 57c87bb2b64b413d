# demo: the main job, on real data.   test: lint, types and all tests.   lint: ruff and mypy alone.
# compat: archives between torch versions; downloads the newest torch, which on Linux is several GB.
# fuzz: thousands of random interfaces, through everything.
# Each makes its own environment in .venv, from constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

NEWEST := 2.15.0

.PHONY: demo test lint fuzz compat clean

demo: $(READY)
	$(BIN)/python -m torchremote demo

test: lint
	$(BIN)/python -m pytest --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: $(READY)
	$(BIN)/python -W ignore -m tests.fuzz --interfaces 2000

compat: $(READY) .venv-newest/ready
	$(BIN)/python -W ignore -m tests.compat $(BIN)/python .venv-newest/bin/python

clean:
	rm -rf .venv .venv-newest .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info demo-results

$(READY): constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,demo]'
	touch $@

.venv-newest/ready: constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-newest
	grep -v '^torch==' constraints.txt > .venv-newest/constraints.txt
	.venv-newest/bin/python -m pip install --quiet --constraint .venv-newest/constraints.txt --editable '.[test]' \
		torch==$(NEWEST)
	touch $@
