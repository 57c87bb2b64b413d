"""Reads the examples that users give: arguments of a method, and which of their dimensions are dynamic."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ... import _torch
from ...errors import ArgumentError, MismatchError
from ..read.model import Method
from ..read.shown import repr_of, shown
from ..read.types import Type
from ..script.classes import Classes
from .values import Constant, Leaf, Reader, Several, Tree


def read_example(
    example: Any, method: Method, classes: Classes, where: str, takes_integers: bool
) -> tuple[tuple[Tree, ...], list[Any]]:
    """Takes an example apart. Returns a tree for each argument of the method, and the leaves of all.

    Args:
        example: a tuple of arguments, or a mapping by their names.
        takes_integers: integers are leaves. Otherwise each is a constant.
    """
    names = [argument.name for argument in method.arguments]
    if isinstance(example, Mapping):
        given = dict(example)
    elif isinstance(example, (tuple, list)) and len(example) <= len(names):
        given = dict(zip(names, example, strict=False))
    else:
        raise ArgumentError(f"{where}: {_came(example)}; {_takes(method)}; {_FORMS}")
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ArgumentError(f"{where}: an example has {repr_of(unknown[0])}, which is no argument; {_takes(method)}")
    reader = Reader(classes, takes_integers)
    trees = []
    for argument in method.arguments:
        if argument.name not in given:
            raise ArgumentError(f"{where}: {_came(example)}, without {argument.name!r}; {_takes(method)}; {_FORMS}")
        trees.append(reader.read_argument(given[argument.name], argument.type, f"{where}.{argument.name}"))
    return tuple(trees), reader.leaves


_FORMS: Final = (
    "an example is a tuple of arguments, or a mapping by their names; several of a method are a list of those"
)


def _takes(method: Method) -> str:
    """Says what arguments a method has."""
    arguments = ", ".join(f"{argument.name}: {argument.type}" for argument in method.arguments)
    return f"{method.name} takes {len(method.arguments)} ({arguments})"


def _came(example: Any) -> str:
    """Says what a user gave as an example."""
    if isinstance(example, Mapping):
        return f"an example by name of {len(example)} ({', '.join(map(str, example))})"
    if isinstance(example, (tuple, list)):
        kinds = ", ".join(type(item).__name__ for item in example)
        return f"an example of {len(example)} arguments ({kinds})"
    return f"a {type(example).__name__} is no example"


def read_shapes(
    arguments: tuple[Tree, ...], leaves: Sequence[Any], dynamic: Any, method: Method, where: str
) -> list[Any]:
    """Returns, for each leaf, which of its dimensions are dynamic."""
    hints = [_torch.any_size(leaf) for leaf in leaves]
    if dynamic is None:
        return hints
    names = [argument.name for argument in method.arguments]
    if isinstance(dynamic, Mapping):
        by_name = dict(dynamic)
    elif isinstance(dynamic, (tuple, list)) and len(dynamic) == len(names):
        by_name = dict(zip(names, dynamic, strict=True))
    else:
        came = f" of {len(dynamic)} items" if isinstance(dynamic, (tuple, list)) else ""
        raise ArgumentError(
            f"{where}: dynamic_shapes is of class {type(dynamic).__name__}{came}; give a tuple with an item for each "
            f"argument, or a mapping by their names; {_takes(method)}"
        )
    unknown = [name for name in by_name if name not in names]
    if unknown:
        raise ArgumentError(f"{where}: dynamic_shapes names {repr_of(unknown[0])}, which is no argument of {method}")
    fixed: list[Any] = [None] * len(leaves)
    for argument, tree in zip(method.arguments, arguments, strict=True):
        _spread(tree, argument.type, by_name.get(argument.name), fixed, f"{where}.{argument.name}")
    return fixed


def _spread(tree: Tree, kind: Type, dynamic: Any, into: list[Any], where: str) -> None:
    """Puts what `dynamic` says of an argument to its leaves."""
    match tree:
        case Leaf(index):
            into[index] = dynamic
        case Constant(value) if isinstance(dynamic, (Mapping, tuple, list)):
            raise ArgumentError(f"{where}: dynamic_shapes has sizes of it, and the example has {shown(value)}")
        case Several(items, keys) if dynamic is not None:
            wanted = "a list" if keys is None else "a mapping"
            if not isinstance(dynamic, (tuple, list) if keys is None else Mapping):
                raise ArgumentError(
                    f"{where}: dynamic_shapes is of class {type(dynamic).__name__}, where {wanted} is wanted"
                )
            if len(dynamic) != len(items) or (keys is not None and set(dynamic) != set(keys)):
                said = f"{len(items)} items" if keys is None else f"the keys {', '.join(map(repr_of, keys))}"
                raise ArgumentError(f"{where}: dynamic_shapes is {repr_of(dynamic):.200}, and the example has {said}")
            parts = dynamic if keys is None else [dynamic[key] for key in keys]
            for item, part in zip(items, parts, strict=True):
                _spread(item, kind, part, into, where)


def bound_arguments(
    function: Any, method: Method, values: dict[str, Any], where: str
) -> tuple[list[Any], dict[str, Any]]:
    """Says how a method takes the interface's arguments: by their names, or else where they stand.

    Raises:
        MismatchError: the method takes no such argument.
    """
    parameters = list(inspect.signature(function).parameters.values())
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes_more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for position, argument in enumerate(method.arguments):
        value = values[argument.name]
        if argument.name in named or (argument.keyword_only and takes_any):
            keywords[argument.name] = value
        elif position < len(places) and places[position] not in values:
            if takes_any:  # by its name it is one of **kwargs, and by its place it is another argument
                raise MismatchError(
                    f"{where}.{argument.name}: the module's {method.name} calls this argument {places[position]!r}, "
                    f"and takes others by any name, too; call it {places[position]!r}, or declare it keyword-only"
                )
            keywords[places[position]] = value
        elif takes_more and not keywords:
            positional.append(value)
        elif takes_any:
            keywords[argument.name] = value
        else:
            raise MismatchError(
                f"{where}.{argument.name}: the module's {method.name}({', '.join(map(str, parameters))}) takes no such "
                "argument; give both the same name"
            )
    for parameter in parameters:  # those that take no names
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in keywords:
            positional.append(keywords.pop(parameter.name))
    return positional, keywords
