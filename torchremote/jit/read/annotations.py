"""An annotation -> a type of the model, or the reason why there is none, and what to write instead.

Abstract containers, aliases and the like mean the nearest type; tools/type_tables.py makes tables of all that.
"""

from __future__ import annotations

import builtins
import collections.abc
import enum
import types
import typing
from collections.abc import Iterable
from typing import Any, Final, Union

import torch
import typing_extensions
from torch.distributed.rpc import RRef

from ... import _torch
from ...errors import NotYetSupportedError, UnsupportedTypeError
from .paths import find_class, path_as_named
from .shown import shown
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

POSSIBLE: Final = (
    "Tensor, int, float, bool, complex, str, None, torch.device, torch.dtype, Any, Enum and NamedTuple classes, RRef, "
    "and Optional, Union, List, Dict and Tuple of these"
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
_NO_GENERIC_CLASSES = "TorchScript has no generic classes; name the types of its fields"
_BARE = "write what is inside, as in List[Tensor] or Dict[str, Tensor]"
_NEVER: Final[dict[object, str]] = {
    set: "TorchScript has no sets; pass a List",
    frozenset: "TorchScript has no sets; pass a List",
    collections.abc.Set: "TorchScript has no sets; pass a List",
    bytes: "TorchScript has no bytes; pass a str, or a uint8 Tensor",
    bytearray: "TorchScript has no bytes; pass a str, or a uint8 Tensor",
    collections.abc.Callable: "code does not cross; give the method a str or an Enum that says which",
    collections.abc.Iterator: "an iterator cannot cross; pass a List",
    collections.abc.Generator: "an iterator cannot cross; pass a List",
    collections.abc.Awaitable: "an awaitable cannot cross; declare the plain type, stubs have <m>_async",
    collections.abc.Coroutine: "an awaitable cannot cross; declare the plain type, stubs have <m>_async",
    torch.futures.Future: "a Future cannot cross; declare the plain type, stubs have <m>_async",
    torch.Generator: "torch cannot send a Generator; pass a seed as an int",
    torch.Stream: "a stream belongs to its process",
    object: "write Any",
    type: "code does not cross; give the method a str or an Enum that says which",
    tuple: _BARE,
    Union: _BARE,
    typing.Optional: _BARE,
    RRef: "write what it refers to, as in RRef[Tensor]",
}
_NOT_YET: Final[dict[object, str]] = {
    torch.layout: "declare it as an int, which is what TorchScript has for it",
    torch.memory_format: "declare it as an int, which is what TorchScript has for it",
    torch.qscheme: "declare it as an int, which is what TorchScript has for it",
    torch.SymInt: "declare it as an int",
}


_DEEPEST: Final = 60
"""The most types inside each other. Python and TorchScript read 200 brackets, and a Union needs several."""
TOO_DEEP: Final = (
    f"a type that nests more than {_DEEPEST} deep cannot cross; pass a list of parts that refer to each other"
)


class CannotCross(Exception):
    """Says that a type cannot cross, and what to do. It is caught where the argument's name is known."""


class CannotCrossYet(CannotCross):
    """Says that torchremote could carry a type, but does not."""


def read_type(where: str, annotation: Any) -> Type:
    """Returns the type that a resolved annotation means.

    Args:
        where: interface, method and argument; an error begins with it.

    Raises:
        UnsupportedTypeError: none of those that can cross; NotYetSupportedError if it could.
    """
    try:
        kind = _read(annotation, ())
        if depth(kind) > _DEEPEST:
            raise CannotCross(TOO_DEEP)
        return kind
    except RecursionError:
        raise UnsupportedTypeError(f"{where}: {TOO_DEEP}") from None
    except CannotCross as error:
        reason = NotYetSupportedError if isinstance(error, CannotCrossYet) else UnsupportedTypeError
        raise reason(f"{where}: {error}") from None


def _read(annotation: Any, within: tuple[Any, ...]) -> Type:
    origin, items = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None:
        return NONE
    if annotation is Any:
        return ANY
    if is_class(annotation):
        return _read_class(annotation, within)
    if isinstance(annotation, typing.NewType):
        return _read(annotation.__supertype__, within)
    if isinstance(annotation, typing_extensions.TypeAliasType):
        if is_one_of(annotation, within):
            raise _never(annotation, _CONTAINS_ITSELF)
        return _read(annotation.__value__, (*within, annotation))
    if isinstance(origin, typing_extensions.TypeAliasType):
        if is_one_of(origin, within):
            raise _never(annotation, _CONTAINS_ITSELF)
        return _read(_filled_in(origin, items), (*within, origin))
    if is_one_of(origin, (typing.Annotated, typing.Final, typing_extensions.Required, typing_extensions.NotRequired)):
        return _read(items[0], within)
    if is_one_of(origin, (typing.Literal, typing_extensions.Literal)):
        return _read_literal(annotation, items)
    if is_one_of(origin, (Union, types.UnionType)):
        return _read_union(annotation, tuple(_read(item, within) for item in items))
    if is_one_of(origin, _LISTS) and len(items) == 1:
        return ListType(_read(items[0], within))
    if is_one_of(origin, _DICTS) and len(items) == 2:
        return _read_dict(items, within)
    if origin is RRef:
        item = _read(items[0], within)
        if named_types([item]):
            raise _never(annotation, "torch mixes up the enums and NamedTuples that RRefs refer to; refer to its parts")
        return RRefType(item)
    if origin is tuple and annotation is not typing.Tuple:
        if Ellipsis in items:
            raise _never(annotation, "a tuple's length is part of its type: name every item, or use List")
        return TupleType(tuple(_read(item, within) for item in items))
    raise _refusal(annotation, origin)


def _filled_in(alias: typing_extensions.TypeAliasType, items: tuple[Any, ...]) -> Any:
    """Returns what a generic type alias stands for, with `items` for its type variables."""
    try:
        given = dict(zip(alias.__type_params__, items, strict=True))
        wanted = getattr(alias.__value__, "__parameters__", ())
        return alias.__value__[tuple(given[one] for one in wanted)] if wanted else alias.__value__
    except (ValueError, KeyError, TypeError):  # some other number of types, or a type variable of its own
        raise _never(alias, "write what it stands for here") from None


def is_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias)


def _read_class(cls: type, within: tuple[Any, ...]) -> Type:
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
        return read_named_tuple(cls, within)
    raise _refusal(cls, cls)


def _read_literal(annotation: Any, values: tuple[Any, ...]) -> Type:
    kinds = {type(value) for value in values if value is not None}
    if values and len(kinds) <= 1 and kinds <= {int, bool, str}:
        scalars = tuple(ScalarType(kind.__name__) for kind in kinds)
        return _read_union(annotation, (*scalars, NONE) if None in values else scalars)
    raise _never(annotation, "the values of a Literal are all int, all bool or all str; else write a Union, or an Enum")


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
        raise _never(annotation, f"{error}; declare the wider of the two alone, or Any") from None


def _members(kind: Type) -> tuple[Type, ...]:
    match kind:
        case UnionType(items):
            return items
        case OptionalType(item):
            return (*_members(item), NONE)
    return (kind,)


def _read_dict(items: tuple[Any, ...], within: tuple[Any, ...]) -> Type:
    key = _read(items[0], within)
    if str(key) not in DICT_KEYS:
        raise _never(items[0], f"a Dict's key is one of {', '.join(DICT_KEYS)}")
    return DictType(key, _read(items[1], within))


def _never(annotation: Any, remedy: str) -> CannotCross:
    return CannotCross(f"{spell(annotation)} cannot cross; possible are {POSSIBLE}; {remedy}")


def _refusal(annotation: Any, kind: Any) -> CannotCross:
    for table, error, verdict in (
        (_NOT_YET, CannotCrossYet, "cannot cross yet"),
        (_NEVER, CannotCross, "cannot cross"),
    ):
        for refused, remedy in table.items():
            if refused is annotation or refused is kind:
                return error(f"{spell(annotation)} {verdict}; possible are {POSSIBLE}; {remedy}")
    if is_one_of(annotation, (*_LISTS, *_DICTS)) or is_one_of(kind, (*_LISTS, *_DICTS)):
        return _never(annotation, _BARE)
    if is_class(kind) and kind is not annotation and hasattr(kind, "_fields"):
        return _never(annotation, _NO_GENERIC_CLASSES)
    if isinstance(annotation, (typing.TypeVar, typing.ParamSpec)):
        return _never(annotation, "TorchScript has no generic methods: name the type, one method or interface each")
    if isinstance(annotation, type) and any("__call__" in vars(base) for base in annotation.__mro__):
        return _never(annotation, "a module or callable stays on its owner; pass what it computes")
    return _never(annotation, "pass what it holds in one of these, for example in a NamedTuple")


def is_one_of(value: object, ones: Iterable[object]) -> bool:
    """Says whether `value` is one of `ones`. An annotation may be anything: an array, or what has no hash."""
    return any(value is one for one in ones)


def spell(annotation: Any) -> str:
    return str(annotation.__qualname__) if is_class(annotation) else shown(annotation)


def why(error: Exception) -> str:
    """Says why an annotation could not be evaluated, and what to do if a name is missing."""
    missing = "; define or import it at the top level of the module, and not under `if TYPE_CHECKING`"
    return f"{error}{missing if isinstance(error, NameError) else ''}"


# -- named types


def read_enum(cls: type[enum.Enum]) -> EnumType:
    """Reads an enum.

    Raises:
        CannotCross: an enum that TorchScript does not have.
    """
    if issubclass(cls, enum.Flag):
        raise _never(cls, "a combination of flags is no member; declare an int")
    if any(getattr(member, "name", None) != member._name_ for member in cls):
        raise _never(cls, "TorchScript knows its members by `name`, which it overrides; call that property otherwise")
    try:
        return EnumType(path_of(cls), tuple((member.name, member.value) for member in cls))
    except ValueError as error:
        raise _never(cls, f"{error}; TorchScript has no others") from None


def read_named_tuple(cls: type, within: tuple[Any, ...] = ()) -> NamedTupleType:
    """Reads a NamedTuple. `within`: the NamedTuples and aliases that are being read.

    Raises:
        CannotCross: a field's type cannot cross.
    """
    if is_one_of(cls, within):
        raise _never(cls, _CONTAINS_ITSELF)
    if typing.get_args(cls) or getattr(cls, "__parameters__", ()):
        raise _never(cls, _NO_GENERIC_CLASSES)
    try:
        hints = typing.get_type_hints(cls)  # each base's text by the names of its own module
    except Exception as error:  # an annotation is any expression, and evaluating it may raise anything
        raise CannotCross(f"{spell(cls)}: cannot evaluate its annotations: {why(error)}") from None
    fields = []
    for name in cls._fields:  # type: ignore[attr-defined]
        try:
            # As TorchScript has it: a field of collections.namedtuple is a Tensor.
            type = _read(hints[name], (*within, cls)) if name in hints else TENSOR
            if ANY in walk(type):
                raise _never(hints[name], "TorchScript has no NamedTuples with Any in them; name the type")
            _check_field_default(cls, name, type)
            fields.append((name, type))
        except CannotCross as error:
            raise builtins.type(error)(f"field {name} of {spell(cls)}: {error}") from None
    try:
        return NamedTupleType(path_of(cls), tuple(fields))
    except ValueError as error:
        raise _never(cls, str(error)) from None


def _check_field_default(cls: type, name: str, kind: Type) -> None:
    """Raises CannotCross if TorchScript cannot read the default of a field of a NamedTuple. It reads them by value."""
    default = getattr(cls, "_field_defaults", {}).get(name)
    if isinstance(default, torch.Tensor) or not _torch.has_type(default):
        optional = kind if isinstance(kind, OptionalType) else f"Optional[{kind}]"
        raise CannotCross(
            f"TorchScript takes no tensor as a default, and no empty list or dict; not {shown(default)}: leave it out, "
            f"or declare {optional} = None"
        )


def path_of(cls: type) -> str:
    """Returns the dotted path from which every worker can import `cls`.

    Raises:
        CannotCross: it cannot be imported.
    """
    path = path_as_named(cls)
    if find_class(path) is not cls:
        raise _never(cls, f"no worker could import it as {path}; define it at the top level of a module")
    return path
