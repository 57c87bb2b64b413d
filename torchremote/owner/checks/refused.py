"""Words why TorchScript refuses a module, and what to do."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from ...link.failures import missing_operator
from .remedies import REMEDY, remedy_for

_BY_NAME: Final = "name the parameters, buffers and parts that you mean, as in self.linear.weight"
_PLACE: Final = re.compile(r'^ *File "(?P<file>[^"\n]+)", line (?P<line>\d+)$', re.MULTILINE)
_CALL: Final = re.compile(
    r"since it was called from '(?P<caller>[^'\n]+)'\n"
    r' *File "(?P<file>[^"\n]+)", line \d+\n(?:.*\n)*?(?P<line>.*)\n(?P<indent> *)~+ <--- HERE'
)
_TORCH: Final = os.path.dirname(torch.__file__) + os.sep
_OF_TORCH: Final = "__torch__.torch."


def words_of_refusal(module: nn.Module, said: str) -> str:
    """Returns what the error says of a module that TorchScript does not compile: the reason, and what to do.

    Args:
        said: TorchScript's words.
    """
    said = said.strip()
    inherited = _inherited_method(said)
    if inherited:
        callers = sorted(set(_callers(module, inherited)))
        called_in = f", which is called in {' and '.join(callers)}" if callers else ""
        said = f"TorchScript does not compile {inherited}() of torch.nn.Module{called_in}\n\n{said}"
    elif called := _torchs_function(said):
        said = f"TorchScript does not compile {called}\n\n{said}"
    if missing := missing_operator(said):
        said = f"{missing}\n\n{said}"
    return f"{said}\n\nwhat to do: {f'{_BY_NAME}; or {REMEDY}' if inherited else remedy_for(module, said)}"


def _inherited_method(said: str) -> str:
    """Returns which method of torch.nn.Module TorchScript did not compile, or "" if it was something else."""
    place = _PLACE.search(said)
    if place is None or place["file"] != nn.Module.parameters.__code__.co_filename:
        return ""
    line = int(place["line"])
    before = {
        function.__code__.co_firstlineno: name
        for name, function in vars(nn.Module).items()
        if isinstance(function, types.FunctionType) and function.__code__.co_firstlineno <= line
    }
    return before[max(before)] if before else ""


def _torchs_function(said: str) -> str:
    """Words which function or class of torch TorchScript did not compile, and where it is called. "": none of it."""
    place = _PLACE.search(said)
    if place is None or not place["file"].startswith(_TORCH):
        return ""
    for call in _CALL.finditer(said):
        called = re.search(r"([\w.]+)\(", call["line"][len(call["indent"]) :])
        if called is not None and not (call["file"].startswith(_TORCH) or call["caller"].startswith(_OF_TORCH)):
            return f"{called[1]}, which is called in {call['caller']}"
    return ""


def _callers(module: nn.Module, method: str) -> Iterator[str]:
    """Yields the user's methods that name `method`, of the module and its parts. Special ones are not compiled."""
    for part in torch.nn.Module.modules(module):
        for cls in type(part).__mro__:
            if cls.__module__.partition(".")[0] in ("torch", "builtins"):
                continue
            for name, function in vars(cls).items():
                is_compiled = isinstance(function, types.FunctionType) and not name.startswith("__")
                if is_compiled and method in function.__code__.co_names:
                    yield f"{cls.__name__}.{name}"
