"""A method that is set on one object is refused, and a class with its own `__call__`; functions are right."""

import types

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

X = torch.tensor([1.0, 2.0])


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Scales:
    def scaled(self, x: Tensor) -> Tensor: ...


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = 10.0

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x)

    def scaled(self, x: Tensor) -> Tensor:
        return x * self.k


def negated(self, x: Tensor) -> Tensor:
    return -x


def patched(name="forward"):
    module = Scale()
    setattr(module, name, types.MethodType(negated, module))
    return module


class Chooses(Scale):
    def __init__(self, fast):
        super().__init__()
        self.forward = self.fast if fast else self.scaled

    def fast(self, x: Tensor) -> Tensor:
        return x * 2


class Holder(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


REFUSED = {
    "forward": (patched, "Scale has a forward of its own"),
    "helper": (lambda: patched("scaled"), "Scale has a scaled of its own"),
    "part": (lambda: Holder(Scale(), patched()), r"Holder's part parts\.1, of class Scale, has a forward of its own"),
    "chosen": (lambda: Chooses(True), r"Chooses has a forward of its own, set on the object \(Chooses.fast\)"),
    "another's": (lambda: Holder(Chooses(False)), "has a forward of its own"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_a_method_of_one_object_is_refused(make, said):
    with pytest.raises(CreationError, match=f"{said}.*write a subclass that has it"):
        tr.serve(make(), OnTensor, "never")


def test_what_one_object_has_is_not_taken_for_its_class(owner):
    """The type that torch makes of the first is that of the second."""
    with pytest.raises(CreationError, match="forward of its own"):
        tr.create(owner, OnTensor, patched)
    with pytest.raises(CreationError, match="scaled of its own"):
        tr.create(owner, Scales, patched, args=("scaled",))
    assert torch.equal(tr.create(owner, OnTensor, Scale)(X), X * 10)
    assert torch.equal(tr.create(owner, Scales, Scale).scaled(X), X * 10)


def doubled(x: Tensor) -> Tensor:
    return x * 2


class WithFunction(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.act = function
        self.unused = self.extra  # a bound method whose name the class does not have

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)

    def extra(self, x: Tensor) -> Tensor:
        return x


class Trains(Scale):
    """Has a method of torch's on the object, which is not compiled."""

    def __init__(self):
        super().__init__()
        self.train = types.MethodType(lambda self, mode=True: self, self)


def functions():
    return Holder(WithFunction(doubled), WithFunction(torch.neg), Trains())


def test_functions_are_right(owner):
    stub = tr.create(owner, OnTensor, functions)
    for _ in range(3):
        assert torch.equal(stub(X), functions()(X))


class Relu(Scale):
    def __call__(self, x):
        return torch.relu(super().__call__(x))


class Typed(Scale):
    def __call__(self, x: Tensor) -> Tensor:
        """Is there for its annotations."""
        return super().__call__(x)


class Passes(Scale):
    def __call__(self, *args, **kwargs):
        return nn.Module.__call__(self, *args, **kwargs)


class Swapped(Scale):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x - y

    def __call__(self, x, y):
        return super().__call__(y, x)


class Swaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Swapped()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x, x + 1)


@pytest.mark.parametrize("make", [Relu, lambda: Holder(Relu()), Swaps], ids=["top", "part", "swapped"])
def test_a_call_of_its_own_is_refused(make):
    assert not torch.equal(torch.jit.script(make())(-X), make()(-X))  # the reason
    with pytest.raises(CreationError, match=r"(Relu|Swapped),? has a __call__ of its own, .* do in forward what"):
        tr.serve(make(), OnTensor, "never")


def calls():
    return Holder(Typed(), Passes())


def test_calls_that_hand_on_are_right(owner):
    assert torch.equal(tr.create(owner, OnTensor, calls)(X), calls()(X))
    # Nobody calls the module itself.
    assert torch.equal(tr.create(owner, Scales, Relu).scaled(-X), -X * 10)


class Add(nn.Module):
    def __init__(self, k: float):
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        return x * 10 + self.k


class Backwards(nn.ModuleList):
    def __iter__(self):
        return reversed(list(self._modules.values()))


class FromTheEnd(nn.ModuleList):
    def __getitem__(self, index):
        return super().__getitem__(-1 - index)


class Annotated(nn.ModuleList):
    def __getitem__(self, index) -> Add:
        return super().__getitem__(index)


class GoesOver(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers = kind([Add(1.0), Add(2.0)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.layers[0](x)


@pytest.mark.parametrize(("kind", "name"), [(Backwards, "__iter__"), (FromTheEnd, "__getitem__")])
def test_a_container_that_gives_its_parts_otherwise_is_refused(kind, name):
    assert not torch.equal(torch.jit.script(GoesOver(kind))(X), GoesOver(kind)(X))  # the reason
    with pytest.raises(CreationError, match=f"part layers, of class {kind.__name__}, has a {name} of its own"):
        tr.serve(GoesOver(kind), OnTensor, "never")


@pytest.mark.parametrize("kind", [nn.ModuleList, Annotated])
def test_other_containers_are_right(owner, kind):
    assert torch.equal(tr.create(owner, OnTensor, GoesOver, args=(kind,))(X), GoesOver(kind)(X))
