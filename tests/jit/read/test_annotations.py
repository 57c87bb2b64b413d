"""The tables of types, line by line, and what is refused with which words."""

import enum
import typing
from typing import Generic, List, NamedTuple, Optional, TypeVar

import numpy
import pytest
import torch
from torch import Tensor

from torchremote.errors import InterfaceError, NotYetSupportedError, UnsupportedTypeError
from torchremote.jit import compile_interface
from torchremote.jit.read.annotations import read_type
from torchremote.jit.read.interface import read_interface
from torchremote.tools import type_tables
from torchremote.tools.type_tables import meaning_of

from ... import zoo

MEANINGS = {
    "Tensor": "Tensor",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "complex": "complex",
    "str": "str",
    "None": "None",
    "torch.device": "device",
    "torch.dtype": "dtype",
    "Color": "torchremote.tools.type_tables.Color",
    "Pair": "torchremote.tools.type_tables.Pair",
    "Optional[Tensor]": "Optional[Tensor]",
    "Union[int, Pair]": "Union[int, torchremote.tools.type_tables.Pair]",
    "List[Tensor]": "List[Tensor]",
    "Dict[str, Tensor]": "Dict[str, Tensor]",
    "Tuple[Tensor, int]": "Tuple[Tensor, int]",
    "Tuple[()]": "Tuple[()]",
    "Any": "Any",
    "RRef[Tensor]": "RRef[Tensor]",
    "Sequence[Tensor]": "List[Tensor]",
    "MutableSequence[int]": "List[int]",
    "Iterable[int]": "List[int]",
    "Collection[int]": "List[int]",
    "Mapping[str, Tensor]": "Dict[str, Tensor]",
    "MutableMapping[str, int]": "Dict[str, int]",
    "OrderedDict[str, int]": "Dict[str, int]",
    "torch.Size": "List[int]",
    "torch.nn.Parameter": "Tensor",
    "torch.LongTensor": "Tensor",
    "Annotated[Tensor, 'of logits']": "Tensor",
    "Final[int]": "int",
    "Literal['mean', 'sum']": "str",
    "Literal[1, 2]": "int",
    "UserId": "int",
    "Vector": "List[float]",
    "'Tensor'": "Tensor",
    "List['Tensor']": "List[Tensor]",
    "Optional[Union[int, None, Tensor]]": "Optional[Union[Tensor, int]]",
    # beside the tables
    "int | str | None": "Optional[Union[int, str]]",
    "Union[str, int]": "Union[int, str]",
    "Optional[Any]": "Any",
    "Union[None, None]": "None",
    "Union[Optional[int], Tensor]": "Optional[Union[Tensor, int]]",
    "Sequence[Mapping[int, Annotated[Sequence[UserId], 1]]]": "List[Dict[int, List[int]]]",
    "dict[torch.dtype, complex]": "Dict[dtype, complex]",
    "dict[Tensor, int]": "Dict[Tensor, int]",
    "DefaultDict[str, int]": "Dict[str, int]",
    "Deque[int]": "List[int]",
    "RRef[List[int]]": "RRef[List[int]]",
    "tuple[()]": "Tuple[()]",
    "List[Literal[True, False]]": "List[bool]",
    "Literal['a', None]": "Optional[str]",
    "Literal[None]": "None",
}

REMEDIES = {
    "Union[int, Any]": "TorchScript cannot tell int from Any in a Union",
    "Union[int, torch.dtype]": "cannot tell",
    "Union[Tuple[int], Tuple[Optional[int]]]": "cannot tell",
    "RRef[Color]": "refer to its parts",
    "RRef[List[Pair]]": "refer to its parts",
    "RRef": "as in RRef[Tensor]",
    "Tuple": "write what is inside",
    "tuple[Tensor, ...]": "use List",
    "list": "write what is inside",
    "Dict": "write what is inside",
    "Sequence": "write what is inside",
    "Optional": "write what is inside",
    "Literal[1, 'a']": "write a Union, or an Enum",
    "Dict[torch.device, int]": "a Dict's key is one of str, int",
    "Dict[Color, int]": "a Dict's key is one of str, int",
    "Dict[Optional[int], int]": "a Dict's key is one of str, int",
    "Set[int]": "pass a List",
    "FrozenSet[int]": "pass a List",
    "bytes": "a uint8 Tensor",
    "Callable[[Tensor], Tensor]": "code does not cross",
    "Type[int]": "code does not cross",
    "Iterator[Tensor]": "pass a List",
    "Awaitable[int]": "stubs have <m>_async",
    "torch.futures.Future[Tensor]": "stubs have <m>_async",
    "torch.Generator": "pass a seed",
    "torch.nn.Module": "stays on its owner",
    "object": "write Any",
    "T": "no generic methods",
    "List[T]": "no generic methods",
    "torch.layout": "declare it as an int",
    "torch.memory_format": "declare it as an int",
    "torch.SymInt": "declare it as an int",
}
NOT_YET = {"torch.layout", "torch.memory_format", "torch.SymInt"}


@pytest.mark.parametrize("written", MEANINGS)
def test_an_annotation_means(written):
    assert str(meaning_of(written)) == MEANINGS[written]


@pytest.mark.parametrize("written", REMEDIES)
def test_an_annotation_is_refused_with_a_remedy(written):
    with pytest.raises(UnsupportedTypeError) as raised:
        meaning_of(written)
    message = str(raised.value)
    assert message.startswith("it: ")
    assert "possible are Tensor, int" in message
    assert REMEDIES[written] in message
    assert isinstance(raised.value, NotYetSupportedError) == (written in NOT_YET)
    assert ("cannot cross yet" in message) == (written in NOT_YET)


def test_every_line_of_the_tables_is_above():
    assert set(type_tables.TYPES) <= set(MEANINGS)
    assert set(type_tables.SPELLINGS) <= set(MEANINGS) | set(REMEDIES)
    assert set(type_tables.REFUSED) <= set(REMEDIES)


# -- named types

SelfT = TypeVar("SelfT")


class Row(NamedTuple):
    parent: Optional["Row"]


class Holding(NamedTuple):
    things: List[bytes]


class Loose(NamedTuple):
    x: typing.Dict[str, typing.Any]


class Large(enum.Enum):
    A = 2**63


class Missing(NamedTuple):
    x: "Nowhere"  # noqa: F821


class Wide(NamedTuple, Generic[SelfT]):
    x: SelfT


class Flags(enum.Flag):
    A = 1


class Mixed(enum.Enum):
    A = 1
    B = "b"


class Renamed(enum.Enum):
    A = 1

    @property
    def name(self):
        return "a"


class EmptyList(NamedTuple):
    a: int = 1
    x: list[int] = []


class EmptyInside(NamedTuple):
    x: Optional[tuple[int, dict[str, int]]] = (1, {})


class TensorAsDefault(NamedTuple):
    x: Tensor = torch.zeros(1)


class ReadableDefaults(NamedTuple):
    a: list[int] = [1]
    b: zoo.Color = zoo.Color.RED
    c: torch.dtype = torch.float32
    d: Optional[Tensor] = None
    e: zoo.Nothing = zoo.Nothing()


class Booleans(enum.Enum):
    A = True


class Empty(enum.Enum):
    pass


class Unicode(enum.Enum):
    É = 1


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Row, r"x: field parent of Row: Row cannot cross.*types that contain themselves"),
        (Holding, r"x: field things of Holding: bytes cannot cross.*uint8"),
        (Loose, r"x: field x of Loose: .*no NamedTuples with Any"),
        (Large, r"x: Large cannot cross.*Large.A is no int of 64 bits"),
        (Missing, r"x: Missing: cannot evaluate its annotations.*Nowhere"),
        (Wide, r"x: Wide cannot cross.*no generic classes"),
        (Wide[int], r"x: .*Wide\[int\] cannot cross.*no generic classes"),
        (Flags, r"x: Flags cannot cross.*declare an int"),
        (Mixed, r"x: Mixed cannot cross.*not all int"),
        (Renamed, r"x: Renamed cannot cross.*call that property otherwise"),
        (EmptyList, r"x: field x of EmptyList: .* not \[\]: leave it out, or declare Optional\[List\[int\]\] = None"),
        (EmptyInside, r"x: field x of EmptyInside: .* no empty list or dict.* or declare Optional\[Tuple\["),
        (TensorAsDefault, r"x: field x of TensorAsDefault: TorchScript takes no tensor as a default"),
        (Booleans, r"x: Booleans cannot cross.*not all int"),
        (Empty, r"x: Empty cannot cross.*not all int"),
        (Unicode, r"x: Unicode cannot cross.*'É' is not an ASCII identifier"),
    ],
)
def test_a_class_that_torchscript_cannot_have_is_refused(cls, message):
    with pytest.raises(UnsupportedTypeError, match=message):
        read_type("x", cls)


def test_a_class_that_no_worker_can_import_is_refused():
    class Local(enum.Enum):
        A = 1

    class Pair(NamedTuple):
        x: int

    for cls in (Local, Pair):
        with pytest.raises(UnsupportedTypeError, match="no worker could import it.*top level of a module"):
            read_type("x", cls)


def test_named_types_are_read_with_all_that_is_in_them():
    def painted(self, x: zoo.Painted, y: zoo.Untyped, z: zoo.Level) -> None: ...

    text = read_interface(type("Reading", (), {"painted": painted})).text
    assert text.splitlines()[-1] == "painted(x: tests.zoo.Painted, y: tests.zoo.Untyped, z: tests.zoo.Level) -> None"
    assert "enum tests.zoo.Color: RED = 1, GREEN = 2" in text  # an alias is no member
    assert 'enum tests.zoo.Mode: TRAIN = "tr\\"ain\\012", EVAL = "eval"' in text
    assert "enum tests.zoo.Level: LOW = -5, HIGH = 5" in text
    assert "tuple tests.zoo.Untyped(left: Tensor, right: Tensor)" in text
    assert text.index("tuple tests.zoo.Pair(") < text.index("tuple tests.zoo.Painted(")


@pytest.mark.parametrize(
    ("annotation", "default", "shown"),
    [
        (complex, 1, "(1+0j)"),
        (Optional[zoo.Color], zoo.Color.RED, "MemberValue(type='tests.zoo.Color', name='RED')"),
        (zoo.Color, zoo.Color.CRIMSON, "MemberValue(type='tests.zoo.Color', name='RED')"),
        (zoo.Level, zoo.Level.LOW, "MemberValue(type='tests.zoo.Level', name='LOW')"),
        (torch.dtype, torch.half, "DtypeValue(name='float16')"),
        (torch.device, torch.device("cuda", 1), "DeviceValue(name='cuda:1')"),
        (typing.Union[int, float, str], 1.5, "1.5"),
        (typing.Union[float, str], 1, "1.0"),
        (typing.Union[float, int], 1, "1"),
        (typing.Union[complex, float], 1, "1.0"),
        (typing.Union[complex, float, zoo.Level], 1, "1.0"),
        (typing.Union[tuple[float, int], tuple[int, int]], (1, 2), "(1, 2)"),
        (typing.Union[tuple[typing.Union[float, str], int], tuple[int, int]], (1, 2), "(1, 2)"),
        (typing.Union[tuple[Optional[float]], tuple[int]], (1,), "(1,)"),
        (typing.Any, 1j, "1j"),
        (tuple[int, zoo.Nothing], (1, zoo.Nothing()), "(1, NamedTupleValue(type='tests.zoo.Nothing', items=()))"),
    ],
)
def test_a_default_is_a_value_of_its_type(annotation, default, shown):
    def forward(self, x=default) -> None: ...

    forward.__annotations__["x"] = annotation
    ((argument,),) = (method.arguments for method in read_interface(type("Reading", (), {"forward": forward})).methods)
    assert repr(argument.default) == shown


def test_defaults_of_fields_that_torchscript_can_read():
    def forward(self, x: ReadableDefaults) -> ReadableDefaults: ...

    assert compile_interface(type("Defaults", (), {"forward": forward}))


class Opposite(NamedTuple("_Opposite", [("a", int)])):
    def __new__(cls, a):
        return super().__new__(cls, -a)


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (zoo.Color, 1),
        (zoo.Color, zoo.Mode.EVAL),
        (int, zoo.Color.RED),
        (torch.dtype, 6),
        (torch.device, "cpu"),
        (zoo.Pair, (torch.ones(1), 1)),
        (zoo.Pair, zoo.Pair(torch.ones(1), 1)),
        (typing.Union[int, Tensor], "a"),
        (typing.Any, [1]),
        (complex, "1j"),
        (float, 2**53 + 1),
        (complex, 2**53 + 1),
        (float, 10**400),
        (int, 10**5000),
        (typing.Any, 10**5000),
        (typing.Union[zoo.Level, float], zoo.Level.LOW),
        (Optional[typing.Union[zoo.Nothing, int]], zoo.Nothing()),
        (Opposite, Opposite(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_default_that_does_not_fit_is_refused(annotation, default):
    def forward(self, x=default) -> None: ...

    forward.__annotations__["x"] = annotation
    with pytest.raises(InterfaceError, match=r"Reading.forward.x: "):
        read_interface(type("Reading", (), {"forward": forward}))


def test_a_default_of_a_class_that_no_worker_can_import_is_refused():
    class Local(enum.Enum):
        RED = 1

    class LocalPair(NamedTuple):
        a: Optional[int]
        b: int

    for annotation, default in ((zoo.Color, Local.RED), (zoo.Pair, LocalPair(None, 1))):

        def forward(self, x=default) -> None: ...

        forward.__annotations__["x"] = annotation
        with pytest.raises(InterfaceError, match=r"Reading.forward.x: the default .* is no tests.zoo"):
            read_interface(type("Reading", (), {"forward": forward}))


@pytest.mark.parametrize("depth", [61, 200, 400])
def test_a_type_that_nests_too_deeply_is_refused(depth):
    kind = int
    for _ in range(depth):
        kind = typing.List[kind]

    def forward(self, x) -> None: ...

    forward.__annotations__["x"] = kind
    with pytest.raises(UnsupportedTypeError, match="^Reading.forward.x: a type that nests more than 60 deep"):
        read_interface(type("Reading", (), {"forward": forward}))


def test_the_deepest_types_compile():
    lists = unions = int
    for _ in range(29):
        lists, unions = List[List[lists]], List[typing.Union[unions, str]]

    def forward(self, x, y) -> None: ...

    forward.__annotations__.update(x=lists, y=unions)
    compile_interface(type("Deepest", (), {"forward": forward}))


class _Unhashable(type):
    def __eq__(cls, other):
        return True

    __hash__ = None


@pytest.mark.parametrize(
    "annotation", [numpy.zeros(3), _Unhashable("Odd", (), {}), torch.zeros(3), [numpy.zeros(3)], ([],)]
)
def test_an_annotation_that_cannot_be_compared_is_refused(annotation):
    with pytest.raises(UnsupportedTypeError, match="^here: .* cannot cross; possible are"):
        read_type("here", annotation)
