"""The unit that gathers calls: TorchScript takes it, whatever an interface's names and types are."""

from dataclasses import replace

import hypothesis
import pytest
from torch import Tensor

import torchremote as tr
from torchremote import testing
from torchremote.errors import InterfaceError
from torchremote.jit import compile_interface
from torchremote.jit.lower import SourceNames, lower_gathering
from torchremote.jit.owner_units import host_gathering
from torchremote.jit.read.interface import read_interface
from torchremote.jit.read.marks import check_batched
from torchremote.jit.read.model import Interface
from torchremote.jit.read.types import TENSOR, TupleType
from torchremote.jit.script.emit import emit

from ... import gallery, zoo


class Clashing:
    def forward(self, turns: Tensor, groups: Tensor, batch: int, call: int, flags: int) -> Tensor: ...
    def most(self, learns: Tensor, group: float, tensors: int, place: str, results: int) -> tuple[Tensor, Tensor]: ...
    def calls(self, gathering: Tensor, Gathering: Tensor, Batch: int, watch: bool, opened: int) -> Tensor: ...
    def watch(self, rows: Tensor, message: Tensor, fit: int, sliced: int, progress: int, pieces: int) -> Tensor: ...


def as_batched(interface):
    """The interface with all methods batched that can be; every second one is idempotent."""
    methods = []
    for number, method in enumerate(interface.methods):
        marked = replace(method, batched=0, idempotent=number % 2 == 1)
        try:
            check_batched(interface.name, marked)
        except InterfaceError:
            marked = method
        methods.append(marked)
    return Interface(interface.qualified_name, tuple(methods))


def compiled_gathering(interface):
    """The functions of the unit, compiled."""
    contract = compile_interface(interface).contract
    first, second = (emit(lower_gathering(interface, SourceNames(interface), native=False)) for _ in range(2))
    assert first.text == second.text
    return host_gathering(contract, interface.methods)


@pytest.mark.parametrize("cls", [Clashing, zoo.Awkward, zoo.Deep, gallery.Painter, zoo.Encoder])
def test_names_and_types_of_all_kinds(cls):
    assert "int most" in str(compiled_gathering(as_batched(read_interface(cls))).schema)


@hypothesis.settings(max_examples=10)
@hypothesis.given(testing.interfaces(zoo.NAMED))
def test_random_interfaces(drawn):
    # As a tensor and what is drawn, so that a method can be batched.
    methods = []
    for method in drawn.methods:
        tensors = TupleType((TENSOR, TENSOR)) if len(method.arguments) % 2 else TENSOR
        methods.append(replace(method, returns=tensors))
    interface = as_batched(Interface(f"{drawn.qualified_name}Gathered", tuple(methods)))
    hypothesis.assume(any(method.batched is not None for method in interface.methods))
    compiled_gathering(interface)


def test_marks_make_units_of_their_own():
    interface = as_batched(read_interface(zoo.Encoder))
    scopes = set()
    for marks in ({"batched": 0}, {"batched": 1}, {"batched": 0, "idempotent": True}):
        methods = tuple(replace(method, **{"idempotent": False, **marks}) for method in interface.methods)
        scopes.add(lower_gathering(replace(interface, methods=methods), SourceNames(interface), native=False).scope)
    assert len(scopes) == 3


def test_an_interface_without_marks_has_nothing_of_it():
    source = compile_interface(zoo.Encoder).source
    assert "Batch" not in source
    assert "Batch" not in tr.jit.common_source()
