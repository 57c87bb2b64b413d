"""Modules whose tensors keep their values elsewhere: those of which a process has a part are refused."""

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

import torchremote as tr
from torchremote.errors import CreationError


class Forward:
    def forward(self, x: Tensor) -> Tensor: ...


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


@pytest.fixture
def mesh(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*as a ProcessGroup")
def test_a_module_of_which_a_process_has_a_part_is_refused(mesh):
    def sharded(module):
        module.linear.weight = nn.Parameter(distribute_tensor(module.linear.weight, mesh, [Shard(0)]))
        return module

    said = r"^Linear: linear.weight is a DTensor, .*\.full_tensor\(\) gives them"
    with pytest.raises(CreationError, match=said):
        tr.serve(sharded(Linear()), Forward, "never")
    with pytest.raises(CreationError, match=said.replace("Linear", "RecursiveScriptModule", 1)):
        tr.serve(sharded(torch.jit.script(Linear())), Forward, "never")
    with pytest.raises(CreationError, match=said):
        tr.exported(sharded(Linear()), Forward, {"forward": (torch.ones(3, 2),)})
    whole = Linear()
    whole.linear.weight = nn.Parameter(sharded(Linear()).linear.weight.full_tensor())
    tr.serve(whole, Forward, "whole")
    tr.withdraw("whole")


class Wrapped(torch.Tensor):
    """Keeps its values elsewhere, as quantized weights of a library do, and has all of them."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        inner = [arg.inner if isinstance(arg, cls) else arg for arg in args]
        return function(*inner, **(kwargs or {}))


class OfAWrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", Wrapped(torch.eye(2)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight)


@pytest.mark.parametrize("examples", [None, {"forward": (torch.ones(3, 2),)}])
def test_a_module_with_another_tensor_that_keeps_its_values_elsewhere_is_hosted(owner, examples):
    x = torch.randn(3, 2)
    assert torch.equal(tr.create(owner, Forward, OfAWrapped, examples=examples)(x), x)
