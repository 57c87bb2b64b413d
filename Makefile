# demo: the main job, on real data.   test: lint, types, docs and all tests.   lint: ruff, mypy and pyright.
# native: builds the native part into the user's cache, and runs the tests of calls with it, which test ends with.
# gpu: on a machine with a CUDA device, its tests without and with the native part, and the benchmarks of accelerators, in the
#      environment of GPU_PYTHON: torch for CUDA, and what setup.cfg lists for tests.
# coverage: all tests, and the lines of the package that none of them runs.
# docs: the pages in docs/, into docs/_build; a warning is an error. Needs no network, but for its own environment.
# compat: all tests on the oldest and the newest torch that are supported, on other Pythons where these are installed, and
#         archives between them; downloads both torches, which on Linux are several GB each.
# models: which architectures of transformers, timm and torchvision can be hosted, into docs/models.md; downloads these.
# fuzz: thousands of random interfaces, through everything.
# chaos: an hour of random operations, while workers are killed and stopped; MINUTES=5 for less, SEED=2 for others.
# rounds: owners are killed and come back, 200 times, while two callers call them, replicas too; ROUNDS=20 for fewer.
#         200 write docs/rounds.md.
# bench: all benchmarks, with results, pictures and the README's rows; on a machine that does nothing else.
# bench-quick: the same with fewer rounds, in four minutes; fails for a target that is clearly missed, not for an unsure one.
# bench-against OTHER=path: this checkout beside another one, in turn. bench-peers: installs the peers.
# Each makes its own environment in .venv, from constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Processes of pytest. Many tests start processes of their own and measure time, so more do not help on few cores.
# With many, say `make test JOBS=8`.
JOBS := 2

OLDEST := 2.11.0
NEWEST := 2.15.0
TORCHVISION := torch==2.14.1 torchvision==0.29.1
PYTHON_OF_OLDEST ?= $(or $(shell python3.12 -c 'print("python3.12")' 2> /dev/null), $(PYTHON))
PYTHON_OF_NEWEST ?= $(or $(shell python3.13 -c 'print("python3.13")' 2> /dev/null), $(PYTHON))

.PHONY: demo test native gpu coverage lint docs fuzz chaos rounds compat models bench bench-quick bench-against bench-peers
.PHONY: clean

demo: $(READY)
	$(BIN)/python -m torchremote demo

test: lint docs
	TORCHREMOTE_NATIVE=0 $(BIN)/python -m pytest -n $(JOBS)
	$(MAKE) native

CALLS := tests/native tests/test_chaos.py tests/jit/script/test_emit.py tests/link/test_cuda.py tests/link/test_values.py \
  $(patsubst %,tests/owner/test_%.py,turns streams beside_calls results_in_turn self_changing methods_that_wait) \
  $(wildcard tests/owner/test_gathering*.py) \
  $(patsubst %,tests/caller/test_%.py,calls awaiting interrupts timeouts recursion_limit grad_mode autocast batches failures_let_go kept_tensors not_utf8) \
  $(patsubst %,tests/groups/test_%.py,follow idempotent refused_within replicas rounds)

native: $(READY)
	if ! command -v $${CXX:-c++}; then echo "no C++ compiler: the native part is neither built nor tested"; exit 0; fi; \
	$(BIN)/python -m torchremote build-native && TORCHREMOTE_NATIVE=1 $(BIN)/python -m pytest -n $(JOBS) $(CALLS)

GPU_PYTHON ?= python3

gpu:
	TORCHREMOTE_NATIVE=0 $(GPU_PYTHON) -m pytest -m gpu tests/link/test_cuda.py
	TORCHREMOTE_NATIVE= $(GPU_PYTHON) -m torchremote build-native
	TORCHREMOTE_NATIVE=1 $(GPU_PYTHON) -m pytest -m gpu tests/link/test_cuda.py tests/native/test_compiled.py
	$(GPU_PYTHON) -m benchmarks movement gathering_on_accelerator native_gathering_on_accelerator

coverage: $(READY)
	$(BIN)/python -m pytest --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for example in $(sort $(dir $(wildcard examples/*/*.py))); do $(BIN)/mypy $$example || exit 1; done
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: $(READY)
	$(BIN)/python -m sphinx -b html -E -n -W --keep-going -q docs docs/_build

fuzz: $(READY)
	$(BIN)/python -W ignore -m tests.fuzz --interfaces 2000

MINUTES := 60
SEED := 1

chaos: $(READY)
	$(BIN)/python -W ignore -m tests.chaos --minutes $(MINUTES) --seed $(SEED)

ROUNDS := 200

rounds: $(READY)
	$(BIN)/python -W ignore -m tests.groups.rounds --rounds $(ROUNDS) --seed $(SEED) $(if $(filter 200,$(ROUNDS)),--page docs/rounds.md)

compat: $(READY) .venv-oldest/ready .venv-newest/ready
	$(BIN)/python -W ignore -m tests.compat $(BIN)/python .venv-oldest/bin/python .venv-newest/bin/python
	.venv-oldest/bin/python -m pytest -n $(JOBS)
	.venv-newest/bin/python -m pytest -n $(JOBS)

models: .venv-models/ready
	.venv-models/bin/python -W ignore -m tests.models

bench: $(READY)
	-$(BIN)/python -W ignore -m benchmarks
	$(BIN)/python -m benchmarks.report

bench-quick: $(READY)
	$(BIN)/python -W ignore -m benchmarks --quick

bench-against: $(READY)
	$(BIN)/python -m benchmarks.against $(OTHER)

PEERS := ray:ray monarch:torchmonarch grpc:grpcio zmq:pyzmq rpyc:rpyc torchrl:torchrl

bench-peers:
	for peer in $(PEERS); do \
	  $(PYTHON) -m venv .venv-peers/$${peer%%:*} && \
	  .venv-peers/$${peer%%:*}/bin/python -m pip install --quiet --constraint constraints.txt torch numpy $${peer#*:} || exit 1; \
	done

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-models .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info demo-results docs/_build

$(READY): constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,demo,docs]'
	touch $@

.venv-oldest/ready: TORCH := $(OLDEST)
.venv-oldest/ready: PYTHON := $(PYTHON_OF_OLDEST)
.venv-newest/ready: TORCH := $(NEWEST)
.venv-newest/ready: PYTHON := $(PYTHON_OF_NEWEST)
.venv-oldest/ready .venv-newest/ready: constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(@D)
	grep -v -e '^torch==' -e '^setuptools==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --constraint $(@D)/constraints.txt --editable '.[test,demo]' torch==$(TORCH)
	touch $@

# A torchvision from PyPI fits the torch from there alone, and not a build for CPUs that came from elsewhere.
.venv-models/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(TORCHVISION)
	$(@D)/bin/python -m pip install --quiet --editable '.[models]'
	touch $@
