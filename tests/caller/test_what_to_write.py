"""Common mistakes are answered with what to write."""

import numpy as np
import pytest
import torch
from torch import Tensor

import torchremote as tr
from torchremote.errors import ArgumentError, InterfaceError, MismatchError, ServedNameError

from .. import zoo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


class Lists:
    def go(self, xs: list[Tensor], numbers: list[float]) -> Tensor: ...


class ListsModule(torch.nn.Module):
    def go(self, xs: list[Tensor], numbers: list[float]) -> Tensor:
        return xs[0]


@pytest.fixture(scope="module")
def encoder(owner):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder)


@pytest.fixture(scope="module")
def lists(owner):
    return tr.create(owner, Lists, ListsModule)


# -- values


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            np.ones((2, 8)),
            r"an object of class numpy\.ndarray is no Tensor; write torch\.as_tensor\(\.\.\.\) around it",
        ),
        (np.float32(3), r"is no Tensor; write torch\.as_tensor\(\.\.\.\) around it"),
        ([[1.0] * 8], r"an object of class list is no Tensor; write torch\.as_tensor\(\.\.\.\) around it"),
        ((1.0, 2.0), r"write torch\.as_tensor\(\.\.\.\) around it"),
        (3.0, r"3\.0 is no Tensor; write torch\.as_tensor\(\.\.\.\) around it"),
        ([X, X], r"is no Tensor; write torch\.stack\(\.\.\.\) around it, or declare List\[Tensor\]"),
        (None, r"None is no Tensor; declare Optional\[Tensor\] if it may be None"),
        ("x", r"'x' is no Tensor; give a tensor, or declare another type$"),
        ({}, r"an object of class dict is no Tensor; give a tensor, or declare another type$"),
    ],
)
def test_what_is_no_tensor(encoder, value, told):
    for act in (encoder, encoder.forward_async):
        with pytest.raises(ArgumentError, match=rf"^Encoder\.forward\.x: .*{told}"):
            act(value)
    with pytest.raises(ArgumentError, match=rf"^Encoder\.forward_many\.calls\[1\]\.x: .*{told}"):
        encoder.forward_many([(X,), (value,)])


def test_what_is_written_instead_works(encoder):
    for value in (np.ones((2, 8), dtype="float32"), [[1.0] * 8] * 2):
        assert torch.equal(encoder(torch.as_tensor(value)), encoder(X))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            (X, []),
            r"xs: an object of class torch\.Tensor is no List\[Tensor\]; write list\(\.\.\.\) around it, for its",
        ),
        ((np.ones((2, 2)), []), r"xs: .* is no List\[Tensor\]; write list\(torch\.as_tensor\(\.\.\.\)\) around it"),
        (([np.ones(2)], []), r"xs\[0\]: .* is no Tensor; write torch\.as_tensor\(\.\.\.\) around it"),
        (([X], torch.ones(3)), r"numbers: .*Tensor is no List\[float\]; write \.tolist\(\) after it"),
        (([X], np.ones(3)), r"numbers: .*ndarray is no List\[float\]; write \.tolist\(\) after it"),
    ],
)
def test_what_is_no_list(lists, arguments, told):
    with pytest.raises(ArgumentError, match=rf"^Lists\.go\.{told}"):
        lists.go(*arguments)


def test_what_is_written_for_a_list_works(lists):
    assert torch.equal(lists.go(list(X), torch.ones(3).tolist()), X[0])
    assert torch.equal(lists.go(list(torch.as_tensor(np.ones((2, 2)))), np.ones(3).tolist()), torch.ones(2).double())


def test_calls_that_are_no_tuples(encoder):
    with pytest.raises(ArgumentError, match=r"calls\[0\]: Tensor is no tuple of arguments; .*as in \[\(x,\), \(y,\)\]"):
        encoder.forward_many([X])


# -- declarations


def test_the_decorator_with_parentheses():
    with pytest.raises(InterfaceError, match="write @remote_scriptable, without parentheses"):

        @tr.remote_scriptable()
        class Interface:
            def forward(self, x: Tensor) -> Tensor: ...


def test_the_decorator_of_methods_without_parentheses():
    with pytest.raises(InterfaceError, match=r"write @batched\(0\)"):

        class Interface:
            @tr.batched
            def forward(self, x: Tensor) -> Tensor: ...


def test_methods_without_self():
    class First:
        def forward(x: Tensor, scale: float) -> Tensor: ...

    class None_:
        def forward() -> Tensor: ...

    with pytest.raises(InterfaceError, match=r"First\.forward: .*declare `def forward\(self, x, \.\.\.\)`"):
        tr.remote_scriptable(First)
    with pytest.raises(InterfaceError, match=r"None_\.forward: .*declare `def forward\(self, \.\.\.\)`"):
        tr.remote_scriptable(None_)


# -- arguments in the wrong order

SECOND = "pass the class itself, which create, connect and serve take as their second argument"
SWAPPED = "the interface comes first, then the module's class: are the two swapped"


class Plain(torch.nn.Module):
    """Not an interface: a method of it has no annotations."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("implementation", [zoo.LinearEncoder, Plain, torch.nn.Linear])
def test_interface_and_class_that_are_swapped(owner, implementation):
    for act in (
        lambda: tr.create(owner, implementation, zoo.Encoder),
        lambda: tr.create_async(owner, implementation, zoo.Encoder),
        lambda: tr.create_many([owner], implementation, zoo.Encoder),
    ):
        with pytest.raises(MismatchError, match=SWAPPED):
            act()


@pytest.mark.parametrize(
    "act",
    [
        lambda: tr.create("owner", "Encoder", zoo.LinearEncoder),
        lambda: tr.create("owner", zoo.Encoder(), zoo.LinearEncoder),
        lambda: tr.create(zoo.Encoder, "owner", zoo.LinearEncoder),
        lambda: tr.serve(zoo.Encoder, zoo.LinearEncoder(), "name"),
        lambda: tr.connect(zoo.Encoder, "owner", "name"),
    ],
)
def test_what_is_no_class(owner, act):
    with pytest.raises(InterfaceError, match=SECOND) as raised:
        act()
    assert "\n" not in str(raised.value)


def test_a_name_and_an_interface_that_are_swapped(owner):
    with pytest.raises((InterfaceError, ServedNameError), match=SECOND):
        tr.connect(owner, "name", zoo.Encoder)
    with pytest.raises((InterfaceError, ServedNameError), match="a string that is not empty"):
        tr.serve(zoo.LinearEncoder(), "name", zoo.Encoder)
    with pytest.raises(InterfaceError, match=r"not an instance of LinearEncoder; .*are it and the module swapped\?"):
        tr.serve(zoo.Encoder, zoo.LinearEncoder(), "name")


@pytest.mark.parametrize(
    "act",
    [
        lambda: tr.connect("owner", Plain, "name"),
        lambda: tr.serve(Plain(), Plain, "name"),
        lambda: tr.create("owner", Plain, Plain),
    ],
)
def test_a_module_in_the_place_of_the_interface(owner, act):
    with pytest.raises(InterfaceError, match=r"(?s)Plain\.forward\.x: the type is missing.*pass the interface in its"):
        act()


def test_a_class_in_the_place_of_a_module(owner):
    with pytest.raises(MismatchError, match=r"pass an object of the class, as LinearEncoder\(\.\.\.\)"):
        tr.serve(zoo.LinearEncoder, zoo.Encoder, "name")
