"""Shows values of users in errors, whatever their classes do."""

from __future__ import annotations


def shown(value: object) -> str:
    """Returns `repr(value)`, or names the class of a value that has none.

    An int of thousands of digits has none, nor has a type that nests too deeply.
    """
    try:
        return repr(value)
    except Exception:  # it is the user's code, which may raise anything
        cls = type(value)
        return f"an object of class {cls.__module__}.{cls.__qualname__}".replace("class builtins.", "class ")
