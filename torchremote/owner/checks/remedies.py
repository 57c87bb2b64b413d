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
from typing import Final, NamedTuple

from torch import nn

from ... import _torch

REMEDY: Final = "give examples= of its arguments, and torch.export may capture it as it is"


class _Rule(NamedTuple):
    said: str  # a pattern of TorchScript's words
    remedy: str  # in braces: groups of the pattern, and what `_seen` gives
    line: str = ""  # a pattern of the line at which it points, and of the code itself below


_KEEP: Final = "keep it in the module, `self.{attribute} = {code}` in __init__, and use `self.{attribute}`"
_SAY: Final = "say what is in an empty list or dict: "
_EMPTY: Final = r"(List\[Tensor\]|Dict\[str, Tensor\])"
"""The types that TorchScript gives to these."""
_DISTRIBUTIONS: Final = (
    "write it with operators: `torch.softmax(logits, -1).multinomial(1).squeeze(-1)` for a sample of a "
    "Categorical, whose log_prob is in `torch.log_softmax(logits, -1)`, or `mean + std * torch.randn_like(mean)` "
    "for one of a Normal"
)
_RULES: Final = [
    # parts and functions
    _Rule("uninitialized parameters", "call the module once in the factory, so that its lazy parts get their sizes"),
    _Rule(r"Callable\[\.\.\., Any\]", "host the part {compiled!r} without torch.compile, which no owner runs"),
    _Rule("torch/_dynamo/", "host it without torch.compile, which no owner runs"),
    _Rule("torch/distributions/", _DISTRIBUTIONS),
    _Rule("Recursive calls are not supported", _DISTRIBUTIONS, r"distributions\.|Normal\("),  # at the second try
    _Rule(r'keyword-only arguments with defaults:\n  File ".*/torch/', "write what it does with operators of tensors"),
    _Rule("Expected a single top-level function", "write a function with `def` for the lambda"),
    _Rule(
        "keyword-only arguments with defaults",
        "write each of these as an ordinary argument, `k: int = 5`; it may be passed by keyword all the same",
    ),
    _Rule(
        "Unknown type (name|constructor|annotation)|could not be resolved because",
        "TorchScript reads no `type` alias, NewType, Annotated, Literal or Sequence, and no name of a class's body: "
        "write what it stands for, or assign an alias plainly, at the top level, `Batch = list[Tensor]`",
    ),
    _Rule(
        r"type 'Tensor \(inferred\)' for argument '(?P<name>\w+)' but instead found type '(?P<type>.+)'",
        "annotate the argument, `{name}: {type}`; without that it is a tensor",
    ),
    _Rule("aten::[fi]info", "keep what you need of it, `self.lowest = torch.finfo(torch.float32).min` in __init__"),
    _Rule("type hint for result of tolist", "annotate what is given the list, `values: List[float] = x.tolist()`"),
    # attributes and globals
    _Rule(
        r"has no attribute '(?P<name>\w+)' .*Dictionary inputs must have entries",
        "annotate {name!r} in the body of the class, `{name}: Dict[int, Tensor]`, and assign it in __init__",
    ),
    _Rule(
        r"has no attribute '(?P<name>\w+)' .*List trace inputs must have elements",
        "annotate {name!r} in the body of the class, `{name}: List[Tensor]`, and assign it in __init__",
    ),
    _Rule(
        r"has no attribute '(?P<name>\w+)' .*failed to convert Python type",
        "assign what the methods use of {name!r} in __init__, each as an attribute of its own, as in "
        "`self.eps = {name}.eps`; of a number of numpy, make one of Python, `float(...)`",
    ),
    _Rule(
        r"has no attribute '\w+'",
        "assign it in __init__, `self.{of_class} = self.{of_class}`; TorchScript knows no values of a class",
    ),
    _Rule(
        "python value of type 'Tensor'",
        "register it, `self.register_buffer({buffer!r}, {global})` in __init__, and use `self.{buffer}`",
    ),
    _Rule(
        "python value of type '(?P<type>bool|float|int|str)'",
        _KEEP + "; in a function, make it a default, `{attribute}: {type} = {code}`",
    ),
    _Rule(r"python value of type '(?!type'|module'|\w*(function|method))", _KEEP),
    # what may be None
    _Rule("Expected NoneType but got (?P<type>.+?):?$", "annotate it in the body of the class: {optional}"),
    _Rule("Expected (?P<type>.+) but got NoneType", "annotate it in the body of the class: {optional}"),
    _Rule(
        r"Variable '(?P<name>\w+)' previously had type NoneType .* of type (?P<type>.+)",
        "annotate it where it is None, `{name}: Optional[{type}] = None`",
    ),
    _Rule(
        r"Variable '(?P<name>\w+)' previously had type (?P<type>.+) but .* of type NoneType",
        "annotate it where it is assigned first, `{name}: Optional[{type}] = ...`",
    ),
    _Rule(
        r"value of type Optional\[.*\] to bool",
        "assign it to a local name, `value = {code}`, and write `value is not None and value` for it as a condition, "
        "and `value if value is not None and value else other` for `{code} or other`",
        r"\nself\.\w+$",
    ),
    _Rule(
        r"value of type Optional\[.*\] to bool",
        "write `{code} is not None and {code}` for it as a condition, and `{code} if {code} is not None and {code} "
        "else other` for `{code} or other`",
    ),
    _Rule("value of type NoneType to bool", "write `{code} is not None`"),
    _Rule(
        r"found type 'Optional\[|'Optional\[.*\]' object",
        "assign an attribute to a local name, `value = self.value`, and ask `value is not None` before you use `value`",
    ),
    # numbers
    _Rule(
        "augmented assignment: FloorDiv",
        "write `a = a // b`, or `a.floor_divide_(b)` for a tensor that is changed in place",
    ),
    _Rule("augmented assignment: MatMult", "write `a = a @ b`"),
    _Rule(
        r"(Expected|type|must be) (?P<type>int|float)s?\b.* (got|of type|found) number",
        "write `{type}(...)` around what `.item()` gives, of which TorchScript does not know the kind",
    ),
    _Rule(r"List\[number\]", "write `float(...)` or `int(...)` around what `.item()` gives, in the list"),
    _Rule(r"to Union\[|List\[Union\[", "write numbers of one kind in a list, as `2.0` for `2` beside `1.5`"),
    _Rule(
        r"type Tensor but is actually of type (int|float)\b",
        "write `torch.minimum(a, b)`, `torch.maximum(a, b)`, or `torch.tensor(5) // x`: TorchScript takes numbers out "
        "of the tensors there",
        r"\b(min|max)\(|//",
    ),
    _Rule(
        r"type Tensor but is actually of type (int|float)\b",
        "begin with a tensor, `{returned} = torch.tensor(0.0)`; TorchScript stays with a number if it began so",
    ),
    _Rule(
        r"(Expected|had type|branch has type) (int|float|Tensor) .*(got|of type|has type) (?P<type>int|float|Tensor)\b",
        "give it one type: {type} from the beginning, as `0.0` or `torch.tensor(0.0)` for `0`; or convert the other, "
        "as with `float(...)`",
    ),
    # lists
    _Rule(rf"to type (?P<type>.*\]) is matched to type {_EMPTY}", _SAY + "`torch.jit.annotate({type}, {empty})`"),
    _Rule(rf"Expected (?P<type>.*\]) but got {_EMPTY}", _SAY + "`torch.jit.annotate({type}, {empty})`"),
    _Rule(
        r"matched to type Tensor is matched to type (?P<type>.+?)\.?$",
        _SAY + "`items: List[{type}] = []`; in an expression, `torch.jit.annotate(List[{type}], [])`",
    ),
    _Rule(
        r"found type 'Dict\[str, Tensor\]'",
        _SAY + "`items: Dict[int, Tensor] = {{}}`; in an expression, `torch.jit.annotate(Dict[int, Tensor], {{}})`",
        r"\] = ",
    ),
    _Rule(
        "range cannot be used", "write `range(n - 1, -1, -1)` for `reversed(range(n))`, and `list(range(n))` elsewhere"
    ),
    _Rule(r"reversed\(Tensor 0\)", "write `items[::-1]` for `reversed(items)`"),
    _Rule(r"found type 'List\[Tensor\]'", "stack the tensors, `torch.stack(items).{reduced}(0)`"),
]
_POINTED: Final = re.compile(
    r"^(?P<before>(?:.*\n *~+\n)*)(?P<line>.*)\n(?P<indent> *)(?P<mark>~+) <--- HERE", re.MULTILINE
)
_NOT_EXPORTED: Final = re.compile("attribute assignment|uninitialized parameters")
"""TorchScript's words for things that `torch.export` refuses as well: attributes that change, parts without sizes."""


def remedy_for(module: nn.Module, said: str) -> str:
    """Words what to do, for a module of which TorchScript said something."""
    words = "write it otherwise"
    for rule in _RULES:
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
