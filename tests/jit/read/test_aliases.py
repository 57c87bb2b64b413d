"""Type aliases and NewTypes: text in them, their type variables, and aliases that nobody can evaluate."""

import sys
import typing
from typing import Annotated, List, NewType, Optional, TypeVar, Union

import pytest
import torch
from torch import Tensor
from typing_extensions import TypeAliasType
from typing_extensions import TypeVar as TypeVarWithDefault

from torchremote.errors import UnsupportedTypeError
from torchremote.jit.read.annotations import read_type

First, Second = TypeVar("First"), TypeVar("Second")
Numbered = TypeVarWithDefault("Numbered", default=int)
Alike = TypeVarWithDefault("Alike", default=list[Numbered])
Written = TypeVarWithDefault("Written", default="Tensor")
Items = typing.TypeVarTuple("Items")

Keyed = TypeAliasType("Keyed", dict[Second, Union[First, list[Second], None]], type_params=(First, Second))
Fixed = TypeAliasType("Fixed", list[int], type_params=(First,))
Maybe = TypeAliasType("Maybe", Optional[First], type_params=(First,))
Same = TypeAliasType("Same", First, type_params=(First,))
SameAgain = TypeAliasType("SameAgain", dict[str, Same[First]], type_params=(First,))
Defaulted = TypeAliasType("Defaulted", dict[Numbered, Alike], type_params=(Numbered, Alike))
OfText = TypeAliasType("OfText", List["Written"], type_params=(Written,))
Several = TypeAliasType("Several", tuple[typing.Unpack[Items]], type_params=(Items,))

Row = TypeAliasType("Row", list["Tensor"])
Text = TypeAliasType("Text", "Row | None")
Named = NewType("Named", "Tensor")
NamedRow = NewType("NamedRow", list["Named"])
Ring = NewType("Ring", "List[Ring]")
Absent = NewType("Absent", list["Nowhere"])  # noqa: F821


class Local:
    """Any class: what does not cross may stand for a type variable that an alias does not use."""


@pytest.mark.parametrize(
    ("annotation", "meaning"),
    [
        (Keyed[Tensor, int], "Dict[int, Optional[Union[List[int], Tensor]]]"),
        (List[Fixed[str]], "List[List[int]]"),
        (Fixed[Local], "List[int]"),
        (Maybe[Maybe[int]], "Optional[int]"),
        (Maybe[list[Maybe[int]]], "Optional[List[Optional[int]]]"),
        (Same[int], "int"),
        (Same[Annotated[Same[Tensor], 1]], "Tensor"),
        (SameAgain[Maybe[Tensor]], "Dict[str, Optional[Tensor]]"),
        (Defaulted, "Dict[int, List[int]]"),
        (Defaulted[str], "Dict[str, List[str]]"),
        (Defaulted[str, Tensor], "Dict[str, Tensor]"),
        (OfText, "List[Tensor]"),
        (OfText[Row], "List[List[Tensor]]"),
        (Row, "List[Tensor]"),
        (Text, "Optional[List[Tensor]]"),
        (Named, "Tensor"),
        (Optional[NamedRow], "Optional[List[Tensor]]"),
        (Optional[NewType("Nothing", type(None))], "None"),
        (NewType("A", NewType("B", List[int])), "List[int]"),
        (tuple[Row, Row], "Tuple[List[Tensor], List[Tensor]]"),
    ],
    ids=str,
)
def test_an_alias_means_what_it_stands_for(annotation, meaning):
    assert str(read_type("x", annotation)) == meaning


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Keyed[int], r"^x: Keyed cannot cross.*write a type for each of its type variables, Keyed\[First, Second\]$"),
        (Maybe, r"^x: Maybe cannot cross.*write a type for each of its type variables, Maybe\[First\]$"),
        (Maybe[bytes], r"^x: bytes cannot cross.*uint8"),
        (Several[int, str], r"^x: Several cannot cross.*write what it stands for here$"),
        (Ring, r"^x: .*Ring cannot cross.*types that contain themselves"),
        (
            Absent,
            r"^x: .*Absent: cannot evaluate it: name 'Nowhere' is not defined; define or import it at the top level",
        ),
    ],
    ids=str,
)
def test_an_alias_is_refused_with_a_remedy(annotation, message):
    with pytest.raises(UnsupportedTypeError, match=message):
        read_type("x", annotation)


STATEMENTS = """
type Row = list["Tensor"]
type Text = "Row"
type Maybe[T] = T | None
type Each[T] = dict[str, Maybe[T]]
type Quoted[T] = list["T"]
type Looping = list[Looping]
type Growing[T] = list[Growing[list[T]]]
type Absent = list[Nowhere]
type Failing = list[1 / 0]
type Several[*Ts] = tuple[*Ts]
"""
DEFAULTS = """
type OfTensors[T = Tensor] = list[T]
type Counts[K, V = int] = dict[K, V]
type Pair[T, U = list[T]] = tuple[T, U]
type Broken[T = Nowhere] = list[T]
"""


def in_statements(statements, written):
    """Returns an annotation of type aliases, as `type` statements of a module define them."""
    names = dict(globals())
    exec(statements, names)
    return eval(written, names)


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize(
        ("written", "meaning"),
        [
            ("Row", "List[Tensor]"),
            ("Each[Each[int]]", "Dict[str, Optional[Dict[str, Optional[int]]]]"),
            ("Quoted[int]", "List[int]"),
            ("Text", "List[Tensor]"),
        ],
    )
    def test_a_type_statement_means_what_it_stands_for(written, meaning):
        assert str(read_type("x", in_statements(STATEMENTS, written))) == meaning

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("Looping", "^x: Looping cannot cross.*types that contain themselves"),
            ("Growing[int]", "^x: Growing cannot cross.*types that contain themselves"),
            ("list[Absent]", "^x: Absent: cannot evaluate it: name 'Nowhere' is not defined; .* `if TYPE_CHECKING`"),
            ("Failing", "^x: Failing: cannot evaluate it: division by zero$"),
            ("Several[int, str]", "^x: Several cannot cross.*write what it stands for here$"),
        ],
    )
    def test_a_type_statement_is_refused_with_a_remedy(written, message):
        with pytest.raises(UnsupportedTypeError, match=message):
            read_type("x", in_statements(STATEMENTS, written))


if sys.version_info >= (3, 13):

    @pytest.mark.parametrize(
        ("written", "meaning"),
        [
            ("OfTensors", "List[Tensor]"),
            ("OfTensors[int]", "List[int]"),
            ("Counts[str]", "Dict[str, int]"),
            ("Counts[str, OfTensors]", "Dict[str, List[Tensor]]"),
            ("Pair[int]", "Tuple[int, List[int]]"),
        ],
    )
    def test_a_type_statement_has_defaults(written, meaning):
        assert str(read_type("x", in_statements(DEFAULTS, written))) == meaning

    def test_a_default_that_cannot_be_evaluated_is_refused():
        with pytest.raises(UnsupportedTypeError, match="^x: Broken: cannot evaluate it: name 'Nowhere'"):
            read_type("x", in_statements(DEFAULTS, "Broken"))


def test_a_module_that_nobody_imported_has_no_names(monkeypatch):
    monkeypatch.delitem(sys.modules, __name__)
    assert str(read_type("x", Keyed[torch.Tensor, int])) == "Dict[int, Optional[Union[List[int], Tensor]]]"
    with pytest.raises(UnsupportedTypeError, match="^x: Row: cannot evaluate it: name 'Tensor' is not defined"):
        read_type("x", Row)
