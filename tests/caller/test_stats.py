"""What a worker says of itself to whoever asks."""

import os
import socket
import time

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote.errors import PlaceError

from .. import zoo


def test_stats_list_what_a_worker_hosts(owner):
    before = {module.number for module in tr.stats(owner).modules}
    unnamed = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    twin = tr.with_timeout(unnamed, 5)
    named = tr.create("rank:1", zoo.Counters, zoo.CountersModule, name="counted")
    stats = tr.stats("rank:1")
    assert stats.worker == owner
    new = [module for module in stats.modules if module.number not in before]
    assert [(m.interface, m.name, m.device, m.holders) for m in new] == [
        ("Encoder", None, "cpu", 1),
        ("Counters", "counted", "cpu", None),
    ]
    assert (new[0].bytes, new[1].bytes) == (4 * (8 * 8 + 8), 0)
    assert stats.since < new[0].since <= new[1].since < time.time()
    assert (stats.host, stats.process) == (socket.gethostname(), rpc.rpc_sync(owner, os.getpid))
    assert stats.memory > 1 << 20
    assert stats.running == 1  # the question itself
    rpc.rpc_sync(owner, tr.withdraw, ("counted",))
    assert new[1].number not in {module.number for module in tr.stats(owner).modules}
    del unnamed, twin, named


def test_stats_of_this_process_need_no_rpc(owner, monkeypatch):
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "stated")
    assert tr.stats().worker == "caller"

    def not_running():
        raise RuntimeError("RPC has not been initialized. Call torch.distributed.rpc.init_rpc first.")

    with monkeypatch.context() as patch:
        patch.setattr(rpc.api, "_get_current_rpc_agent", not_running)
        assert (tr.stats().worker, tr.stats().running) == ("", 0)
    assert "stated" in {module.name for module in tr.stats().modules}
    assert tr.stats().modules == tr.stats("caller").modules
    tr.withdraw("stated")


class Propagation:
    def forward(self, x: Tensor) -> Tensor: ...


class Adjacency(torch.nn.Module):
    def __init__(self):
        super().__init__()
        eye = torch.eye(4)
        self.register_buffer("coo", eye.to_sparse())
        self.register_buffer("csr", eye.to_sparse_csr())

    def forward(self, x: Tensor) -> Tensor:
        return self.coo.matmul(x)


def test_the_bytes_of_sparse_tensors_are_those_of_their_parts(owner):
    stub = tr.create(owner, Propagation, Adjacency)
    assert torch.equal(stub(torch.ones(4, 1)), torch.ones(4, 1))
    (module,) = [module for module in tr.stats(owner).modules if module.interface == "Propagation"]
    assert module.bytes == (2 * 4 * 8 + 4 * 4) + (5 * 8 + 4 * 8 + 4 * 4)


def test_stats_of_nobody(owner):
    with pytest.raises(PlaceError, match="there is no worker 'nobody'"):
        tr.stats("nobody")


def test_a_module_that_takes_anothers_place_is_there_since_then(owner):
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "stated")
    (before,) = (module for module in tr.stats().modules if module.name == "stated")
    tr.serve(zoo.LinearEncoder(16), zoo.Encoder, "stated", replace=True)
    (after,) = (module for module in tr.stats().modules if module.name == "stated")
    assert after.since > before.since
    assert after.bytes == 4 * (16 * 16 + 16)
    tr.withdraw("stated")
