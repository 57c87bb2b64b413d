"""Distributed autograd never waits for a call that carries no gradients: it is detached, or an error says why not."""

import io
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import pytest
import torch
import torch.distributed.autograd as dist_autograd
from torch import Tensor, nn

import torchremote as tr
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.errors import InterfaceError, RemoteError
from torchremote.jit import compile_interface
from torchremote.jit.read.parse import parse_interface

from .. import zoo


class Scores(NamedTuple):
    best: int
    names: List[str]


class Ranked(NamedTuple):
    index: Tensor
    score: float


@tr.remote_scriptable
class Judging:
    def forward(self, x: Tensor) -> Tensor: ...

    # These cannot hold a gradient.
    def count(self, x: Tensor) -> int: ...
    def keep(self, x: Tensor) -> None: ...
    def shape(self, xs: List[Tensor]) -> List[int]: ...
    def means(self, xs: Dict[str, Tensor]) -> Dict[str, float]: ...
    def scores(self, x: Optional[Tensor]) -> Scores: ...
    def wanted(self, x: Tensor) -> bool: ...
    def look_into(self, x: Any) -> int: ...

    # These are declared not to.
    @tr.detached
    def act(self, x: Tensor) -> Tensor: ...
    @tr.detached
    def parts(self, xs: List[Tensor], scale: float = 1.0) -> Tuple[Tensor, Dict[str, Tensor]]: ...
    @tr.detached
    def anything(self, x: Any) -> Any: ...
    @tr.detached
    def train_step(self, x: Tensor) -> Tensor: ...

    # These could, and do not.
    def argmax(self, x: Tensor) -> Tensor: ...
    def zeros(self, x: Tensor) -> Tensor: ...
    def ranked(self, xs: List[Tensor]) -> Ranked: ...
    def maybe(self, x: Tensor) -> Optional[Tensor]: ...
    def split(self, x: Dict[str, Tensor]) -> Dict[str, List[Tensor]]: ...
    def untyped(self, x: Any) -> Any: ...


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.kept = torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x

    def count(self, x: Tensor) -> int:
        return x.numel()

    def keep(self, x: Tensor) -> None:
        self.kept.copy_(x.detach())

    def shape(self, xs: List[Tensor]) -> List[int]:
        return [x.numel() for x in xs]

    def means(self, xs: Dict[str, Tensor]) -> Dict[str, float]:
        return {name: float(x.mean()) for name, x in xs.items()}

    def scores(self, x: Optional[Tensor]) -> Scores:
        return Scores(0 if x is None else int(x.argmax()), ["a"])

    def wanted(self, x: Tensor) -> bool:
        return x.requires_grad

    def look_into(self, x: Any) -> int:
        assert isinstance(x, Tensor)
        return int(x.requires_grad)

    def act(self, x: Tensor) -> Tensor:
        return self.weight * x

    def parts(self, xs: List[Tensor], scale: float) -> Tuple[Tensor, Dict[str, Tensor]]:
        return self.weight, {"first": xs[0] * self.weight * scale}

    def anything(self, x: Any) -> Any:
        assert isinstance(x, Tensor)
        found: List[Tensor] = [x * self.weight]
        return found

    def train_step(self, x: Tensor) -> Tensor:
        loss = (self.weight * x).sum()
        loss.backward()
        return loss

    def argmax(self, x: Tensor) -> Tensor:
        return x.argmax()

    def zeros(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def ranked(self, xs: List[Tensor]) -> Ranked:
        return Ranked(xs[0].argsort(), 1.0)

    def maybe(self, x: Tensor) -> Optional[Tensor]:
        return None

    def split(self, x: Dict[str, Tensor]) -> Dict[str, List[Tensor]]:
        return {"all": [value.detach() for value in x.values()]}

    def untyped(self, x: Any) -> Any:
        return 1 if isinstance(x, Tensor) else 2


WITHOUT = ("count", "keep", "shape", "means", "scores", "wanted", "look_into")
DETACHED = ("act", "parts", "anything", "train_step")
LACKING = ("argmax", "zeros", "ranked", "maybe", "split", "untyped")


def argument_of(method, x):
    if method in ("shape", "parts", "ranked"):
        return [torch.ones(3), x]
    return {"a": torch.ones(3), "b": x} if method in ("means", "split") else x


@pytest.fixture(scope="module")
def stub(owner):
    return tr.create(owner, Judging, Judge)


def asking(stub, method, argument):
    """Every way to call from Python."""
    call = getattr(stub, method)
    yield lambda: call(argument)
    yield lambda: getattr(stub, f"{method}_async")(argument).wait()
    yield lambda: getattr(stub, f"{method}_many")([(argument,)] * 2)
    yield lambda: getattr(stub, f"{method}_many_async")([(argument,)] * 2).wait()
    yield lambda: getattr(stub, f"{method}_many")([(argument,)] * 2, return_exceptions=True)


def tensors_of(value):
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


def backward_ends(stub, x, asks):
    """A context in which something is asked that carries no gradients, beside a call that does."""
    with dist_autograd.context() as context:
        loss = stub(x).sum()
        results = [ask() for ask in asks]
        dist_autograd.backward(context, [loss])
        assert dist_autograd.get_gradients(context)[x].tolist() == [1.0] * 3
    return results


@pytest.mark.parametrize("method", WITHOUT + DETACHED)
def test_backward_passes_over_calls_without_gradients(stub, method):
    x = torch.ones(3, requires_grad=True)
    results = backward_ends(stub, x, asking(stub, method, argument_of(method, x)))
    assert not any(tensor.requires_grad for tensor in tensors_of(results))
    assert not any(isinstance(result, Exception) for result in tensors_of(results))


class Scripted(nn.Module):
    judge: Judging

    def __init__(self, judge):
        super().__init__()
        self.judge = judge

    def forward(self, x: Tensor) -> Tensor:
        first, named = self.judge.parts([x], 2.0)
        self.judge.keep(x)
        return self.judge.act(x) + first + named["first"] + self.judge.count(x)

    @torch.jit.export
    def lacking(self, x: Tensor) -> Tensor:
        return self.judge.argmax(x)


def test_from_torchscript(stub):
    x = torch.ones(3, requires_grad=True)
    scripted = torch.jit.script(Scripted(stub))
    (result,) = backward_ends(stub, x, [lambda: scripted(x)])
    assert result.tolist() == [7.0] * 3
    assert not result.requires_grad
    with (
        dist_autograd.context(),
        pytest.raises(RuntimeError, match=r"Judging\.argmax: an argument requires a gradient"),
    ):
        scripted.lacking(x)
    assert scripted.lacking(x) == 0


def test_what_a_method_without_gradients_sees(stub):
    x = torch.ones(3, requires_grad=True)
    assert not stub.wanted(x)
    assert stub.look_into(x) == 0
    assert stub.wanted_many([(x,), (torch.ones(3),)]) == [False, False]
    assert not stub.act(torch.ones(3)).requires_grad  # nor does what comes of a parameter
    assert stub(x).requires_grad
    before = stub.train_step(x)  # computes gradients of its own
    assert before.item() == 3.0


# -- what could carry gradients, and does not


SAYS = r"an argument requires a gradient and nothing in the result does.*torch\.no_grad\(\).*@torchremote\.detached"


@pytest.mark.parametrize("method", LACKING)
def test_a_result_without_gradient_is_an_error_in_a_context(stub, owner, method):
    x = torch.ones(3, requires_grad=True)
    argument = argument_of(method, x)
    *asks, each = asking(stub, method, argument)
    with dist_autograd.context():
        for ask in asks:
            with pytest.raises(RemoteError, match=rf"^Judging\.{method}(_many)? on {owner}: .*{SAYS}"):
                ask()
        assert [type(result) for result in each()] == [RemoteError] * 2
    # Outside, without gradients, and with arguments that require none, nothing has changed.
    for ask in asking(stub, method, argument):
        ask()
    plain = argument_of(method, torch.ones(3))
    backward_ends(stub, x, asking(stub, method, plain))

    def without():
        with torch.no_grad():
            return getattr(stub, method)(argument)

    backward_ends(stub, x, [without])


def test_one_of_many_calls(stub, owner):
    x = torch.ones(3, requires_grad=True)
    with dist_autograd.context(), pytest.raises(RemoteError, match=r"calls\[1\]: an argument requires a gradient"):
        stub.argmax_many([(torch.ones(3),), (x,)])


def test_the_next_context_is_a_new_start(stub):
    x = torch.ones(3, requires_grad=True)
    with dist_autograd.context(), pytest.raises(RemoteError):
        stub.argmax(x)
    backward_ends(stub, x, [])


def test_a_module_of_this_worker(owner):
    x = torch.ones(3, requires_grad=True)
    here = tr.create("caller", Judging, Judge)
    backward_ends(here, x, asking(here, "act", x))
    with dist_autograd.context(), pytest.raises(RemoteError, match=SAYS):
        here.zeros(x)
    assert here.zeros(x).tolist() == [0.0] * 3


def test_the_drop_in(owner):
    x = torch.ones(3, requires_grad=True)
    module = _RemoteModule(owner, Judge, _module_interface_cls=Judging)
    backward_ends(module, x, [lambda: module.act(x), lambda: module.count(x)])
    with dist_autograd.context(), pytest.raises(RemoteError, match=SAYS):
        module.argmax(x)


# -- the declaration


def test_it_is_part_of_the_interface():
    class Acting:
        def act(self, x: Tensor) -> Tensor: ...

    class Detached:
        @tr.detached
        def act(self, x: Tensor) -> Tensor: ...

    class Both:
        @tr.batched(0)
        @tr.detached
        def act(self, x: Tensor, scale: float = 2.0) -> Tensor: ...

    plain, detached, both = (compile_interface(cls) for cls in (Acting, Detached, Both))
    assert detached.interface.text == "@detached act(x: Tensor) -> Tensor"
    assert both.interface.declaration == "@batched(0) @detached act(x: Tensor, scale: float = 2.0) -> Tensor"
    assert plain.digest != detached.digest
    for interface in (plain.interface, detached.interface, both.interface):
        assert parse_interface(interface.qualified_name, interface.declaration) == interface


@pytest.mark.parametrize(
    "text", ["@detached @batched(0) f(x: Tensor) -> Tensor", "@detached  f() -> Tensor", "@detachedf() -> Tensor"]
)
def test_what_is_no_text(text):
    with pytest.raises(ValueError, match="not a|not canonical"):
        parse_interface("zoo.F", text)


def test_only_methods_are_declared_so():
    with pytest.raises(InterfaceError, match="detached: for methods, and not for"):
        tr.detached(3)


def test_a_saved_stub_is_as_detached(owner):
    tr.create(owner, Judging, Judge, name="judge")
    file = io.BytesIO()
    torch.jit.save(tr.connect(owner, Judging, "judge"), file)
    file.seek(0)
    loaded = tr.load(file)
    x = torch.ones(3, requires_grad=True)
    backward_ends(loaded, x, [lambda: loaded.act(x)])


def test_batched_calls(owner):
    @tr.remote_scriptable
    class Batched:
        @tr.batched(0)
        @tr.detached
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...

    stub = tr.create(owner, Batched, zoo.LinearEncoder)
    x = torch.ones(2, 8, requires_grad=True)
    assert [one.requires_grad for one in stub.forward_many([(x,), (x,)])] == [False, False]
