"""Canonical text -> the model. Python's parser reads it; nothing is evaluated. Whatever is read prints as it was."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Final

from .literals import DeviceValue, DtypeValue, MemberValue, NamedTupleValue, Value
from .model import REQUIRED, Argument, Interface, Method, Required
from .types import (
    ANY,
    NONE,
    TENSOR,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    NamedType,
    OptionalType,
    RRefType,
    ScalarType,
    TupleType,
    Type,
    UnionType,
)


def parse_interface(name: str, text: str) -> Interface:
    """Reads an interface from its canonical text, or from its declaration: see model.py, Note [Canonical text].

    Raises:
        ValueError: `text` is neither: printing what was read does not give it back.
    """
    named: dict[str, NamedType] = {}
    sizes: dict[str, int] = {}
    methods = []
    try:
        for line in text.split("\n"):
            size = written_out(line, sizes)
            if size > _LONGEST:
                raise ValueError(f"types that nest to more than {_LONGEST} characters: {line[:80]!r}")
            if (path := defined_by(line)) is not None:
                sizes[path] = size
                type = _parse_enum(line) if line.startswith("enum ") else _parse_named_tuple(line, named)
                named[type.name] = type
            else:
                methods.append(_parse_method(line, named))
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a canonical interface text: {error}") from error
    interface = Interface(name, tuple(methods))
    if text not in (interface.text, interface.declaration):
        raise ValueError(f"not a canonical interface text:\n{text}")
    return interface


_LONGEST: Final = 1_000_000


def written_out(line: str, sizes: Mapping[str, int]) -> int:
    """Measures a line of canonical text with each named type written out where it is named.

    Types nest, and their text does not, so a short text may stand for a very long one.

    Args:
        sizes: those of the named types of the lines before, by name.
    """
    return len(line) + sum(sizes.get(word, 0) for word in re.findall(r"[\w.]+", line.partition("(")[2]))


def defined_by(line: str) -> str | None:
    """Returns the name of the type that a line of canonical text defines. None: it is a method."""
    if not line.startswith(("enum ", "tuple ")):
        return None
    return re.split(r"[:(]", line.partition(" ")[2], maxsplit=1)[0]


def _parse(text: str, tries: int = 20) -> ast.Module:
    try:
        return ast.parse(text)
    except SystemError:
        # Python before 3.11.8 and 3.12.2 counts the depth for all threads together. If garbage is collected meanwhile,
        # and another thread parses then, it raises this for a text that is right (cpython issue 106905).
        if tries == 1:
            raise
        return _parse(text, tries - 1)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not canonical: {text!r}") from error


def _parse_enum(line: str) -> EnumType:
    path, _, members = line.removeprefix("enum ").partition(":")
    match _parse(f"enum({members})").body:
        case [ast.Expr(value=ast.Call(args=[], keywords=keywords))]:
            return EnumType(path, tuple((keyword.arg or "", _constant(keyword.value)) for keyword in keywords))
    raise ValueError(f"not an enum: {line!r}")


def _constant(node: ast.expr) -> int | float | str:
    match node:
        case ast.Constant(value=int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]):
            return float(text)
    raise ValueError(f"not a member's value: {ast.unparse(node)}")


def _parse_named_tuple(line: str, named: Mapping[str, NamedType]) -> NamedTupleType:
    path, parenthesis, fields = line.removeprefix("tuple ").partition("(")
    match _parse(f"def named{parenthesis}{fields}: ...").body:
        case [ast.FunctionDef(args=arguments, returns=None)]:
            return NamedTupleType(path, tuple(_typed(arguments, named)))
    raise ValueError(f"not a NamedTuple: {line!r}")


def _parse_method(line: str, named: Mapping[str, NamedType]) -> Method:
    marks = re.match(
        r"(?P<idempotent>@idempotent )?(@batched\((?P<batched>-?\d{1,9})\) )?(?P<detached>@detached )?", line
    )
    assert marks is not None
    match _parse(f"def {line[marks.end() :]}: ...").body:
        case [ast.FunctionDef(name=name, args=arguments, returns=ast.expr() as returns)]:
            batched = int(marks["batched"]) if marks["batched"] else None
            detached, idempotent = (marks[mark] is not None for mark in ("detached", "idempotent"))
            read = tuple(_arguments(arguments, named)), _type(returns, named), batched
            return Method(name, *read, detached=detached, idempotent=idempotent)
    raise ValueError(f"not a method: {line!r}")


def _arguments(arguments: ast.arguments, named: Mapping[str, NamedType]) -> Iterator[Argument]:
    without = len(arguments.args) - len(arguments.defaults)
    defaults = [*[None] * without, *arguments.defaults, *arguments.kw_defaults]
    keyword_only = [*[False] * len(arguments.args), *[True] * len(arguments.kwonlyargs)]
    for (name, type), node, keyword in zip(_typed(arguments, named), defaults, keyword_only, strict=True):
        default: Value | Required = REQUIRED if node is None else _value(node, named)
        yield Argument(name, type, default, keyword)


def _typed(arguments: ast.arguments, named: Mapping[str, NamedType]) -> Iterator[tuple[str, Type]]:
    for argument in (*arguments.args, *arguments.kwonlyargs):
        if argument.annotation is None:
            raise ValueError(f"{argument.arg!r} has no type")
        yield argument.arg, _type(argument.annotation, named)


def _value(node: ast.expr, named: Mapping[str, NamedType]) -> Value:
    """Reads a value that literals.py wrote."""
    match node:
        case ast.Constant(value=bool() | None as value):
            return value
        case ast.Tuple(elts=items):
            return tuple(_value(item, named) for item in items)
        case ast.Call(func=ast.Name(id="complex"), args=[real, imaginary]):
            return complex(_constant(real), _constant(imaginary))  # type: ignore[arg-type]
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="torch"), attr="device"), args=[ast.Constant(value=str() as name)]
        ):
            return DeviceValue(name)
        case ast.Call(func=function, args=items) if (path := ast.unparse(function)) in named:
            return NamedTupleValue(path, tuple(_value(item, named) for item in items))
        case ast.Attribute(value=enum, attr=member) if (path := ast.unparse(enum)) in named:
            return MemberValue(path, member)
        case ast.Attribute(value=ast.Name(id="torch"), attr=dtype):
            return DtypeValue(dtype)
    return _constant(node)


def _type(node: ast.expr, named: Mapping[str, NamedType]) -> Type:
    match node:
        case ast.Name(id="Tensor"):
            return TENSOR
        case ast.Name(id="Any"):
            return ANY
        case ast.Name(id=name):
            return ScalarType(name)
        case ast.Attribute() if (path := ast.unparse(node)) in named:
            return named[path]
        case ast.Constant(value=None):
            return NONE
        case ast.Subscript(value=ast.Name(id=generic), slice=slice):
            items = tuple(_type(item, named) for item in (slice.elts if isinstance(slice, ast.Tuple) else [slice]))
            match generic, items:
                case "Optional", (item,):
                    return OptionalType(item)
                case "List", (item,):
                    return ListType(item)
                case "RRef", (item,):
                    return RRefType(item)
                case "Dict", (key, value):
                    return DictType(key, value)
                case "Union", _:
                    return UnionType(items)
                case "Tuple", _:
                    return TupleType(items)
    raise ValueError(f"not a type: {ast.unparse(node)}")
