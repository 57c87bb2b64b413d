"""Shows values of users in errors, whatever their classes do."""

from __future__ import annotations

import enum

import torch


def repr_of(value: object) -> str:
    """Returns `repr(value)`, or names the class of a value that has none.

    An int of thousands of digits has none, nor has a type that nests too deeply.
    """
    try:
        return repr(value)
    except Exception:  # it is the user's code, which may raise anything
        return _class_of(value)


def shown(value: object) -> str:
    """Shows a number, a text or the like. Names the class of any other value, which may be long."""
    if value is None or isinstance(value, (int, float, complex, str, enum.Enum, torch.dtype, torch.device)):
        return f"{repr_of(value):.60}" if type(value).__module__ != "numpy" else f"{repr_of(value):.60} (numpy's)"
    return _class_of(value)


def _class_of(value: object) -> str:
    cls = type(value)
    return f"an object of class {cls.__module__}.{cls.__qualname__}".replace("class builtins.", "class ")
