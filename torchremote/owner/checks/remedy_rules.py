"""Lists the remedies for what TorchScript refuses: of parts, attributes, types and values. See remedies.py."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rule(NamedTuple):
    said: str  # a pattern of TorchScript's words
    remedy: str  # in braces: groups of the pattern, and what `_seen` of remedies.py gives
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
VALUE_RULES: Final = [
    # parts and functions
    Rule("uninitialized parameters", "call the module once in the factory, so that its lazy parts get their sizes"),
    Rule(r"Callable\[\.\.\., Any\]", "host the part {compiled!r} without torch.compile, which no owner runs"),
    Rule("torch/_dynamo/", "host it without torch.compile, which no owner runs"),
    Rule("torch/distributions/", _DISTRIBUTIONS),
    Rule("Recursive calls are not supported", _DISTRIBUTIONS, r"distributions\.|Normal\("),  # at the second try
    Rule(r'keyword-only arguments with defaults:\n  File ".*/torch/', "write what it does with operators of tensors"),
    Rule("Expected a single top-level function", "write a function with `def` for the lambda"),
    Rule(
        "keyword-only arguments with defaults",
        "write each of these as an ordinary argument, `k: int = 5`; it may be passed by keyword all the same",
    ),
    Rule(
        "Unknown type (name|constructor|annotation)|could not be resolved because",
        "TorchScript reads no `type` alias, NewType, Annotated, Literal or Sequence, and no name of a class's body: "
        "write what it stands for, or assign an alias plainly, at the top level, `Batch = list[Tensor]`",
    ),
    Rule(
        r"type 'Tensor \(inferred\)' for argument '(?P<name>\w+)' but instead found type '(?P<type>.+)'",
        "annotate the argument, `{name}: {type}`; without that it is a tensor",
    ),
    Rule("aten::[fi]info", "keep what you need of it, `self.lowest = torch.finfo(torch.float32).min` in __init__"),
    Rule("type hint for result of tolist", "annotate what is given the list, `values: List[float] = x.tolist()`"),
    # attributes and globals
    Rule(
        r"has no attribute '(?P<name>\w+)' .*Dictionary inputs must have entries",
        "annotate {name!r} in the body of the class, `{name}: Dict[int, Tensor]`, and assign it in __init__",
    ),
    Rule(
        r"has no attribute '(?P<name>\w+)' .*List trace inputs must have elements",
        "annotate {name!r} in the body of the class, `{name}: List[Tensor]`, and assign it in __init__",
    ),
    Rule(
        r"has no attribute '(?P<name>\w+)' .*failed to convert Python type",
        "assign what the methods use of {name!r} in __init__, each as an attribute of its own, as in "
        "`self.eps = {name}.eps`; of a number of numpy, make one of Python, `float(...)`",
    ),
    Rule(
        r"has no attribute '\w+'",
        "assign it in __init__, `self.{of_class} = self.{of_class}`; TorchScript knows no values of a class",
    ),
    Rule(
        "python value of type 'Tensor'",
        "register it, `self.register_buffer({buffer!r}, {global})` in __init__, and use `self.{buffer}`",
    ),
    Rule(
        "python value of type '(?P<type>bool|float|int|str)'",
        _KEEP + "; in a function, make it a default, `{attribute}: {type} = {code}`",
    ),
    Rule(r"python value of type '(?!type'|module'|\w*(function|method))", _KEEP),
    # what may be None
    Rule("Expected NoneType but got (?P<type>.+?):?$", "annotate it in the body of the class: {optional}"),
    Rule("Expected (?P<type>.+) but got NoneType", "annotate it in the body of the class: {optional}"),
    Rule(
        r"Variable '(?P<name>\w+)' previously had type NoneType .* of type (?P<type>.+)",
        "annotate it where it is None, `{name}: Optional[{type}] = None`",
    ),
    Rule(
        r"Variable '(?P<name>\w+)' previously had type (?P<type>.+) but .* of type NoneType",
        "annotate it where it is assigned first, `{name}: Optional[{type}] = ...`",
    ),
    Rule(
        r"value of type Optional\[.*\] to bool",
        "assign it to a local name, `value = {code}`, and write `value is not None and value` for it as a condition, "
        "and `value if value is not None and value else other` for `{code} or other`",
        r"\nself\.\w+$",
    ),
    Rule(
        r"value of type Optional\[.*\] to bool",
        "write `{code} is not None and {code}` for it as a condition, and `{code} if {code} is not None and {code} "
        "else other` for `{code} or other`",
    ),
    Rule("value of type NoneType to bool", "write `{code} is not None`"),
    Rule(
        r"found type 'Optional\[|'Optional\[.*\]' object",
        "assign an attribute to a local name, `value = self.value`, and ask `value is not None` before you use `value`",
    ),
    # numbers
    Rule(
        "augmented assignment: FloorDiv",
        "write `a = a // b`, or `a.floor_divide_(b)` for a tensor that is changed in place",
    ),
    Rule("augmented assignment: MatMult", "write `a = a @ b`"),
    Rule(
        r"(Expected|type|must be) (?P<type>int|float)s?\b.* (got|of type|found) number",
        "write `{type}(...)` around what `.item()` gives, of which TorchScript does not know the kind",
    ),
    Rule(r"List\[number\]", "write `float(...)` or `int(...)` around what `.item()` gives, in the list"),
    Rule(r"to Union\[|List\[Union\[", "write numbers of one kind in a list, as `2.0` for `2` beside `1.5`"),
    Rule(
        r"type Tensor but is actually of type (int|float)\b",
        "write `torch.minimum(a, b)`, `torch.maximum(a, b)`, or `torch.tensor(5) // x`: TorchScript takes numbers out "
        "of the tensors there",
        r"\b(min|max)\(|//",
    ),
    Rule(
        r"type Tensor but is actually of type (int|float)\b",
        "begin with a tensor, `{returned} = torch.tensor(0.0)`; TorchScript stays with a number if it began so",
    ),
    Rule(
        r"(Expected|had type|branch has type) (int|float|Tensor) .*(got|of type|has type) (?P<type>int|float|Tensor)\b",
        "give it one type: {type} from the beginning, as `0.0` or `torch.tensor(0.0)` for `0`; or convert the other, "
        "as with `float(...)`",
    ),
    # lists
    Rule(rf"to type (?P<type>.*\]) is matched to type {_EMPTY}", _SAY + "`torch.jit.annotate({type}, {empty})`"),
    Rule(rf"Expected (?P<type>.*\]) but got {_EMPTY}", _SAY + "`torch.jit.annotate({type}, {empty})`"),
    Rule(
        r"matched to type Tensor is matched to type (?P<type>.+?)\.?$",
        _SAY + "`items: List[{type}] = []`; in an expression, `torch.jit.annotate(List[{type}], [])`",
    ),
    Rule(
        r"found type 'Dict\[str, Tensor\]'",
        _SAY + "`items: Dict[int, Tensor] = {{}}`; in an expression, `torch.jit.annotate(Dict[int, Tensor], {{}})`",
        r"\] = ",
    ),
    Rule(
        "range cannot be used", "write `range(n - 1, -1, -1)` for `reversed(range(n))`, and `list(range(n))` elsewhere"
    ),
    Rule(r"reversed\(Tensor 0\)", "write `items[::-1]` for `reversed(items)`"),
    Rule(r"found type 'List\[Tensor\]'", "stack the tensors, `torch.stack(items).{reduced}(0)`"),
]
