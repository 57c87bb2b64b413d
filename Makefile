# demo: the main job, on real data.   test: lint, types and all tests.   lint: ruff and mypy alone.
# fuzz: thousands of random interfaces, through everything.
# Each makes its own environment in .venv, from constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint fuzz clean

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

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info demo-results

$(READY): constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,demo]'
	touch $@
