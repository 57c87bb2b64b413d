"""Says which interfaces have stubs that TorchScript would save in a form that it cannot load."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..read.literals import CONSTANTS, NamedTupleValue, Value, string
from ..read.model import Interface, Required
from ..read.types import EnumType, NamedTupleType
from .names import REPLACED


def why_unsavable(interface: Interface) -> str | None:
    """Names a part that TorchScript would save in a form that it cannot load, and the remedy. None if all is well."""
    if interface.name in CONSTANTS:
        return f"torch cannot load an interface called {interface.name}; rename it"
    for named in interface.named_types:
        if isinstance(named, NamedTupleType) and not named.fields:
            return f"torch cannot load a NamedTuple without fields, as {named.name}; give it one"
        names: list[str] = [name for name, _ in (named.members if isinstance(named, EnumType) else named.fields)]
        for name in CONSTANTS.intersection(names):
            return f"torch cannot load the name {named.name}.{name}; rename it"
        for name, value in named.members if isinstance(named, EnumType) else ():
            if isinstance(value, str) and string(value) != f'"{value}"':
                return f"torch cannot load an enum with a value as {named.name}.{name}'s; use plain letters"
            if isinstance(value, float) and not math.isfinite(value):
                return f"torch cannot load an enum with a value as {named.name}.{name}'s; use a finite one"
            if isinstance(value, float) and _is_written_as_int(value):
                return f"torch cannot load an enum with a value as {named.name}.{name}'s; use another, or ints"
    for method in interface.methods:
        for argument in method.arguments:
            if argument.name in REPLACED:
                return f"torch gives {method.name}'s argument {argument.name!r} another name in an archive; rename it"
            wrong = None if isinstance(argument.default, Required) else _unsavable_default(argument.default)
            if wrong is not None:
                return (
                    f"torch cannot load {method.name}'s argument {argument.name!r} with {wrong} as its default; "
                    "declare it Optional with the default None, and have the module put the value there"
                )
        defaults = [argument.has_default for argument in method.arguments]  # an archive knows no keyword-only ones
        if defaults != sorted(defaults):
            shown = method.declaration
            return f"torch cannot load a required argument behind one with a default; give it one, too: {shown}"
    return None


def _unsavable_default(default: Value) -> str | None:
    """Names a part of a default that does not come back from an archive, or as another value. None if all is well."""
    values = list(_values_in(default))
    if any(isinstance(value, NamedTupleValue) for value in values) and not all(
        value.isascii() for value in values if isinstance(value, str)
    ):
        return "characters beyond ASCII beside a NamedTuple"
    for value in values:
        match value:
            case str() if "\r" in value:
                return "a carriage return"
            case float() if _is_written_as_int(value):
                return f"{value!r}, which torch writes as an int,"
            case complex() if any(part == 0 and math.copysign(1, part) < 0 for part in (value.real, value.imag)):
                return "a negative zero in a complex number"
    return None


def _values_in(value: Value) -> Iterator[Value]:
    """Yields a default and the values that it is made of."""
    yield value
    items = value.items if isinstance(value, NamedTupleValue) else value if isinstance(value, tuple) else ()
    for item in items:
        yield from _values_in(item)


def _is_written_as_int(value: float) -> bool:
    """Says whether torch writes a float without a point. It does so for these whole numbers."""
    return 1e10 <= abs(value) < 1e17 and value.is_integer()
