"""Emission: exact text (recorded), purity, literals, and what the text does when Python itself runs it."""

import math
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchremote.jit import compile_interface
from torchremote.jit.emit import emit, literal
from torchremote.jit.interface import read_interface
from torchremote.jit.lower import lower_placement, lower_stub, lower_table
from torchremote.jit.model import Interface
from torchremote.jit.plan import Placement, plan_method
from torchremote.jit.types import DictType, ListType, OptionalType, TensorType, TupleType, parse_type

from .. import zoo
from .strategies import interfaces, literal_types, types, values

RECORDED = pathlib.Path(__file__).parent / "recorded"


def placement_text(interface, placement):
    plans = {method.name: plan_method(method, placement) for method in interface.methods}
    return emit(lower_placement(interface, placement, plans))


def whole_text(interface):
    placements = [placement_text(interface, placement) for placement in Placement]
    return "\n\n".join([emit(lower_table(interface)), *placements, emit(lower_stub(interface))])


@pytest.mark.parametrize("cls", [zoo.Encoder, zoo.Deep, zoo.Awkward], ids=lambda cls: cls.__name__)
def test_recorded_sources(cls, record):
    text = whole_text(read_interface(cls))
    path = RECORDED / f"{cls.__name__}.py.txt"
    if record:
        path.write_text(text)
    assert text == path.read_text(), "pytest --record writes what is emitted now"
    assert compile_interface(cls).source == text  # and TorchScript takes it


@given(interfaces(defaults=True))
def test_the_same_model_gives_the_same_text(interface):
    again = Interface(interface.qualified_name, tuple(interface.methods))
    assert whole_text(interface) == whole_text(again)


def test_without_tensors_no_placement_moves_anything():
    interface = read_interface(zoo.Counters)
    bodies = {
        placement: placement_text(interface, placement).partition("from __future__")[2] for placement in Placement
    }
    assert bodies[Placement.HOST] == bodies[Placement.STAGED] == bodies[Placement.MAPPED]


class Fake:
    """A tensor that knows where it has been."""

    def __init__(self, device="caller"):
        self.device = device

    def to(self, device):
        return Fake(device)

    def cpu(self):
        return Fake("cpu")

    def __eq__(self, other):
        return isinstance(other, Fake) and self.device == other.device

    __hash__ = None

    def __repr__(self):
        return f"Fake({self.device})"


def moved(value, type, device):
    """The reference: what moving means, without a compiler."""
    match type:
        case TensorType():
            return Fake(device)
        case OptionalType(item):
            return None if value is None else moved(value, item, device)
        case ListType(item):
            return [moved(element, item, device) for element in value]
        case DictType(_, item):
            return {key: moved(element, item, device) for key, element in value.items()}
        case TupleType(items):
            return tuple(moved(element, item, device) for element, item in zip(value, items, strict=True))
    return value


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize("placement", Placement)
def test_an_endpoint_moves_what_the_reference_moves(placement, data):
    given_type, returned_type = data.draw(types), data.draw(types)
    given_value = data.draw(values(given_type, st.builds(Fake)))
    returned_value = data.draw(values(returned_type, st.builds(Fake)))
    interface = zoo.interface_of(f"forward(device: {given_type}, out: int) -> {returned_type}")
    received = []

    class Module:
        def forward(self, value, out):
            received.append((value, out))
            return returned_value

    namespace = {}
    exec(placement_text(interface, placement), namespace)
    namespace["find"] = lambda table, handle: (Module(), "accelerator")
    result = namespace["_remote_forward"](None, 0, given_value, 3)

    inward = given_value if placement is Placement.HOST else moved(given_value, given_type, "accelerator")
    outward = moved(returned_value, returned_type, "cpu") if placement is Placement.STAGED else returned_value
    assert received == [(inward, 3)]
    assert result == outward


@given(literal_types.flatmap(lambda type: values(type, st.nothing())))
def test_a_literal_reads_back_exactly(value):
    again = eval(literal(value), {"float": float})
    assert again == value
    assert repr(again) == repr(value)


def test_literals_that_plain_formatting_gets_wrong():
    assert math.isnan(eval(literal(math.nan)))
    assert literal(-math.inf) == 'float("-inf")'
    assert literal(-0.0) == "-0.0"
    assert literal('"\\\n\0é') == '"\\"\\\\\\012\\000é"'
    assert parse_type("Tuple[int]") == TupleType((parse_type("int"),))
    assert literal((1,)) == "(1,)"
