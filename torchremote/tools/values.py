"""Reads the values of calls from the command line, by their types."""

from __future__ import annotations

import json
import pathlib
from contextlib import suppress
from typing import Any, Final

import torch

from ..errors import ArgumentError
from ..jit import Classes
from ..jit.read.types import (
    TENSOR,
    AnyType,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
    UnionType,
    walk,
)
from ..link.values import PythonPacker
from ..link.words import first_line

_FILES: Final = (".pt", ".npy")


class ValueReader:
    """Reads values of the types of one interface. `classes`: those of its enums and NamedTuples."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes

    def read(self, text: str, kind: Type, where: str) -> Any:
        """Reads an argument: the path of a file, a string where one is declared, or JSON.

        Args:
            where: names the argument in errors.

        Raises:
            ArgumentError: the text is none of these, or does not fit `kind`.
        """
        kind = _without_none(kind, text)
        if pathlib.Path(text).suffix in _FILES and kind != ScalarType("str"):
            return load_file(text, where)
        if isinstance(kind, EnumType) or str(kind) in ("str", "device", "dtype"):
            return self._from_json(text, kind, where)
        try:
            value = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, where))
        except (ValueError, RecursionError):
            if isinstance(kind, (AnyType, UnionType)):
                value = text
            else:
                raise ArgumentError(
                    f"{where}: {text!r} is no {kind}: it is neither JSON, such as 3, true or [0.5, 1], nor a "
                    f"{' or '.join(_FILES)} file{_option_in(text)}"
                ) from None
        return self._from_json(value, kind, where)

    def _from_json(self, value: Any, kind: Type, where: str) -> Any:
        """Makes a value of a type from JSON. What does not fit is left for the call, whose error says so best."""
        match kind:
            case TensorType() if isinstance(value, str):
                return load_file(value, where)
            case TensorType() if value is not None:
                try:
                    return torch.tensor(value)
                except (TypeError, ValueError, RuntimeError, OverflowError) as error:
                    raise ArgumentError(f"{where}: no tensor: {error}") from None
            case OptionalType(item):
                return None if value is None else self._from_json(value, item, where)
            case ListType(item) if isinstance(value, list):
                return [self._from_json(one, item, f"{where}[{n}]") for n, one in enumerate(value)]
            case DictType(key, item) if isinstance(value, dict):
                parts = {name: self._from_json(one, item, f"{where}[{name!r}]") for name, one in value.items()}
                return parts if str(key) == "str" else self._with_keys(parts, key, where)
            case UnionType():
                return self._member(value, kind, where)
            case TupleType(items) if isinstance(value, list) and len(value) == len(items):
                return tuple(
                    self._from_json(one, item, f"{where}[{n}]")
                    for n, (one, item) in enumerate(zip(value, items, strict=True))
                )
            case NamedTupleType(fields=fields) if isinstance(value, (list, dict)):
                return self._named_tuple(value, kind, dict(fields), where)
            case EnumType(members=members):
                names = [name for name, _ in members]
                if value not in names:
                    raise ArgumentError(f"{where}: {value!r} is none of {', '.join(names)}")
                return getattr(self._classes[kind], value)
            case ScalarType("device"):
                try:
                    return torch.device(value)
                except (RuntimeError, TypeError) as error:
                    raise ArgumentError(f"{where}: {value!r} is no device: {first_line(error)}") from None
            case ScalarType("dtype"):
                dtype = getattr(torch, str(value).removeprefix("torch."), None)
                if not isinstance(dtype, torch.dtype):
                    raise ArgumentError(f"{where}: {value!r} is no dtype; write one such as float32")
                return dtype
            case ScalarType("complex") if isinstance(value, list):
                if len(value) != 2 or any(type(part) not in (int, float) for part in value):
                    raise ArgumentError(f"{where}: {value!r} is no complex; write a number, or [real, imaginary]")
                return complex(*value)
        return value

    def _member(self, value: Any, kind: UnionType, where: str) -> Any:
        """Makes a value of the first member of a Union that it fits: as it is, or converted, or as a tensor."""
        packer = PythonPacker(self._classes)
        others = [item for item in kind.narrowest_first if TENSOR not in walk(item)]
        for items, exact in ((others, True), (others, False), (kind.narrowest_first, False)):
            for item in items:
                with suppress(ArgumentError):
                    made = self._from_json(value, item, where)
                    packer.pack(made, item, where, exact)
                    return made
        return value

    def _with_keys(self, parts: dict[str, Any], kind: Type, where: str) -> dict[Any, Any]:
        """Makes the keys of a dict, which are strings in JSON. Raises ArgumentError if two of them become one."""
        made: dict[Any, Any] = {}
        for name, one in parts.items():
            key = name if str(kind) == "dtype" else _key(name, where, lists=str(kind) in ("complex", "Tensor"))
            key = self._from_json(key, kind, f"{where}, its key {name!r}")
            if key in made:
                raise ArgumentError(f"{where}: its key {name!r} is the same {kind} as another; leave one out")
            made[key] = one
        return made

    def _named_tuple(self, value: Any, kind: NamedTupleType, types: dict[str, Type], where: str) -> Any:
        """Makes a NamedTuple of a list or an object."""
        given = value if isinstance(value, dict) else dict(zip(types, value, strict=False))
        wrong = ArgumentError(f"{where}: a {kind} is an object or a list of {', '.join(types)}; found {value!r}")
        if len(given) < len(value) or not given.keys() <= types.keys():
            raise wrong
        parts = {name: self._from_json(one, types[name], f"{where}.{name}") for name, one in given.items()}
        try:
            return self._classes[kind](**parts)
        except TypeError:  # one is missing
            raise wrong from None


def _option_in(text: str) -> str:
    """Says how an argument is named, where a value looks like one with its name."""
    name, equals, value = text.partition("=")
    return f"; an argument is named as in --{name} {value}" if equals and name.isidentifier() else ""


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """Makes an object of JSON. Raises ArgumentError if it has a name twice: Python would drop the first."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ArgumentError(f"{where}: {twice!r} is there twice; leave one out")
    return made


def _key(text: str, where: str, lists: bool = False) -> Any:
    """Returns the key that a string in JSON stands for. One that stands for none is refused by the call."""
    try:
        key = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(key, dict) or (isinstance(key, list) and not lists):
        raise ArgumentError(f"{where}: {text!r} is no key; write a number or a string")
    return key


def _without_none(kind: Type, text: str) -> Type:
    """Returns what an Optional is of, unless `text` says None."""
    return kind.item if isinstance(kind, OptionalType) and text != "null" else kind


def load_file(path: str, where: str) -> Any:
    """Loads a `.pt` file of tensors, without running anything of it, or a `.npy` file.

    Raises:
        ArgumentError: it cannot be loaded. `where` names the argument.
    """
    try:
        if pathlib.Path(path).suffix == ".npy":
            return torch.from_numpy(the_numpy(where).load(path, allow_pickle=False))
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ArgumentError(f"{where}: {path}: {error.strerror}") from error
    except ArgumentError:
        raise
    except Exception as error:  # torch and numpy may raise anything for a file
        raise ArgumentError(f"{where}: {path} holds no tensors: {first_line(error)}") from error


def the_numpy(where: str) -> Any:
    """Imports numpy. Raises ArgumentError if it is not there."""
    try:
        import numpy
    except ImportError as error:
        raise ArgumentError(f"{where}: .npy files need numpy: pip install numpy") from error
    return numpy
