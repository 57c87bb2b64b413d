"""Words why TorchScript refuses a module, and what to do."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from ...link.failures import missing_operator
from .dropped import REMEDY

_DEFAULTS: Final = "keyword-only arguments with defaults"
"""A part of what TorchScript says of methods with `*args`, `**kwargs`, or `*, k: int = 5`."""
_INSTEAD: Final = "write each of these as an ordinary argument, `k: int = 5`; it may be passed by keyword all the same"
_UNKNOWN_TYPE: Final = re.compile(r"Unknown type (name|constructor|annotation)\b|could not be resolved because")
"""A part of what TorchScript says of an annotation that it does not read."""
_STANDS_FOR: Final = (
    "TorchScript reads no `type` alias, NewType, Annotated, Literal or Sequence, and no name of a class's body: write "
    "what it stands for, or assign an alias plainly, at the top level, `Batch = list[Tensor]`"
)
_EMPTY: Final = re.compile(
    r"has no attribute '(?P<name>\w+)' "
    r".*(?P<kind>Dictionary inputs must have entries|List trace inputs must have elements)"
)
"""A part of what TorchScript says of a list or a dict that is empty when the module is scripted, and has no type."""
_ANNOTATED: Final = {
    "Dictionary inputs must have entries": ("dict", "Dict[int, Tensor]"),
    "List trace inputs must have elements": ("list", "List[Tensor]"),
}
_ASSIGNED: Final = re.compile(r"unsupported kind of augmented assignment: (?P<kind>FloorDiv|MatMult)\b")
"""A part of what TorchScript says of `//=` and `@=`."""
_WRITTEN: Final = {
    "FloorDiv": "write `a = a // b`, or `a.floor_divide_(b)` for a tensor that is changed in place",
    "MatMult": "write `a = a @ b`",
}
_BY_NAME: Final = "name the parameters, buffers and parts that you mean, as in self.linear.weight"
_PLACE: Final = re.compile(r'^ *File "(?P<file>[^"\n]+)", line (?P<line>\d+)$', re.MULTILINE)


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
    if missing := missing_operator(said):
        said = f"{missing}\n\n{said}"
    if inherited:
        otherwise = _BY_NAME
    elif _DEFAULTS in said:
        otherwise = _INSTEAD
    elif empty := _EMPTY.search(said):
        kind, example = _ANNOTATED[empty["kind"]]
        otherwise = (
            f"annotate {empty['name']!r} in the body of the class, `{empty['name']}: {example}`, and assign the empty "
            f"{kind} in __init__"
        )
    elif assigned := _ASSIGNED.search(said):
        otherwise = _WRITTEN[assigned["kind"]]
    else:
        otherwise = _STANDS_FOR if _UNKNOWN_TYPE.search(said) else "write it otherwise"
    return f"{said}\n\nwhat to do: {otherwise}; or {REMEDY}"


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
