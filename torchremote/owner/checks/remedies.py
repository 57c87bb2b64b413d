"""Says what to write in the place of what TorchScript refuses.

Note [Remedies]
    TorchScript's own words tell a remedy, for some together with the code at which it points. The first rule that fits
    is taken. A rule does not fit if its remedy names what is not there. A test does what each says, and sees the module
    hosted and right.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Final

from torch import nn

from ... import _torch
from .remedy_rules import VALUE_RULES
from .syntax_rules import SYNTAX_RULES

REMEDY: Final = "give examples= of its arguments, and torch.export may capture it as it is"


_POINTED: Final = re.compile(
    r"^(?P<before>(?:.*\n *~+\n)*)(?P<line>.*)\n(?P<indent> *)(?P<mark>~+) <--- HERE", re.MULTILINE
)
_NOT_EXPORTED: Final = re.compile("attribute assignment|uninitialized parameters")
"""TorchScript's words for things that `torch.export` refuses as well: attributes that change, parts without sizes."""


def remedy_for(module: nn.Module, said: str) -> str:
    """Words what to do, for a module of which TorchScript said something."""
    words = "write it otherwise"
    for rule in (*SYNTAX_RULES, *VALUE_RULES):
        found = re.search(rule.said, said, re.MULTILINE)
        seen = {} if found is None else _seen(module, said, found)
        if found is not None and re.search(rule.line, f"{seen['line']}\n{seen.get('code', '')}"):
            try:
                words = rule.remedy.format_map(seen)
                break
            except KeyError:  # it names what is not there
                continue
    return words if _NOT_EXPORTED.search(said) else f"{words}; or {REMEDY}"


def _seen(module: nn.Module, said: str, found: re.Match[str]) -> dict[str, str]:
    """Returns what a remedy may name, as far as it is there: the groups of a rule's pattern, and what is seen beside.

    Args:
        found: where the rule's pattern is in what TorchScript said.
    """
    seen: dict[str, str] = {"line": "", **found.groupdict()}
    parts = dict(nn.Module.named_modules(module))
    compiled = [name for name, part in parts.items() if _torch.not_compiled(part) is not part]
    if compiled:
        seen["compiled"] = compiled[0]
    kind = seen.setdefault("type", "")
    seen["empty"] = "{}" if kind.startswith("Dict") else "[]"
    pointed = _POINTED.search(said)
    if pointed is None:
        return seen
    seen["line"] = pointed["before"].partition("\n")[0] or pointed["line"]
    if loop := re.search(r"^\s*for .+? in (?P<over>[\w.]+):", seen["line"]):
        seen["code"] = loop["over"]
    elif not pointed["before"]:  # the code is of one line
        seen["code"] = pointed["line"][len(pointed["indent"]) :][: len(pointed["mark"])]
    given = re.findall(r"self\.(\w+)", seen["line"].partition("=")[0])
    if "NoneType but" in said:
        given = [name for name in given if any(_is_none(part, name) for part in parts.values())]
    if given:
        seen["optional"] = " and ".join(f"`{name}: Optional[{kind}]`" for name in given)
    return {**_seen_in(seen.get("code", ""), parts.values()), **seen}


def _seen_in(code: str, parts: Iterable[nn.Module]) -> dict[str, str]:
    """Returns what a remedy may name of the code at which TorchScript points."""
    seen = {}
    if re.fullmatch(r"[\w.]+", code):
        seen = {"attribute": code.rpartition(".")[2].lower(), "global": code.partition(".")[0]}
        seen["buffer"] = seen["global"].lower()
    owner, _, name = code.partition(".")
    if owner == "self" and any(_is_value(inspect.getattr_static(type(part), name, None)) for part in parts):
        seen["of_class"] = name
    if returned := re.fullmatch(r"return (\w+)", code):
        seen["returned"] = returned[1]
    if code in ("max", "min", "sum"):
        seen["reduced"] = {"max": "amax", "min": "amin"}.get(code, code)
    return seen


def _is_value(value: object) -> bool:
    """Says whether what a class has is a value, and no method or property."""
    return value is not None and not callable(value) and not hasattr(value, "__get__")


def _is_none(module: nn.Module, name: str) -> bool:
    return vars(module).get(name, module._buffers.get(name, 0)) is None
