"""Methods that wait: the threads of RPC have their grad mode afterwards, for whatever they bring next."""

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.owner.running.hosting import may_wait

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CALLS = 60  # more than RPC has threads


@tr.remote_scriptable
class Scaling:
    def forward(self, x: Tensor) -> Tensor: ...
    def fail(self, x: Tensor) -> Tensor: ...


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2

    def fail(self, x: Tensor) -> Tensor:
        raise ValueError("told to fail")


@torch.jit.script
def worked_on(x: Tensor, rounds: int) -> Tensor:
    """So long that whoever waits for it does wait."""
    for _ in range(rounds):
        x = (x @ x) / x.size(0)
    return x


class Forking(Plain):
    def forward(self, x: Tensor) -> Tensor:
        pending = torch.jit.fork(worked_on, x, 500)
        return x + pending.wait()

    def fail(self, x: Tensor) -> Tensor:
        torch.jit.wait(torch.jit.fork(worked_on, x, 500))
        raise ValueError("told to fail")


class ForkingWithoutGradients(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = torch.jit.fork(worked_on, x, 500).wait()
        return x - target


class Asking(Plain):
    """Has a part on a worker, which it asks without gradients, as one asks a target network."""

    def __init__(self, target: nn.Module):
        super().__init__()
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.target(x)
        return x - target


class Around(Plain):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


X = torch.ones(4, 4)


def threads_without_gradients(owner):
    pending = [rpc.rpc_async(owner, torch.is_grad_enabled) for _ in range(CALLS)]
    return sum(not is_enabled.wait() for is_enabled in pending)


def call_all(function, *args):
    for pending in [function(*args) for _ in range(CALLS)]:
        pending.wait()


@pytest.fixture(params=[Forking, ForkingWithoutGradients, Asking], ids=lambda cls: cls.__name__)
def waiting(request, owner):
    args = (tr.create(owner, Scaling, Plain),) if request.param is Asking else ()
    return tr.create(owner, Scaling, request.param, args=args)


@pytest.mark.parametrize("grad", [True, False])
def test_threads_keep_their_grad_mode(waiting, owner, grad):
    with torch.set_grad_enabled(grad):
        call_all(waiting.forward_async, X)
        call_all(waiting.forward_many_async, [(X,), (X,)])
    assert threads_without_gradients(owner) == 0


def test_a_call_that_fails_keeps_it_too(owner):
    stub = tr.create(owner, Scaling, Forking)
    with torch.no_grad():
        for pending in [stub.fail_async(X) for _ in range(CALLS)]:
            with pytest.raises(tr.errors.RemoteError, match="Scaling.fail on owner: .*told to fail"):
                pending.wait()
    assert threads_without_gradients(owner) == 0


def test_gradients_flow_through_a_method_that_waits(owner):
    stub = tr.create(owner, Scaling, Forking)
    x = torch.eye(4, requires_grad=True)
    with dist_autograd.context() as context:
        dist_autograd.backward(context, [stub(x).sum()])
        found = dist_autograd.get_gradients(context)[x]
    (expected,) = torch.autograd.grad((x + worked_on(x, 500)).sum(), x)
    assert torch.allclose(found, expected)


def test_results_are_as_of_a_method_that_does_not_wait(waiting):
    with torch.no_grad():
        one, many = waiting(X), waiting.forward_many([(X,), (2 * X,)])
        assert torch.equal(one, many[0])
        assert many[1].shape == X.shape


@pytest.mark.parametrize("cls", [Forking, ForkingWithoutGradients])
def test_whether_a_module_may_wait_is_found_in_its_parts(cls):
    for module in (cls(), nn.Sequential(Plain(), cls()), Around(Around(cls()))):
        assert may_wait(torch.jit.script(module))
    assert not may_wait(torch.jit.script(nn.Sequential(Plain(), nn.LSTM(4, 4))))


def test_a_stub_waits(owner):
    assert may_wait(torch.jit.script(Asking(tr.create(owner, Scaling, Plain))))
    assert not any(_torch.waits(torch.jit.script(Plain()), name) for name in ("forward",))
