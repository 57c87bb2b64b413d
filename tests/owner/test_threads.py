"""Many threads at once: calling, creating, withdrawing."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import StaleStubError

from .. import zoo
from .test_lives import hosted, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


def test_one_stub_is_called_from_many_threads(owner):
    stub = tr.create(owner, zoo.Sleeper, zoo.SlowLoop)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: int(stub(torch.zeros(1), n)), range(400)))
    assert results == list(range(400))


def test_stubs_are_created_and_dropped_from_many_threads(owner):
    before = hosted(owner)

    def work(seed):
        stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": seed})
        return torch.equal(stub(X), zoo.LinearEncoder.output(seed, X))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(60)))
    gc.collect()
    until(lambda: hosted(owner) <= before)


def test_an_interface_is_compiled_first_by_many_threads_at_once(owner):
    class Raced:
        def forward(self, x: Tensor, rounds: int) -> Tensor: ...

    with ThreadPoolExecutor(6) as pool:
        stubs = list(pool.map(lambda _: tr.create(owner, Raced, zoo.SlowLoop), range(12)))
    assert [int(stub(torch.zeros(1), n)) for n, stub in enumerate(stubs)] == list(range(12))


def test_a_call_beside_a_withdrawal_succeeds_or_is_stale(owner):
    for _ in range(10):
        stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 1}, name="flickering")
        futures = [stub.forward_async(X) for _ in range(100)]
        rpc.rpc_sync(owner, tr.withdraw, ("flickering",))
        futures += [stub.forward_async(X) for _ in range(20)]
        for future in futures[:-20]:
            try:
                assert torch.equal(future.wait(), zoo.LinearEncoder.output(1, X))
            except StaleStubError:
                continue
        for future in futures[-20:]:
            with pytest.raises(StaleStubError):
                future.wait()


def test_stubs_in_a_list_of_a_scripted_model(owner):
    class Mixture(nn.Module):
        def __init__(self, stubs):
            super().__init__()
            self.experts = nn.ModuleList(stubs)

        def forward(self, x: Tensor) -> Tensor:
            futures = [expert.forward_async(x) for expert in self.experts]
            total = torch.zeros_like(x)
            for future in futures:
                total = total + future.wait()
            return total

    stubs = [tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": seed}) for seed in (1, 2)]
    expected = zoo.LinearEncoder.output(1, X) + zoo.LinearEncoder.output(2, X)
    model = torch.jit.script(Mixture(stubs))
    del stubs
    gc.collect()
    torch.testing.assert_close(model(X), expected)
