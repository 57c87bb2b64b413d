"""What a call does with gradients: a caller whose grad mode is off gets none, whatever the module is."""

import contextlib
import threading
import time
from typing import Any, Dict, List, Tuple

import pytest
import torch
import torch.distributed.autograd as dist_autograd
from torch import Tensor, nn

import torchremote as tr
from torchremote.dropin.remote_module import _RemoteModule

from .. import zoo

X = torch.ones(2, 8)


@tr.remote_scriptable
class Giving:
    """Gives back what requires a gradient in every way: computed, its parameter, its argument, inside containers."""

    def forward(self, x: Tensor) -> Tensor: ...
    def grad_mode(self) -> bool: ...
    def parameter(self) -> Tensor: ...
    def echo(self, x: Tensor) -> Tuple[Tensor, List[Tensor]]: ...
    def anything(self, x: Tensor) -> Any: ...
    def named(self, x: Tensor) -> Dict[str, Tensor]: ...


class GivingModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def grad_mode(self) -> bool:
        return torch.is_grad_enabled()

    def parameter(self) -> Tensor:
        return self.linear.weight

    def echo(self, x: Tensor) -> Tuple[Tensor, List[Tensor]]:
        return x, [x, self.linear.weight]

    def anything(self, x: Tensor) -> Any:
        return x, self.linear.weight

    def named(self, x: Tensor) -> Dict[str, Tensor]:
        return {"weight": self.linear.weight, "x": self.linear(x)}


@pytest.fixture(scope="module")
def stub(owner):
    return tr.create(owner, Giving, GivingModule)


def tensors_of(value):
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in tensors_of(part)]


def results(stub, x):
    """Returns what every way to call gives."""
    yield from (stub(x), stub.forward_async(x).wait(), stub.parameter(), stub.echo(x), stub.anything(x), stub.named(x))
    yield from (stub.forward_many([(x,), (x,)]), stub.named_many_async([(x,)]).wait())
    yield from (stub.echo_many([(x,), (x,)], return_exceptions=True),)
    yield from (torch.jit.script(Asking(stub))(x),)


class Asking(nn.Module):
    giving: Giving

    def __init__(self, giving):
        super().__init__()
        self.giving = giving

    def forward(self, x: Tensor) -> Tensor:
        return self.giving.forward(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad_mode_nothing_comes_back_that_requires_a_gradient(stub, mode):
    x = X.clone().requires_grad_()
    with mode():
        assert not stub.grad_mode()
        assert stub.grad_mode_many([(), ()]) == [False, False]
        for result in results(stub, x):
            assert not any(tensor.requires_grad for tensor in tensors_of(result))
    assert stub.grad_mode()
    assert stub(X).requires_grad
    assert all(tensor.requires_grad for result in results(stub, x) for tensor in tensors_of(result))


def test_many_calls_in_several_messages_carry_the_mode_of_their_caller(stub):
    count = 2500
    with torch.no_grad():
        sent = stub.grad_mode_many_async([()] * count)
    assert sent.wait() == [False] * count


def test_the_mode_is_each_calls_own(stub):
    """Calls in flight at the same time, of threads of RPC that serve both kinds."""
    with torch.no_grad():
        without = [stub.grad_mode_async() for _ in range(50)]
    with_grad = [stub.grad_mode_async() for _ in range(50)]
    assert torch.futures.wait_all(without + with_grad) == [False] * 50 + [True] * 50


def test_a_call_without_grad_mode_leaves_a_context_to_end(stub):
    """torch waits for every call of a context that took tensors requiring gradients and gave some."""
    x = X.clone().requires_grad_()
    with dist_autograd.context() as context:
        loss = stub(x).sum()
        with torch.no_grad():
            stub.parameter()
            assert not stub(x).requires_grad
        dist_autograd.backward(context, [loss])
        assert dist_autograd.get_gradients(context)[x].shape == x.shape


@pytest.mark.parametrize("interface", [None, zoo.Encoder], ids=["python", "scripted"])
def test_the_drop_in_too(owner, interface):
    module = _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=interface)
    assert module.forward(X, 1.0).requires_grad
    with torch.no_grad():
        assert not module.forward(X, 1.0).requires_grad
        assert not module.forward_async(X, 1.0).wait().requires_grad


def test_a_call_that_fails_leaves_its_thread_as_it_was(owner):
    """The owner's threads serve calls of both kinds; one that kept its mode would answer without gradients."""
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    with torch.no_grad():
        for _ in range(50):
            with pytest.raises(tr.TorchRemoteError):
                encoder.fail(X)
    futures = [encoder.forward_async(X) for _ in range(50)]
    assert all(result.requires_grad for result in torch.futures.wait_all(futures))


def test_threads_in_inference_mode_make_no_tensors_of_inference_of_others_results(owner):
    """torch reads answers in the threads that send, too."""
    stub = tr.create(owner, Giving, GivingModule)
    stub(X)
    found, end = [], time.monotonic() + 3

    def call(mode):
        with mode():
            while time.monotonic() < end:
                found.append(stub(X).is_inference())

    threads = [
        threading.Thread(target=call, args=(mode,)) for mode in 15 * [contextlib.nullcontext, torch.inference_mode]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found
    assert not any(found)
