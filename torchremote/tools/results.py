"""Writes the results of calls: into files, as JSON, and for people."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import torch

from .. import _torch
from ..errors import ArgumentError
from ..link.words import first_line
from .targets import UsageError
from .values import the_numpy

_WRITTEN: Final = "write .pt or .json, or .npy for one tensor"


def check_output(path: str) -> None:
    """Looks whether a result can be written to a file. That may still fail for the result's own sake.

    Raises:
        UsageError: the file's ending says nothing.
        ArgumentError: the file cannot be written.
    """
    file = pathlib.Path(path)
    if file.suffix not in (".pt", ".json", ".npy"):
        raise UsageError(f"--output {path}: {_WRITTEN}")
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ArgumentError(f"--output {path}: cannot be written; name a file in a folder that is there, and is yours")


def save_file(path: str, result: Any) -> None:
    """Writes a result to a `.pt`, `.npy` or `.json` file.

    Raises:
        ArgumentError: it cannot be written there.
    """
    suffix = pathlib.Path(path).suffix
    try:
        if suffix == ".pt":
            torch.save(_plain(result), path)
        elif suffix == ".json":
            pathlib.Path(path).write_text(to_json(result) + "\n")
        elif suffix == ".npy" and isinstance(result, torch.Tensor):
            the_numpy("--output").save(path, _array(result, path), allow_pickle=False)
        else:
            raise ArgumentError(f"--output {path}: {_WRITTEN}")
    except OSError as error:
        raise ArgumentError(f"--output {path}: {error.strerror}") from error
    except RuntimeError as error:  # of torch
        raise ArgumentError(f"--output {path}: {first_line(error)}") from error


def _array(tensor: torch.Tensor, path: str) -> Any:
    """Returns a tensor as an array of numpy. Raises ArgumentError if numpy has nothing like it."""
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise ArgumentError(f"--output {path}: numpy cannot have this tensor: {error}; write a .pt file") from None


def to_json(result: Any) -> str:
    """Writes a result as JSON."""
    return json.dumps(as_json(result), allow_nan=False)


def as_json(value: Any) -> Any:
    """Returns what JSON can write of a result: a tensor is a nested list of its numbers.

    JSON has no numbers that are not finite. They are the strings "NaN", "Infinity" and "-Infinity", as in the JSON of
    protobuf: null would be None.
    """
    match value:
        case torch.Tensor():
            dense = value if value.layout == torch.strided else value.to_dense()
            try:
                return as_json((dense.dequantize() if dense.is_quantized else dense).tolist())
            except RuntimeError:
                return str(_WithoutNumbers(value))
        case Enum():
            return value.name
        case tuple() if hasattr(value, "_asdict"):
            return {name: as_json(one) for name, one in value._asdict().items()}
        case list() | tuple():
            return [as_json(one) for one in value]
        case dict():
            return {str(key): as_json(one) for key, one in value.items()}
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case None | bool() | int() | float() | str():
            return value
        case complex():
            return [as_json(value.real), as_json(value.imag)]
    return str(value)


def as_text(value: Any) -> str:
    """Writes a result for people: each item of a tuple on lines of its own."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return "\n".join(f"{name}: {_text(one)}" for name, one in value._asdict().items())
    if isinstance(value, (tuple, list)) and any(isinstance(one, torch.Tensor) for one in value):
        return "\n".join(map(_text, value))
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except RuntimeError:
        return str(_torch.map_leaves(_printable, value))


def _printable(value: Any) -> Any:
    try:
        str(value)
    except RuntimeError:
        return _WithoutNumbers(value)
    return value


class _WithoutNumbers:
    """Stands for a tensor whose dtype only has bits, so that torch shows no numbers of it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._shown = f"tensor(dtype={tensor.dtype}, size={tuple(tensor.shape)})"

    def __repr__(self) -> str:
        return self._shown


def _plain(value: Any) -> Any:
    """Replaces NamedTuples and enums, whose classes a reader with weights_only would need."""
    match value:
        case Enum():
            return value.name
        case tuple() if hasattr(value, "_asdict"):
            return {name: _plain(one) for name, one in value._asdict().items()}
        case Mapping():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return type(value)(map(_plain, value))
    return value
