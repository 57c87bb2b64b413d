"""Results that stay where the module is: `<m>_remote`, and stubs that take the RRef."""

from typing import Dict, List

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.distributed.rpc import RRef

import torchremote as tr
from torchremote.errors import ArgumentError, InterfaceError, UnsupportedTypeError

from .. import zoo
from ..group import play


@tr.remote_scriptable
class Stage:
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...
    def from_reference(self, x: RRef[Tensor]) -> Tensor: ...
    def named(self, x: Tensor) -> Dict[str, List[Tensor]]: ...
    def from_named(self, named: RRef[Dict[str, List[Tensor]]]) -> Tensor: ...
    def count(self) -> int: ...
    def fail(self, x: Tensor) -> Tensor: ...
    def paint(self, color: zoo.Color) -> zoo.Two: ...
    def nothing(self) -> None: ...


class StageModule(nn.Module):
    def __init__(self, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.rand(4, 4, generator=generator))

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x @ self.weight * scale

    def from_reference(self, x: RRef[Tensor]) -> Tensor:
        return x.to_here() @ self.weight

    def named(self, x: Tensor) -> Dict[str, List[Tensor]]:
        return {"a": [x, x + 1]}

    def from_named(self, named: RRef[Dict[str, List[Tensor]]]) -> Tensor:
        return named.to_here()["a"][1]

    def count(self) -> int:
        return 3

    def fail(self, x: Tensor) -> Tensor:
        raise ValueError("told to fail")

    def paint(self, color: zoo.Color) -> zoo.Two:
        return zoo.Two(torch.ones(1), torch.ones(1))

    def nothing(self) -> None:
        pass


@tr.remote_scriptable
class Counting:
    def forward(self, x: Tensor) -> int: ...


class Counter(nn.Module):
    """Changes itself: its calls run in turn."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> int:
        self.calls += 1
        return self.calls


@pytest.fixture
def stage(owner):
    return tr.create(owner, Stage, StageModule)


X = torch.ones(2, 4)


def test_the_result_stays_at_the_owner(owner, stage):
    reference = stage.forward_remote(X, scale=2.0)
    assert reference.owner_name() == owner
    assert torch.equal(reference.to_here(), X @ StageModule().weight * 2)
    assert torch.equal(stage.forward_remote(X).to_here(), stage(X))
    assert stage.count_remote().to_here() == 3
    assert torch.equal(stage.named_remote(X).to_here()["a"][1], X + 1)


def test_another_stub_takes_it(owner, stage):
    second = tr.create(owner, Stage, StageModule, args=(1,))
    result = second.from_reference(stage.forward_remote(X))
    assert torch.allclose(result, X @ StageModule().weight @ StageModule(1).weight)
    assert torch.equal(second.from_named(stage.named_remote(X)), X + 1)
    with pytest.raises(ArgumentError, match=r"Stage.from_named.named: RRef\[Tensor\] is no RRef\[Dict"):
        second.from_named(stage.forward_remote(X))


def test_calls_in_turn_keep_their_order(owner):
    counter = tr.create(owner, Counting, Counter)
    counts = []
    for _ in range(50):
        counts += [counter.forward_remote(X), counter.forward_async(X)]
    values = [count.wait() if isinstance(count, torch.futures.Future) else count.to_here() for count in counts]
    assert values == list(range(1, 101))


def test_gradients(owner, stage):
    second = tr.create(owner, Stage, StageModule, args=(1,))
    x = X.clone().requires_grad_()
    with dist_autograd.context() as context:
        dist_autograd.backward(context, [second.from_reference(stage.forward_remote(x)).sum()])
        found = dist_autograd.get_gradients(context)
    local = X.clone().requires_grad_()
    (local @ StageModule().weight @ StageModule(1).weight).sum().backward()
    assert torch.allclose(found[x], local.grad)


def test_what_cannot_be_sent_or_stay_is_refused(stage):
    with pytest.raises(ArgumentError, match=r"^Stage.forward.x: "):
        stage.forward_remote("x")
    with pytest.raises(ArgumentError, match=r"Stage.forward_remote.x: a meta tensor"):
        stage.forward_remote(X.to("meta"))
    with pytest.raises(UnsupportedTypeError, match=r"Stage.paint_remote: an RRef would refer to .*Two"):
        stage.paint_remote(zoo.Color.RED)
    with pytest.raises(RuntimeError, match="told to fail"):
        stage.fail_remote(X).to_here()
    assert stage.nothing_remote().to_here() is None


def test_a_short_timeout_of_the_stub_forgets_nothing(owner, stage):
    hasty = tr.with_timeout(stage, 0.001)
    references = [hasty.forward_remote(X) for _ in range(20)]
    assert all(torch.equal(reference.to_here(), stage(X)) for reference in references)


def test_a_clash_of_names_is_refused():
    with pytest.raises(InterfaceError, match=r"f_remote: clashes with the f_remote that stubs get for f"):

        @tr.remote_scriptable
        class Clashing:
            def f(self, x: Tensor) -> Tensor: ...
            def f_remote(self, x: Tensor) -> Tensor: ...


# -- a pipeline of two owners: what is between them does not come to the caller


def first(store):
    pass


def second(store):
    pass


def caller(store):
    one = tr.create("first", Stage, StageModule, args=(0,))
    two = tr.create("second", Stage, StageModule, args=(1,))
    x = X.clone().requires_grad_()
    weights = [tr.at_owner(stub).parameters()[0] for stub in (one, two)]
    with dist_autograd.context() as context:
        result = two.from_reference(one.forward_remote(x))
        dist_autograd.backward(context, [result.sum()])
        gradients = dist_autograd.get_gradients(context)[x]
        far = [rpc.rpc_sync(w.owner(), gradient_here, (context, w)) for w in weights]
    local, modules = X.clone().requires_grad_(), (StageModule(0), StageModule(1))
    wanted = local @ modules[0].weight @ modules[1].weight
    wanted.sum().backward()
    assert torch.allclose(result, wanted)
    assert torch.allclose(gradients, local.grad)
    for gradient, module in zip(far, modules, strict=True):
        assert torch.allclose(gradient, module.weight.grad)


def gradient_here(context, weight):
    return dist_autograd.get_gradients(context)[weight.local_value()]


def test_activations_go_from_owner_to_owner(tmp_path):
    play(tmp_path, caller, first, second)
