"""An annotation -> a type of the model, or the reason why there is none, and what to write instead.

Abstract containers, aliases and the like mean the nearest type; tools/type_tables.py makes tables of all that.
"""

from __future__ import annotations

import collections.abc
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Union

import torch
from torch.distributed.rpc import RRef

from ... import _torch
from ...errors import NotYetSupportedError, UnsupportedTypeError
from .aliases import ALIASES, Alias, stands_for, variables_of
from .paths import find_class, path_as_named
from .refusals import (
    BARE,
    NO_GENERIC_CLASSES,
    CannotCross,
    CannotCrossYet,
    is_class,
    is_one_of,
    never,
    refusal,
    spell,
    why,
)
from .shown import repr_of
from .types import (
    ANY,
    DICT_KEYS,
    NONE,
    TENSOR,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    RRefType,
    ScalarType,
    TupleType,
    Type,
    UnionType,
    depth,
    named_types,
    walk,
)

SCALAR_CLASSES: Final[dict[str, type]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "complex": complex,
    "str": str,
    "None": type(None),
    "device": torch.device,
    "dtype": torch.dtype,
}
_LISTS: Final = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.Reversible,
    collections.deque,
)
_DICTS: Final = (
    dict,
    collections.OrderedDict,
    collections.defaultdict,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)

_CONTAINS_ITSELF = "TorchScript has no types that contain themselves; refer to rows of a List by their index"
_DEEPEST: Final = 60
"""The most types inside each other. Python and TorchScript read 200 brackets, and a Union needs several."""
TOO_DEEP: Final = (
    f"a type that nests more than {_DEEPEST} deep cannot cross; pass a list of parts that refer to each other"
)


@dataclass(frozen=True)
class _Around:
    """Holds the NamedTuples and aliases in which an annotation stands, and their type variables."""

    named: tuple[Any, ...] = ()
    variables: Mapping[typing.TypeVar, Callable[[], Type]] = field(default_factory=dict)  # each with what reads it

    def inside(self, one: Any, variables: Mapping[typing.TypeVar, Callable[[], Type]]) -> _Around:
        if is_one_of(one, self.named):
            raise never(one, _CONTAINS_ITSELF)
        return _Around((*self.named, one), variables)


def read_type(where: str, annotation: Any) -> Type:
    """Returns the type that a resolved annotation means.

    Args:
        where: interface, method and argument; an error begins with it.

    Raises:
        UnsupportedTypeError: none of those that can cross; NotYetSupportedError if it could.
    """
    try:
        kind = _read(annotation, _Around())
        if depth(kind) > _DEEPEST:
            raise CannotCross(TOO_DEEP)
        return kind
    except RecursionError:
        raise UnsupportedTypeError(f"{where}: {TOO_DEEP}") from None
    except CannotCross as error:
        reason = NotYetSupportedError if isinstance(error, CannotCrossYet) else UnsupportedTypeError
        raise reason(f"{where}: {error}") from None


def _read(annotation: Any, around: _Around) -> Type:
    origin, items = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None:
        return NONE
    if annotation is Any:
        return ANY
    if is_class(annotation):
        return _read_class(annotation, around)
    if isinstance(annotation, ALIASES):
        return _read_alias(annotation, (), around)
    if isinstance(origin, ALIASES):
        return _read_alias(origin, items, around)
    if isinstance(annotation, typing.TypeVar) and annotation in around.variables:
        return around.variables[annotation]()
    if is_one_of(origin, (typing.Annotated, typing.Final, typing.Required, typing.NotRequired)):
        return _read(items[0], around)
    if origin is typing.Literal:
        return _read_literal(annotation, items)
    if is_one_of(origin, (Union, types.UnionType)):
        return _read_union(annotation, tuple(_read(item, around) for item in items))
    if is_one_of(origin, _LISTS) and len(items) == 1:
        return ListType(_read(items[0], around))
    if is_one_of(origin, _DICTS) and len(items) == 2:
        return _read_dict(items, around)
    if origin is RRef:
        item = _read(items[0], around)
        if named_types([item]):
            raise never(annotation, "torch mixes up the enums and NamedTuples that RRefs refer to; refer to its parts")
        return RRefType(item)
    if origin is tuple and annotation is not typing.Tuple:
        if Ellipsis in items:
            raise never(annotation, "a tuple's length is part of its type: name every item, or use List")
        return TupleType(tuple(_read(item, around) for item in items))
    raise _no_type(annotation, origin)


def _no_type(annotation: Any, kind: Any) -> CannotCross:
    """Makes the error of an annotation that means no type. `kind`: as for `refusal`."""
    containers = (*_LISTS, *_DICTS)
    if is_one_of(annotation, containers) or is_one_of(kind, containers):
        return never(annotation, BARE)
    return refusal(annotation, kind)


def _read_alias(alias: Alias, items: tuple[Any, ...], around: _Around) -> Type:
    """Reads an alias, with `items` for its type variables. They stand in `around`, and defaults in the alias."""
    variables: dict[typing.TypeVar, Callable[[], Type]] = {}
    inside = around.inside(alias, variables)
    for index, (variable, item) in enumerate(variables_of(alias, items).items()):
        variables[variable] = functools.partial(_read, item, around if index < len(items) else inside)
    return _read(stands_for(alias), inside)


def _read_class(cls: type, around: _Around) -> Type:
    for name, scalar in SCALAR_CLASSES.items():
        if cls is scalar:
            return ScalarType(name)
    if cls is torch.Size:
        return ListType(ScalarType("int"))
    if issubclass(cls, torch.Tensor) or (cls.__module__ == "torch" and cls.__name__.endswith("Tensor")):
        return TENSOR
    if issubclass(cls, enum.Enum):
        return read_enum(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return read_named_tuple(cls, around)
    raise _no_type(cls, cls)


def _read_literal(annotation: Any, values: tuple[Any, ...]) -> Type:
    kinds = {type(value) for value in values if value is not None}
    if values and len(kinds) <= 1 and kinds <= {int, bool, str}:
        scalars = tuple(ScalarType(kind.__name__) for kind in kinds)
        return _read_union(annotation, (*scalars, NONE) if None in values else scalars)
    raise never(annotation, "the values of a Literal are all int, all bool or all str; else write a Union, or an Enum")


def _read_union(annotation: Any, items: tuple[Type, ...]) -> Type:
    members = {str(member): member for item in items for member in _members(item)}
    optional = members.pop(str(NONE), None) is not None
    present = tuple(members[text] for text in sorted(members))
    if not present:
        return NONE
    try:
        inner = UnionType(present) if len(present) > 1 else present[0]
        return OptionalType(inner) if optional and inner != ANY else inner
    except ValueError as error:
        raise never(annotation, f"{error}; declare the wider of the two alone, or Any") from None


def _members(kind: Type) -> tuple[Type, ...]:
    match kind:
        case UnionType(items):
            return items
        case OptionalType(item):
            return (*_members(item), NONE)
    return (kind,)


def _read_dict(items: tuple[Any, ...], around: _Around) -> Type:
    key = _read(items[0], around)
    if str(key) not in DICT_KEYS:
        raise never(items[0], f"a Dict's key is one of {', '.join(DICT_KEYS)}")
    return DictType(key, _read(items[1], around))


# -- named types


def read_enum(cls: type[enum.Enum]) -> EnumType:
    """Reads an enum.

    Raises:
        CannotCross: an enum that TorchScript does not have.
    """
    if issubclass(cls, enum.Flag):
        raise never(cls, "a combination of flags is no member; declare an int")
    if any(getattr(member, "name", None) != member._name_ for member in cls):
        raise never(cls, "TorchScript knows its members by `name`, which it overrides; call that property otherwise")
    try:
        return EnumType(path_of(cls), tuple((member.name, member.value) for member in cls))
    except ValueError as error:
        raise never(cls, f"{error}; TorchScript has no others") from None


def read_named_tuple(cls: type, around: _Around | None = None) -> NamedTupleType:
    """Reads a NamedTuple.

    Raises:
        CannotCross: a field's type cannot cross.
    """
    inside = (around or _Around()).inside(cls, {})
    if typing.get_args(cls) or getattr(cls, "__parameters__", ()):
        raise never(cls, NO_GENERIC_CLASSES)
    try:
        hints = typing.get_type_hints(cls)  # each base's text by the names of its own module
    except Exception as error:  # an annotation is any expression, and evaluating it may raise anything
        raise CannotCross(f"{spell(cls)}: cannot evaluate its annotations: {why(error)}") from None
    fields = []
    for name in cls._fields:  # type: ignore[attr-defined]
        try:
            # As TorchScript has it: a field of collections.namedtuple is a Tensor.
            kind = _read(hints[name], inside) if name in hints else TENSOR
            if ANY in walk(kind):
                raise never(hints[name], "TorchScript has no NamedTuples with Any in them; name the type")
            _check_field_default(cls, name, kind)
            fields.append((name, kind))
        except CannotCross as error:
            raise type(error)(f"field {name} of {spell(cls)}: {error}") from None
    try:
        return NamedTupleType(path_of(cls), tuple(fields))
    except ValueError as error:
        raise never(cls, str(error)) from None


def _check_field_default(cls: type, name: str, kind: Type) -> None:
    """Raises CannotCross if TorchScript cannot read the default of a field of a NamedTuple. It reads them by value."""
    default = getattr(cls, "_field_defaults", {}).get(name)
    if isinstance(default, torch.Tensor) or not _torch.has_type(default):
        optional = kind if isinstance(kind, OptionalType) else f"Optional[{kind}]"
        raise CannotCross(
            f"TorchScript takes no tensor as a default, and no empty list or dict; not {repr_of(default)}: leave "
            f"it out, or declare {optional} = None"
        )


def path_of(cls: type) -> str:
    """Returns the dotted path from which every worker can import `cls`.

    Raises:
        CannotCross: it cannot be imported.
    """
    path = path_as_named(cls)
    if find_class(path) is not cls:
        raise never(cls, f"no worker could import it as {path}; define it at the top level of a module")
    return path
