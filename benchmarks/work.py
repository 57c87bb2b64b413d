"""The work that is compared, and the ways to have it done elsewhere. Every worker imports this."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.distributed.nn.api.remote_module import _RemoteModule

import torchremote

BY_HAND = "scripted RPC by hand"
TORCH = "torch RemoteModule, scripted"
TORCH_PYTHON = "torch RemoteModule, Python"


@torch.jit.interface
class Layer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


torchremote.remote_scriptable(Layer)


class Linear(nn.Module):
    """Maps [n, 8] float32 to [n, 8] float32. It is not trained, as the one below cannot be: a constant of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Echo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


BY_HAND_NAME = "__torch__.benchmarks.by_hand_{}"


def register_by_hand(module_cls: type[nn.Module]) -> Any:
    """Returns a scripted function that has its module as constants of its graph, under one name on every worker.

    What somebody writes who knows the module beforehand, and needs but one: there is no address in the call.
    """
    name = BY_HAND_NAME.format(module_cls.__name__)
    found = torch.jit._state._python_cu.find_function(name)
    if found is None:
        torch.manual_seed(0)
        frozen = torch.jit.freeze(torch.jit.script(module_cls()).eval())
        graph = frozen.graph.copy()
        graph.eraseInput(0)
        found = torch.jit._state._python_cu.create_function(name, graph, False)
    return found


def by_hand(owner: str, module_cls: type[nn.Module]) -> Any:
    """Returns a function from a tensor to a tensor, which calls a scripted one on the owner."""
    function = register_by_hand(module_cls)
    rpc.rpc_sync(owner, _register, (module_cls,))

    @torch.jit.script
    def call(to: str, x: Tensor) -> Tensor:
        return rpc.rpc_async(to, function, (x,)).wait()

    return lambda x: call(owner, x)


def _register(module_cls: type[nn.Module]) -> None:
    register_by_hand(module_cls)


def torch_scripted(owner: str, module_cls: type[nn.Module]) -> Any:
    return torch.jit.script(_RemoteModule(f"{owner}/cpu", module_cls, _module_interface_cls=Layer))


def torch_python(owner: str, module_cls: type[nn.Module]) -> Any:
    return _RemoteModule(f"{owner}/cpu", module_cls)
