"""Runs the examples in docstrings. Those that mention `layer` get a group of one worker, "ps", and a stub `layer`."""

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote


def pytest_collection_modifyitems(items):
    # A process is in one group at a time, and the tests' fixture `owner` keeps its group until the session ends.
    items.sort(key=lambda item: not isinstance(item, pytest.DoctestItem))


@pytest.fixture(autouse=True)
def _group_of_one(request):
    item = request.node
    if not isinstance(item, pytest.DoctestItem) or "layer" not in item.dtest.docstring:
        yield
        return
    monkeypatch = request.getfixturevalue("monkeypatch")
    names = request.getfixturevalue("doctest_namespace")
    path = request.getfixturevalue("tmp_path")
    monkeypatch.chdir(path)
    # torch counts the groups of a process, and only workers with the same count meet.
    monkeypatch.setattr(rpc, "_init_counter", rpc._init_counter)
    options = torchremote.rpc_options(init_method=f"file://{path}/store", shared_memory=False)
    rpc.init_rpc("ps", rank=0, world_size=1, rpc_backend_options=options)
    names["Layer"] = Layer
    names["layer"] = torchremote.create("ps", Layer, torch.nn.Linear, args=(4, 2))
    yield
    names.clear()
    rpc.shutdown()


class Layer:
    def forward(self, input: torch.Tensor) -> torch.Tensor: ...
