"""The RPC group that tests and the examples in docstrings share: real processes on this machine, on no fixed port."""

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote

# Their examples join groups of their own: tests/groups/test_examples.py runs them, each file in a process.
collect_ignore = ["torchremote/group"]


@pytest.fixture(scope="session")
def owner(tmp_path_factory):
    """The name of a second worker, which imports tests.zoo; this process is the worker "caller"."""
    from tests import owner_process
    from tests.forks import Fork

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


@pytest.fixture(autouse=True)
def _stub_in_examples(request):
    """Gives the examples of a docstring that mentions `layer` a worker "owner", and a stub of that name.

    `check_interface` finds that group, too. On its own it would start one in this process, and torch counts the groups
    of a process: the worker "owner" would wait for another one.
    """
    item = request.node
    mentions = ("layer", "check_interface(")
    if not isinstance(item, pytest.DoctestItem) or not any(word in item.dtest.docstring for word in mentions):
        yield
        return
    where, names = request.getfixturevalue("owner"), request.getfixturevalue("doctest_namespace")
    names["Layer"] = Layer
    names["layer"] = torchremote.create(where, Layer, torch.nn.Linear, args=(4, 2))
    yield
    names.clear()


class Layer:
    def forward(self, input: torch.Tensor) -> torch.Tensor: ...
