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
]
