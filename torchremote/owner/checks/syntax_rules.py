"""Lists the remedies for syntax that TorchScript does not have. See remedies.py."""

from __future__ import annotations

from typing import Final

from .remedy_rules import Rule

SYNTAX_RULES: Final = [
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
