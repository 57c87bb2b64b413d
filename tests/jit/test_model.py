import subprocess
import sys

import pytest
from hypothesis import given

from torchremote.jit.model import Argument, Interface, Method
from torchremote.jit.types import (
    NONE,
    TENSOR,
    DictType,
    ListType,
    OptionalType,
    ScalarType,
    TupleType,
    parse_interface,
    parse_type,
)

from .strategies import interfaces, types

INT = ScalarType("int")


def encoder(**changes):
    arguments = (
        Argument("x", TENSOR),
        Argument("k", INT, changes.get("default", 5), changes.get("keyword_only", True)),
    )
    return Interface(
        changes.get("name", "__torch__.a.Encoder"), (Method("topk", arguments, TupleType((TENSOR, TENSOR))),)
    )


@given(types)
def test_a_types_text_parses_back(type):
    assert parse_type(str(type)) == type


@given(interfaces())
def test_an_interfaces_text_parses_back(interface):
    assert parse_interface(interface.qualified_name, interface.text) == interface


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
        "forward(x: Dict[Tensor, int]) -> Tensor",
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


@pytest.mark.parametrize("name", ["class", "é", "a b", "", "a;b", "1"])
def test_a_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match="identifier"):
        Argument(name, TENSOR)


def test_the_digest_is_the_same_in_every_process():
    program = "from tests.jit.test_model import encoder; print(encoder().digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("0", "1", "1234")
    }
    assert digests == {encoder().digest}
