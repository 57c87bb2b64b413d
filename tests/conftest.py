"""Options, and the RPC worlds that tests run in: real processes on this machine, ports chosen by the system."""

import gc

import hypothesis
import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote

from . import owner_process
from .forks import Fork

# The same examples in every run: what fails on one machine fails on all. Without an explanation, which takes longer
# than to find and shrink what it explains.
PHASES = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, phases=PHASES)
hypothesis.settings.load_profile("deterministic")
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write tests/recorded/ anew, from what is emitted now")


def pytest_collection_finish():
    """Tests collect garbage to see what is let go: from here on not among the million objects that are imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def record(request):
    return request.config.getoption("--record")


@pytest.fixture(scope="session")
def owner(tmp_path_factory):
    """The name of a second worker, which imports tests.zoo; this process is the worker "caller"."""
    store = f"file://{tmp_path_factory.mktemp('rpc')}/store"
    # The owner has torch's own options. Without shared memory, for which each of the two would keep a core busy.
    process = Fork(owner_process.main, store, ["uv"])
    try:
        options = torchremote.rpc_options(init_method=store, rpc_timeout=30, shared_memory=False)
        rpc.init_rpc("caller", rank=0, world_size=2, rpc_backend_options=options)
        yield "owner"
        rpc.shutdown()
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
