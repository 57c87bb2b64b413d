import ast
import subprocess
import sys

import pytest
from hypothesis import given

from torchremote.jit import compile_interface
from torchremote.jit.read.model import Argument, Interface, Method
from torchremote.jit.read.parse import parse_interface
from torchremote.jit.read.types import (
    NONE,
    TENSOR,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TupleType,
    UnionType,
    includes,
    named_types,
)
from torchremote.testing import interfaces, types

from ... import gallery, zoo

INT = ScalarType("int")


def encoder(**changes):
    arguments = (
        Argument("x", TENSOR),
        Argument("k", INT, changes.get("default", 5), changes.get("keyword_only", True)),
    )
    return Interface(
        changes.get("name", "__torch__.a.Encoder"), (Method("topk", arguments, TupleType((TENSOR, TENSOR))),)
    )


@given(types(zoo.NAMED))
def test_a_types_text_parses_back(type):
    assert zoo.type_of(str(type), *named_types([type])) == type


@given(interfaces(zoo.NAMED))
def test_an_interfaces_text_parses_back(interface):
    again = parse_interface(interface.qualified_name, interface.text)
    assert (again.text, again.digest) == (interface.text, interface.digest)
    assert again.named_types == interface.named_types


def test_the_canonical_text():
    assert encoder().text == "topk(x: Tensor, k: int) -> Tuple[Tensor, Tensor]"
    assert str(DictType(ScalarType("str"), OptionalType(ListType(TENSOR)))) == "Dict[str, Optional[List[Tensor]]]"
    assert str(TupleType(())) == "Tuple[()]"


def test_names_and_defaults_and_keyword_only_are_not_part_of_the_digest():
    assert encoder().digest == encoder(name="__torch__.b.Other").digest
    assert encoder().digest == encoder(default=7).digest == encoder(keyword_only=False).digest


def test_types_and_argument_names_are():
    other_type = Interface("E", (Method("topk", (Argument("x", TENSOR), Argument("k", NONE)), TENSOR),))
    other_name = Interface(
        "E", (Method("topk", (Argument("x", TENSOR), Argument("n", INT)), TupleType((TENSOR, TENSOR))),)
    )
    assert len({encoder().digest, other_type.digest, other_name.digest}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "forward(x: Tensor)",
        "forward(x) -> Tensor",
        "forward(x:Tensor) -> Tensor",
        "forward(x: Tensor, x: int) -> Tensor",
        "forward(x: Set[int]) -> Tensor",
        "forward(x: Optional[None]) -> Tensor",
        "forward(x: Dict[device, int]) -> Tensor",
        "forward(x: Optional[Any]) -> Tensor",
        "forward(x: Union[int]) -> Tensor",
        "forward(x: Union[str, int]) -> Tensor",
        "forward(x: Union[None, int]) -> Tensor",
        "forward(x: Union[dtype, int]) -> Tensor",
        "forward(x: a.Unknown) -> Tensor",
        "enum a.E: A = 1\nforward() -> int",
        "enum a.E: A = 1, B = 'b'\nforward() -> a.E",
        "enum a.E: A = True\nforward() -> a.E",
        "enum a.E: A = __import__('os')\nforward() -> a.E",
        "enum a.E: A=1\nforward() -> a.E",
        "enum E: A = 1\nforward() -> E",
        "enum a.E(): A = 1\nforward() -> a.E",
        "enum a.E: class = 1\nforward() -> a.E",
        "tuple a.P(a: a.P)\nforward() -> a.P",
        "tuple a.P(a: int): import os; x(\nforward() -> a.P",
        "tuple a.P(a)\nforward() -> a.P",
        "b() -> int\na() -> int",
        "a() -> int; import os",
        "a(x: __import__('os').system('x')) -> int",
        "a() -> " + "List[" * 500 + "int" + "]" * 500,
        "\0",
    ],
)
def test_what_is_not_canonical_is_refused(text):
    with pytest.raises(ValueError):
        parse_interface("E", text)


def test_the_canonical_text_of_named_types():
    pair = NamedTupleType("m.Pair", (("a", TENSOR), ("b", UnionType((INT, ScalarType("str"))))))
    mode = EnumType("m.Mode", (("TRAIN", 'a"\n'), ("EVAL", "b")))
    interface = Interface("E", (Method("forward", (Argument("p", ListType(pair)),), OptionalType(mode)),))
    assert interface.text == (
        "tuple m.Pair(a: Tensor, b: Union[int, str])\n"
        'enum m.Mode: TRAIN = "a\\"\\012", EVAL = "b"\n'
        "forward(p: List[m.Pair]) -> Optional[m.Mode]"
    )
    assert parse_interface("E", interface.text) == interface


def test_two_definitions_of_one_name_are_refused():
    one, other = EnumType("m.Mode", (("A", 1),)), EnumType("m.Mode", (("A", 2),))
    with pytest.raises(ValueError, match="two types of one name"):
        Interface("E", (Method("forward", (Argument("x", one),), other),))


@pytest.mark.parametrize(
    ("wide", "narrow", "includes_it"),
    [
        ("Any", "int", True),
        ("Tuple[Tensor, Any]", "Tuple[Tensor, int]", True),
        ("Tuple[Optional[int]]", "Tuple[int]", True),
        ("Tuple[int]", "Tuple[Optional[int]]", False),
        ("List[Optional[int]]", "List[int]", False),
        ("Union[int, str]", "str", True),
        ("int", "dtype", True),
        ("float", "int", False),
    ],
)
def test_what_torchscript_cannot_tell_apart(wide, narrow, includes_it):
    assert includes(zoo.type_of(wide), zoo.type_of(narrow)) is includes_it


@pytest.mark.parametrize("name", ["class", "é", "a b", "", "a;b", "1"])
def test_a_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match="identifier"):
        Argument(name, TENSOR)


def test_the_digest_is_the_same_in_every_process():
    program = (
        "from tests import gallery, zoo; from torchremote.jit.read.interface import read_interface as read;"
        "print(*(read(cls).digest for cls in (zoo.Encoder, gallery.Painter, zoo.Deep)))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
        )
        for seed in ("0", "1")
    ]
    digests = {process.communicate(timeout=100)[0].strip() for process in processes}
    assert digests == {" ".join(compile_interface(cls).digest for cls in (zoo.Encoder, gallery.Painter, zoo.Deep))}


def test_reading_in_several_threads_at_once(monkeypatch):
    """Before 3.11.8, Python's parser raises SystemError at times, if another thread parses, too."""
    parse, fails = ast.parse, iter([True, True, False])

    def parse_at_times(text):
        if next(fails):
            raise SystemError("AST constructor recursion depth mismatch (before=27, after=24)")
        return parse(text)

    monkeypatch.setattr(ast, "parse", parse_at_times)
    assert str(zoo.type_of("Tensor")) == "Tensor"
