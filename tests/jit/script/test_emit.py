"""Emission: exact text (recorded), purity, literals, and what the text does when Python itself runs it."""

import ast
import builtins
import itertools
import math
import operator
import pathlib
import re
import textwrap
import typing
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchremote import native
from torchremote.jit import common_source, compile_interface, has_cuda
from torchremote.jit.lower import (
    SourceNames,
    ir,
    lower_any,
    lower_common,
    lower_counted,
    lower_gathering,
    lower_hosting,
    lower_link,
    lower_stub,
    lower_table,
)
from torchremote.jit.read.annotations import read_type
from torchremote.jit.read.interface import read_interface
from torchremote.jit.read.literals import DeviceValue, DtypeValue, MemberValue, NamedTupleValue, literal
from torchremote.jit.read.model import Argument, Interface, Method
from torchremote.jit.read.types import (
    DTYPE,
    AnyType,
    DictType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TensorType,
    TupleType,
    UnionType,
    items_of,
    walk,
)
from torchremote.jit.runtime import message, tensors, turns
from torchremote.jit.script.classes import annotation_of, find_classes
from torchremote.jit.script.emit import emit
from torchremote.link.values import PythonPacker
from torchremote.testing import interfaces, types, values
from torchremote.testing.strategies import _defaults

from ... import gallery, zoo
from ...emitted import units

RECORDED = pathlib.Path(__file__).parents[2] / "recorded"


def whole_text(interface):
    return "\n\n".join(source.text for source in units(interface))


def text_compiled_here(interface):
    return "\n\n".join(source.text for source in units(interface, native.available(), has_cuda()))


def hosting_of(interface):
    return emit(lower_hosting(interface, SourceNames(interface))).text


def test_the_recorded_source(record):
    text = whole_text(read_interface(zoo.Encoder))
    path = RECORDED / "Encoder.py.txt"
    if record:
        path.write_text(text)
    assert text == path.read_text(), "pytest --record writes what is emitted now"
    # And TorchScript takes it.
    assert compile_interface(zoo.Encoder).source == text_compiled_here(read_interface(zoo.Encoder))


@pytest.mark.parametrize("cls", [zoo.Deep, zoo.Awkward, gallery.Painter], ids=lambda cls: cls.__name__)
def test_what_is_emitted_is_what_is_compiled(cls):
    assert compile_interface(cls).source == text_compiled_here(read_interface(cls))


def test_operators_for_cuda_are_named_in_connected_links_alone():
    interface = read_interface(zoo.Encoder)
    link = emit(lower_link(interface, SourceNames(interface), native=False, cuda=True)).text
    assert "ops.cuda" not in whole_text(interface)
    for before, line in itertools.pairwise(link.splitlines()):
        if "ops.cuda" in line:
            assert (before.strip(), line.strip()) in {
                ("for device in self._torchremote_its_devices:", "torch.ops.cuda.synchronize(device)"),
                ("for device in devices:", "torch.ops.cuda.synchronize(device)"),  # of a batch in several messages
            }
    # It waits for the answer first, and only with a device map. Python has the same semantics.
    log, pending = [], SimpleNamespace(wait=lambda: log.append("waited"))
    body = link[link.index("class Connected") :]
    body = body[body.index("    def _torchremote_wait_here") :].split("\n\n")[0]
    namespace = {"Future": dict, "Any": object}
    cuda = SimpleNamespace(synchronize=log.append)
    namespace["torch"] = SimpleNamespace(ops=SimpleNamespace(cuda=cuda))
    exec("from __future__ import annotations\n" + textwrap.dedent(body), namespace)
    for devices, done in (((), []), (("cuda:0", "cuda:1"), ["waited", "cuda:0", "cuda:1"])):
        log.clear()
        namespace["_torchremote_wait_here"](SimpleNamespace(_torchremote_its_devices=devices), pending)
        assert log == done


def test_the_native_part_is_named_in_connected_links_calls_in_turn_and_what_looks_at_tensors_alone():
    interface = read_interface(zoo.Encoder)
    *others, link, hosting, forked, in_turn, stub = (source.text for source in units(interface, native=True))
    plain = [source.text for source in units(interface)]
    *plain_others, plain_link, plain_hosting, plain_forked, plain_in_turn, plain_stub = plain
    common = emit(lower_common(native=True)).text
    assert re.findall(r"torch\.ops\.torchremote_native\.(\w+)", common) == [
        *("has_room", "like_it", "is_ordinary", "unknown_to_python")
    ]
    assert "torchremote_native" not in whole_text(interface) + emit(lower_common(native=False)).text
    assert [*others, hosting, forked, stub] == [*plain_others, plain_hosting, plain_forked, plain_stub]
    lines = zip(in_turn.splitlines(), plain_in_turn.splitlines(), strict=True)
    starting = [pair for pair in lines if pair[0] != pair[1]]  # each call in turn
    assert len(starting) == len(interface.messages)
    for line, plain in starting:
        assert "torchremote_native.in_strand(" in line
        assert "torch.jit.fork(in_turn_" in plain
    before, plain_before = (text[: text.index("def in_parts_")] for text in (link, plain_link))
    assert before == plain_before
    assert "class Disconnected:" in before
    named = Counter(re.findall(r"torch\.ops\.torchremote_native\.(\w+)", link))
    messages = len(interface.messages) + len(interface.methods)  # many calls may be several messages
    assert named == {"send": messages, "wait_here": 1, "new_route": 1, "reached": 1, "flags_by": 1}
    assert "rpc.rpc_async(" not in link


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("cls", [zoo.Deep, zoo.Awkward, gallery.Everywhere], ids=lambda cls: cls.__name__)
def test_no_local_name_hides_one_to_which_the_text_refers(cls, native):
    """Names of arguments and locals come from `Names`, which has to know every name around a function."""
    interface = read_interface(cls)
    encoder = read_interface(zoo.Encoder)
    batched = Interface(
        encoder.name, tuple(replace(each, batched=0) for each in encoder.methods if each.name == "forward")
    )
    counted = lower_counted(interface, SourceNames(interface), native)
    gathering = lower_gathering(batched, SourceNames(batched), native)
    referred = set()
    for source in (*units(interface, native, cuda=True), emit(counted), emit(gathering)):
        for function in ast.walk(ast.parse(source.text)):
            if isinstance(function, ast.FunctionDef):
                parts = [node for part in (*function.body, function.args) for node in ast.walk(part)]
                names = [node for node in parts if isinstance(node, ast.Name)]
                own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
                own |= {node.arg for node in parts if isinstance(node, ast.arg)}
                referred |= {node.id for node in names} - own
    assert {"torch", "finish", "has_device_map", "Finishing"} <= referred
    scopes = [SourceNames(each).scope() for each in (interface, batched)]
    assert [name for name in sorted(referred) if all(scope.fresh(name) == name for scope in scopes)] == []


def test_the_recorded_common_source(record):
    text = "\n\n".join(emit(unit).text for unit in (lower_common(native=False), lower_any()))
    path = RECORDED / "common.py.txt"
    if record:
        path.write_text(text)
    assert text == path.read_text(), "pytest --record writes what is emitted now"
    assert (common_source() == text) is not native.available()


def test_no_method_of_an_interface_takes_an_interface_of_all_methods():
    # See lower/hosting.py, Note [Compared interfaces].
    interface, source_names = read_interface(zoo.Encoder), SourceNames(read_interface(zoo.Encoder))
    link = lower_link(interface, source_names, native=False, cuda=False)
    units = [lower_table(interface, source_names), link, lower_stub(interface, source_names)]
    parts = [part for unit in units for part in unit.definitions if isinstance(part, ir.Interface)]
    of_all = {part.name for part in parts if len(part.methods) >= len(interface.methods)}
    assert {"ModuleInterface", "Runs", "Link", "Local", "Remote"} == of_all
    for part in parts:
        kinds = [kind for method in part.methods for kind in (*(p.type for p in method.parameters), method.returns)]
        used = {name for kind in kinds if kind for name in re.findall(r"\w+", kind)}
        assert part.name not in of_all or not used & of_all


@pytest.mark.parametrize("cls", [zoo.Deep, zoo.Awkward, gallery.Painter], ids=lambda cls: cls.__name__)
def test_the_places_are_where_python_finds_what_is_defined(cls):
    for source in units(read_interface(cls)):
        found = {
            node.name: node for node in ast.parse(source.text).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        assert found.keys() == source.places.keys()
        for name, place in source.places.items():
            assert place.span[0] == found[name].lineno - 1
            assert place.methods == {
                method.name: (method.lineno - 1, method.end_lineno)
                for method in found[name].body
                if isinstance(method, ast.FunctionDef)
            }


@given(interfaces(zoo.NAMED))
def test_the_same_model_gives_the_same_text(interface):
    again = Interface(interface.qualified_name, tuple(interface.methods))
    assert whole_text(interface) == whole_text(again)


def test_without_tensors_nothing_is_emitted_for_accelerators():
    hosting = hosting_of(read_interface(zoo.Counters))
    assert not [word for word in ("if hosted.moves", ".to(", "returned(", "changes") if word in hosting]


def test_on_the_cpu_nothing_moves():
    """All that moves tensors stands in the branch for modules on accelerators."""
    branch = None
    for line in hosting_of(read_interface(gallery.Everywhere)).splitlines():
        indent = len(line) - len(line.lstrip())
        if branch is not None and line.strip() and indent <= branch:
            branch = None
        if line.strip() == "if hosted.moves:":
            branch = indent
        if ".to(" in line or "move_any(" in line:
            assert branch is not None, line


def test_a_container_without_tensors_is_passed_on_as_it_is():
    def forward(self, a: dict[str, list[tuple[int, float | None]]], b: torch.Tensor) -> list[complex]: ...

    text = hosting_of(read_interface(type("Containers", (), {"forward": forward})))
    assert (
        "        b = b.to(hosted.device)\n    if needs_grad(flags):\n        result = hosted.module.forward(a, b)\n"
        in text
    )


class Fake(torch.Tensor):
    """A tensor that knows where it has been."""

    @staticmethod
    def at(place):
        fake = torch.Tensor._make_subclass(Fake, torch.empty(0))
        fake.place = place
        return fake

    def to(self, device):
        return Fake.at(device)

    def cpu(self):
        return Fake.at("cpu")


def moved(value, type, device, classes):
    """The reference: what moving means, without a compiler."""

    def inner(value, type):
        match type:
            case TensorType():
                return Fake.at(device)
            case AnyType():
                return anything_moved(value, device)
            case OptionalType(item):
                return None if value is None else inner(value, item)
            case UnionType(items):
                member = next(item for item in items if is_instance(value, annotation_of(item, classes)))
                return inner(value, member)
            case ListType(item):
                return [inner(element, item) for element in value]
            case DictType(key, item):
                return {inner(one, key): inner(element, item) for one, element in value.items()}
            case TupleType(items):
                return tuple(map(inner, value, items))
            case NamedTupleType():
                return classes[type](*map(inner, value, type.items))
        return value

    return inner(value, type)


def anything_moved(value, device):
    match value:
        case Fake():
            return Fake.at(device)
        case list():
            return [anything_moved(part, device) for part in value]
        case tuple():
            return tuple(anything_moved(part, device) for part in value)
        case dict():
            return {key: anything_moved(part, device) for key, part in value.items()}
    return value


def fakes_in(value):
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return [fake for part in value for fake in fakes_in(part)]
    return [value] if isinstance(value, Fake) else []


def looking_into(found):
    def look(value):
        fakes = fakes_in(value)
        found.extend(fakes)
        return bool(fakes)

    return look


def same_objects(left, right):
    return sorted(map(id, left)) == sorted(map(id, right))


def is_instance(value, wanted):
    """TorchScript's isinstance, which looks into containers."""
    origin, items = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is None or wanted is type(None):
        return value is None
    if wanted is typing.Any:
        return True
    if origin is typing.Union:
        return any(is_instance(value, item) for item in items)
    if origin is list:
        return type(value) is list and all(is_instance(part, items[0]) for part in value)
    if origin is dict:
        return type(value) is dict and all(
            is_instance(key, items[0]) and is_instance(part, items[1]) for key, part in value.items()
        )
    if origin is tuple:
        return type(value) is tuple and len(value) == len(items) and all(map(is_instance, value, items))
    return isinstance(value, torch.Tensor) if wanted is torch.Tensor else type(value) is wanted


def alike(left, right):
    if isinstance(left, Fake) and isinstance(right, Fake):
        return left.place == right.place
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, dict):
        return isinstance(right, dict) and all(map(alike, left.items(), right.items())) and len(left) == len(right)
    return repr(left) == repr(right)


def can_be_run_by_python(type):
    """Not a dtype, which is an int in TorchScript, nor two kinds of list or dict in a Union: Python's have no type."""
    for part in walk(type):
        kinds = [kind for kind in map(builtins.type, items_of(part)) if kind in (ListType, DictType)]
        if part == DTYPE or (isinstance(part, UnionType) and len(set(kinds)) < len(kinds)):
            return False
    return True


runnable = types(zoo.NAMED).filter(can_be_run_by_python)


@settings(deadline=None, max_examples=50)
@given(st.data())
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("flags", [0, 1, 2, 3, message.HAS_SPARSE, tensors.IN_TURN])
def test_a_call_moves_and_translates_as_the_reference_does(moves, flags, data):
    given_type, returned_type = data.draw(runnable), data.draw(runnable)
    method = Method("forward", (Argument("device", given_type), Argument("out", ScalarType("int"))), returned_type)
    interface = Interface("__torch__.zoo.Written", (method,))
    classes = find_classes(interface, "tests")
    fakes = st.builds(Fake.at, st.just("caller"))
    given_value = data.draw(values(given_type, tensors=fakes, classes=classes))
    returned_value = data.draw(values(returned_type, tensors=fakes, classes=classes))
    received, had_gradients = [], []

    class Module:
        def forward(self, value, out):
            received.append((value, out))
            had_gradients.append(torch.is_grad_enabled())
            return returned_value

    source_names, packer = SourceNames(interface), PythonPacker(classes)
    namespace = {source_names.classes[named]: cls for named, cls in classes.items()}
    for named, name in source_names.pack.items():
        namespace[name] = lambda value, named=named: packer.pack(value, named, "value")
        namespace[source_names.unpack[named]] = lambda value, named=named: packer.unpack(value, named)
    exec(hosting_of(interface), namespace)
    sent, restored, finished = [], [], []

    def returned(value, changes, where, message):
        sent.append(where)
        return value.cpu() if changes & tensors.TO_CPU else value

    def returned_any(value, changes, where, message):
        sent.append(where)
        return anything_moved(value, "cpu") if changes & tensors.TO_CPU else value

    namespace |= {
        "isinstance": is_instance,
        "move_any": lambda value, device: anything_moved(value, str(device)),
        "restored": lambda value: restored.append(value) or value,
        "restored_any": lambda value: restored.append(value) or value,
        "has_sparse": message.has_sparse,
        "is_in_turn": turns.is_in_turn,
        "needs_grad": tensors.needs_grad,
        "changes_of": tensors.changes_of,
        "returned": returned,
        "returned_any": returned_any,
        "finish": lambda *given: finished.append(given),
    }
    arguments, results, refused = [], [], []
    for which, found in (("is_recorded", arguments), ("is_differentiable", results)):
        namespace[which] = namespace[f"{which}_any"] = looking_into(found)
    namespace["refuse_without_gradient"] = refused.append
    runs = namespace["AtOnce"](namespace["Hosted"](Module(), "accelerator", moves))
    result = runs.forward(flags, packer.pack(given_value, given_type, "x"), 3)

    inward = moved(given_value, given_type, "accelerator", classes) if moves else given_value
    stays = not moves or flags & tensors.HAS_DEVICE_MAP
    outward = returned_value if stays else moved(returned_value, returned_type, "cpu", classes)
    assert alike(received, [(inward, 3)])
    looks = not flags & tensors.NO_GRAD and method.carries_gradients
    assert same_objects(arguments, fakes_in(given_value) if looks else [])
    assert same_objects(results, fakes_in(result) if arguments else [])
    assert refused == ["Written.forward"] * bool(arguments and not results)
    assert had_gradients == [not flags & tensors.NO_GRAD]
    assert finished == [(flags, "accelerator")] * method.returns_tensors
    assert alike(result, packer.pack(outward, returned_type, "out"))
    assert set(sent) <= {"Written.forward.return"}
    assert not restored or flags & message.HAS_SPARSE


@given(types(zoo.NAMED).map(_defaults).filter(lambda defaults: defaults is not None).flatmap(lambda defaults: defaults))
def test_a_literal_reads_back_exactly(value):
    assert repr(read_back(value)) == repr(value_of(value))


def read_back(value):
    """Returns what Python reads; TorchScript's reading is test_script's."""
    names = {"torch": torch, "float": float, "complex": complex}
    names |= {f"tests_zoo_{cls.__name__}": cls for cls in zoo.NAMED}
    return eval(literal(renamed(value)), names)


def renamed(value):
    match value:
        case MemberValue(path, name):
            return MemberValue(path.replace(".", "_"), name)
        case NamedTupleValue(path, items):
            return NamedTupleValue(path.replace(".", "_"), tuple(map(renamed, items)))
        case tuple():
            return tuple(map(renamed, value))
    return value


def value_of(value):
    interface = Interface("E", (Method("m", (), TupleType(tuple(read_type("", cls) for cls in zoo.NAMED))),))
    return PythonPacker(find_classes(interface, "tests")).python_default(value)


def test_literals_that_plain_formatting_gets_wrong():
    assert math.isnan(eval(literal(math.nan)))
    assert literal(-math.inf) == 'float("-inf")'
    assert literal(-0.0) == "-0.0"
    assert literal(complex(1, -0.0)) == "complex(1.0, -0.0)"
    assert literal('"\\\n\0é') == '"\\"\\\\\\012\\000é"'
    assert literal((1,)) == "(1,)"
    assert literal(DeviceValue('cpu"); import os; ("')) == 'torch.device("cpu\\"); import os; (\\"")'
    assert literal(DtypeValue("float32")) == "torch.float32"


NUMBER = st.integers(-3, 3)
SUMS = st.recursive(
    NUMBER.map(ir.Literal),
    lambda inner: st.one_of(
        st.builds(ir.Operation, st.sampled_from(["+", "-", "*", "==", "<"]), inner, inner),
        st.builds(ir.Operation, st.just("**"), inner, NUMBER.map(ir.Literal)),
        st.builds(ir.Operation, st.sampled_from(["-", "not"]), st.none(), inner),
    ),
    max_leaves=6,
)


def calculated(expression):
    """The value of an expression, without writing it."""
    if isinstance(expression, ir.Literal):
        return expression.value
    left, right = expression.left and calculated(expression.left), calculated(expression.right)
    if left is None:
        return -right if expression.sign == "-" else not right
    apply = {"+": operator.add, "-": operator.sub, "*": operator.mul, "==": operator.eq, "<": operator.lt}
    return (apply.get(expression.sign) or operator.pow)(left, right)


@given(SUMS)
def test_operations_are_written_with_the_parentheses_that_they_need(expression):
    unit = ir.Unit("sums", "sums", "", (ir.Function("value", (), "int", (ir.Return(expression),)),))
    text = emit(unit).text.partition("return ")[2]
    try:
        wanted = calculated(expression)
    except (ZeroDivisionError, OverflowError):
        return
    assert eval(text) == wanted
