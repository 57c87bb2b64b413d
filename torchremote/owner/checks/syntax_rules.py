"""Lists the remedies for syntax that TorchScript does not have. See remedies.py."""

from __future__ import annotations

from typing import Final

from .remedy_rules import Rule

_OF_A_BASE: Final = (
    "TorchScript knows no method of a base that the class has, too: hold a module of the base as a part, "
    "`self.base = nn.Linear(4, 4)` in __init__, and call `self.base(x)`; or, if the base is yours, have it compute "
    "that in a method of another name, and call this one"
)
SYNTAX_RULES: Final = [
    # methods of bases
    Rule(r"^.*(\bsuper\(|\b[A-Z]\w*\.\w+\(self[,)]).*\n *~+ <--- HERE", _OF_A_BASE),
    Rule(r"Can't redefine method: (?P<name>\w+) on class", "leave out the other name of {name}(). " + _OF_A_BASE),
    # what `unread.py` words
    Rule(r"`\+(?P<operand>.+)` is a unary plus", "write `{operand}` for it"),
    Rule(
        "else branches of for loops|has an `else`",
        "write the lines of the `else` after the loop, and if the loop has a `break`, under `if ended:`, where "
        "`ended = True` is before the loop, and `ended = False` before each `break`",
    ),
    Rule("names no exception", "name it, as in `raise RuntimeError('...')`"),
    Rule(
        r"takes in `\*\*(?P<mapping>.+)`, which",
        "make the dict first, and write `merged.update({mapping})`, in the order of the items",
    ),
    Rule("asks for a name of Python's own", "leave the question out, or ask in __init__ and keep the answer in `self`"),
    # statements and expressions
    Rule("NamedExpr aren't supported", "assign it in a line of its own, before: `k = n + 1` for `(k := n + 1)`"),
    Rule("Comprehension ifs", "write a loop, `for k in items:`, with `if` and `found.append(k)`"),
    Rule("Only a single generator", "write loops in each other, with `found.append(...)`"),
    Rule(
        "(function|class) definitions aren't", "write it at the top level of the file, with what it uses as arguments"
    ),
    Rule("Lambda aren't supported", "write a function with `def`, at the top level of the file, for the lambda"),
    Rule("Match aren't supported", "write `if`, `elif` and `else` for `match`"),
    Rule("try blocks aren't", "ask before what would raise, as in `if key in mapping:`, and leave out `try`"),
    Rule("Set(Comp)? aren't supported", "write a dict for the set, `{{k: True}}`, or a list"),
    Rule("import statements", "import it at the top of the file"),
    Rule("Yield aren't supported", "append what it yields to a list, and return the list"),
    Rule("keyword-arg expansion", "write each argument by its name, as in `dim=0`"),
    Rule(
        "infer the expected size of a list",
        "write `items + [k]` for `[*items, k]`, `first, rest = items[0], items[1:]` for `first, *rest = items`, "
        "and the arguments of a call one by one",
    ),
    Rule("annotated assignments without", "assign a value where it is annotated"),
    Rule("formatting in JoinedStr", "return the number, and format it where you call; or write `{{n}}` alone"),
    Rule("conversion in JoinedStr", "write `{{n}}` alone, and `n={{n}}` for `{{n=}}`"),
    Rule("print doesn't accept", "write the values alone, and join them to one text for `sep` and `end`"),
    # parts
    Rule(
        r"no attribute or method '__call__'|cannot call a value of type 'Tuple\[",
        "loop over all parts and ask for the number, `for i, part in enumerate(self.parts):` with "
        "`if i >= 1 and i < 3:` for `self.parts[1:3]`",
    ),
    Rule(
        "Can not iterate over a module list or tuple",
        "write `for i, part in enumerate(self.parts):`, and `values[i]` for the other",
    ),
    Rule(
        "Expected integer literal for index",
        "loop over the parts, `for i, part in enumerate(self.parts):`, with `if i == n:`",
    ),
    # questions of classes
    Rule(
        "Unknown type name '(dict|object)'",
        "leave the question out where the type says it; of an Any, ask "
        "`torch.jit.isinstance(value, Dict[str, int])` for a dict",
        "isinstance",
    ),
    Rule(
        r"Unknown type name '(?P<cls>[\w.]+)'",
        "ask of a part in __init__, `self.answer = isinstance(self.part, {cls})`, and use `self.answer`",
        r"isinstance\(self\.",
    ),
    Rule("type apply cannot be used in a type", "write `value is None`", "isinstance"),
    # operators
    Rule("aten::bitwise_not", "write `-n - 1` for `~n` of an integer", "~"),
    Rule(
        "aten::round",
        "return the number, and round it where you call; or write `round(x * 10.0) / 10.0`, "
        "whose last digit may differ",
        r"round\(",
    ),
    Rule(
        r"aten::mul[\s\S]*found type 'str'",
        "write `''.join([text for i in range(n)])` for `text * n`",
        r"\*",
    ),
    Rule(
        r"prim::(max|min)[\s\S]*found type 'str'",
        "write `a if a > b else b` for `max(a, b)`, and `a if a < b else b` for `min(a, b)`",
    ),
]
