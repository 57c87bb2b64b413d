"""Values that stand in generated source: default values, and the values of an enum's members.

`literal` is the one place that writes them, exactly: Python and TorchScript's own lexer read the same value back.
Nothing is written by plain formatting, so no value can end its literal early. A value that needs torch or a user's
class to exist is kept as one of the classes here, which only name it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Union

CONSTANTS: Final = frozenset({"Ellipsis", "NoneType"})
"""Names that Python leaves free, and that TorchScript's lexer takes for constants wherever they stand."""


@dataclass(frozen=True)
class DtypeValue:
    name: str  # of the attribute of torch, such as "float32"


@dataclass(frozen=True)
class DeviceValue:
    name: str  # such as "cuda:0"


@dataclass(frozen=True)
class MemberValue:
    """A member of an enum."""

    type: str  # what the source calls the enum
    name: str


@dataclass(frozen=True)
class NamedTupleValue:
    type: str  # what the source calls the class
    items: tuple[Value, ...]


Value = Union[
    None, bool, int, float, complex, str, tuple["Value", ...], DtypeValue, DeviceValue, MemberValue, NamedTupleValue
]


def literal(value: Value) -> str:
    """Writes `value` as source."""
    match value:
        case None | bool() | int():
            return repr(value)
        case float():
            if math.isfinite(value):
                return repr(value)
            return f'float("{value}")'  # inf, -inf, nan
        case complex():
            return f"complex({literal(value.real)}, {literal(value.imag)})"  # 1-0j is read as a difference
        case str():
            return string(value)
        case tuple():
            return tuple_of(*map(literal, value))
        case DtypeValue(name):
            return f"torch.{name}"
        case DeviceValue(name):
            return f"torch.device({string(name)})"
        case MemberValue(type, name):
            return f"{type}.{name}"
        case NamedTupleValue(type, items):
            return f"{type}({', '.join(map(literal, items))})"
    raise TypeError(f"no literal for {value!r}")


def tuple_of(*items: str) -> str:
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def string(value: str) -> str:
    # Octal is the escape that Python's lexer and TorchScript's both know; a character beyond ASCII stands for itself.
    def escape(character: str) -> str:
        if character in '"\\':
            return f"\\{character}"
        return f"\\{ord(character):03o}" if ord(character) < 32 or ord(character) == 127 else character

    return '"' + "".join(map(escape, value)) + '"'
