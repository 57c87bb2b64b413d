"""The closed family of types that an interface may speak of: frozen, printable. Nothing here knows torch.

A type prints as it stands in an interface's canonical text (model.py), which parse.py reads. How TorchScript spells it
in generated source is the affair of lower/source_names.py, and as what it crosses, that of lower/plan.py.
"""

from __future__ import annotations

import functools
import keyword
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Union

from .literals import literal


@dataclass(frozen=True)
class TensorType:
    def __str__(self) -> str:
        return "Tensor"


@dataclass(frozen=True)
class ScalarType:
    """A value that TorchScript carries as it is: one of `SCALARS`."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in SCALARS:
            raise ValueError(f"{self.name!r} is not one of {', '.join(SCALARS)}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class AnyType:
    """A value whose type only the value knows."""

    def __str__(self) -> str:
        return "Any"


@dataclass(frozen=True)
class OptionalType:
    item: Type

    def __post_init__(self) -> None:
        # One spelling for one type: TorchScript flattens the first and has no use for the others.
        if isinstance(self.item, (OptionalType, AnyType)) or self.item == NONE:
            raise ValueError(f"Optional[{self.item}] is {self.item}")

    def __str__(self) -> str:
        return f"Optional[{self.item}]"


@dataclass(frozen=True)
class UnionType:
    """One of several types, none of them None: that makes an `OptionalType` of a union."""

    items: tuple[Type, ...]  # sorted by their text

    def __post_init__(self) -> None:
        texts = [str(item) for item in self.items]
        if len(texts) < 2 or texts != sorted(set(texts)):
            raise ValueError(f"the members of a Union are sorted, and no two are equal: {texts}")
        for item in self.items:
            if isinstance(item, (OptionalType, UnionType)) or item == NONE:
                raise ValueError(f"{item} inside a Union belongs around it")
            for other in self.items:
                if other is not item and includes(item, other):
                    raise ValueError(f"TorchScript cannot tell {other} from {item} in a Union")

    @functools.cached_property
    def narrowest_first(self) -> tuple[Type, ...]:
        """Returns the members in the order in which a value is tried: where it fits two, the wider one comes later."""
        return tuple(sorted(self.items, key=_breadth))

    def __str__(self) -> str:
        return f"Union[{', '.join(map(str, self.items))}]"


@dataclass(frozen=True)
class ListType:
    item: Type

    def __str__(self) -> str:
        return f"List[{self.item}]"


@dataclass(frozen=True)
class DictType:
    key: Type
    value: Type

    def __post_init__(self) -> None:
        if str(self.key) not in DICT_KEYS:
            raise ValueError(f"a Dict's key is one of {', '.join(DICT_KEYS)}, not {self.key}")

    def __str__(self) -> str:
        return f"Dict[{self.key}, {self.value}]"


@dataclass(frozen=True)
class TupleType:
    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"Tuple[{', '.join(map(str, self.items)) or '()'}]"


@dataclass(frozen=True)
class RRefType:
    """A reference to a value on some worker; the value stays there."""

    item: Type

    def __str__(self) -> str:
        return f"RRef[{self.item}]"


@dataclass(frozen=True)
class EnumType:
    name: str  # the dotted path from which the class can be imported
    members: tuple[tuple[str, int | float | str], ...]  # in the order of their definition; all values of one type

    def __post_init__(self) -> None:
        _check_path(self.name)
        for member, _ in self.members:
            check_identifier(member)
        kinds = {type(value) for _, value in self.members}
        if len(kinds) != 1 or not kinds <= {int, float, str}:
            raise ValueError(f"the values of {self.name} are not all int, all float or all str")
        for member, value in self.members:
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{self.name}.{member} is no int of 64 bits")

    def __str__(self) -> str:
        return self.name

    @property
    def definition(self) -> str:
        return f"enum {self.name}: {', '.join(f'{name} = {literal(value)}' for name, value in self.members)}"


@dataclass(frozen=True)
class NamedTupleType:
    name: str  # the dotted path from which the class can be imported
    fields: tuple[tuple[str, Type], ...]

    def __post_init__(self) -> None:
        _check_path(self.name)
        for field, _ in self.fields:
            check_identifier(field)

    def __str__(self) -> str:
        return self.name

    @property
    def items(self) -> tuple[Type, ...]:
        return tuple(type for _, type in self.fields)

    @property
    def definition(self) -> str:
        return f"tuple {self.name}({', '.join(f'{name}: {type}' for name, type in self.fields)})"


NamedType = Union[EnumType, NamedTupleType]
Type = Union[
    TensorType, ScalarType, AnyType, OptionalType, UnionType, ListType, DictType, TupleType, RRefType, NamedType
]

SCALARS: Final = ("int", "float", "bool", "complex", "str", "None", "device", "dtype")
DICT_KEYS: Final = ("str", "int", "float", "bool", "complex", "dtype", "Tensor")
"""Of Dicts with other keys, TorchScript reads no items."""
TENSOR: Final = TensorType()
NONE: Final = ScalarType("None")
_NUMBERS: Final = ("", "bool", "int", "float", "complex")  # each includes those before it
INT: Final = ScalarType("int")
DTYPE: Final = ScalarType("dtype")
ANY: Final = AnyType()


def items_of(kind: Type) -> tuple[Type, ...]:
    """Returns the types that `kind` is made of. The value that an RRef refers to is no part of it."""
    match kind:
        case OptionalType(item) | ListType(item):
            return (item,)
        case DictType(key, value):
            return (key, value)
        case TupleType(items) | UnionType(items):
            return items
        case NamedTupleType():
            return kind.items
    return ()


def walk(kind: Type) -> Iterator[Type]:
    """Yields `kind` and all types that it is made of."""
    yield kind
    for item in items_of(kind):
        yield from walk(item)


def depth(kind: Type) -> int:
    """Says how many types are inside each other in `kind`, itself included."""
    inner = (kind.item,) if isinstance(kind, RRefType) else items_of(kind)
    return 1 + max(map(depth, inner), default=0)


def _breadth(kind: Type) -> tuple[int, ...]:
    """Says how much values of a type may vary: as Any, in their widest number, as Unions, as Optionals."""
    parts = list(walk(kind))
    width = max(_NUMBERS.index(str(part)) if str(part) in _NUMBERS else 0 for part in parts)
    unions, optionals = (sum(isinstance(part, cls) for part in parts) for cls in (UnionType, OptionalType))
    return parts.count(ANY), width, unions, optionals


def holds_tensors(types: Iterable[Type]) -> bool:
    """Says whether a value of one of `types` can hold a tensor."""
    return any(isinstance(part, (TensorType, AnyType)) for kind in types for part in walk(kind))


def includes(wide: Type, narrow: Type) -> bool:
    """Says whether TorchScript takes every value of `narrow` for one of `wide`, and so cannot tell them apart."""
    if wide == narrow or isinstance(wide, AnyType) or {str(wide), str(narrow)} == {"int", "dtype"}:
        return True
    match wide, narrow:
        case OptionalType(item), OptionalType(other):
            return includes(item, other)
        case OptionalType(item), _:
            return narrow == NONE or includes(item, narrow)
        case UnionType(items), UnionType(others):
            return all(any(includes(item, other) for item in items) for other in others)
        case UnionType(items), _:
            return any(includes(item, narrow) for item in items)
        case NamedTupleType(fields=fields), NamedTupleType(fields=others):
            return [name for name, _ in fields] == [name for name, _ in others] and _include_all(wide, narrow)
        case TupleType(), TupleType() | NamedTupleType():
            return _include_all(wide, narrow)
    return False


def _include_all(wide: TupleType | NamedTupleType, narrow: TupleType | NamedTupleType) -> bool:
    return len(wide.items) == len(narrow.items) and all(map(includes, wide.items, narrow.items))


def named_types(types: Iterable[Type]) -> dict[NamedType, None]:
    """Collects the enums and NamedTuples in `types`, in RRefs too, each after those that it refers to."""
    found: dict[NamedType, None] = {}
    for kind in types:
        found |= named_types([kind.item] if isinstance(kind, RRefType) else items_of(kind))
        if isinstance(kind, (EnumType, NamedTupleType)):
            found[kind] = None
    return found


def check_identifier(name: str) -> None:
    # Names go into generated source and, in a saved model, through TorchScript's lexer, which knows ASCII only.
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not an ASCII identifier")


def _check_path(path: str) -> None:
    parts = path.split(".")
    if len(parts) < 2:
        raise ValueError(f"{path!r} is not the dotted path of a class")
    for part in parts:
        check_identifier(part)
