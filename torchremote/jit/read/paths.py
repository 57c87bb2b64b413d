"""The dotted paths of classes: how a class is named on every worker, and found by that name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

# How a process that multiprocessing spawned knows the main script, while it reads it and after.
_SPAWNED_MAIN: Final = "__mp_main__"

_in_definition: ContextVar[type | None] = ContextVar("_in_definition", default=None)


@contextmanager
def in_definition(cls: type) -> Iterator[None]:
    """Lets the classes in the body of `cls` be found while it is decorated: its module gets its name only after that.

    A class of a function has no path, and changes nothing.
    """
    token = _in_definition.set(None if "<locals>" in cls.__qualname__ else cls)
    try:
        yield
    finally:
        _in_definition.reset(token)


def path_as_named(cls: type) -> str:
    """Returns the dotted path that a class has by its own names."""
    return f"{'__main__' if cls.__module__ == _SPAWNED_MAIN else cls.__module__}.{cls.__qualname__}"


def find_class(path: str, load: Callable[[str], Any] = sys.modules.get) -> Any:
    """Finds the object that `path` names, in modules that `load` gives; None if there is none."""
    outer = _in_definition.get()
    if outer is not None and path.startswith(f"{path_as_named(outer)}."):
        return _member(outer, path.removeprefix(f"{path_as_named(outer)}.").split("."))
    parts = path.split(".")
    if parts[0] == "__main__" and _SPAWNED_MAIN in sys.modules:
        parts[0] = _SPAWNED_MAIN
    for count in range(len(parts) - 1, 0, -1):
        found = _member(load(".".join(parts[:count])), parts[count:])
        if found is not None:
            return found
    return None


def _member(found: Any, names: list[str]) -> Any:
    """Returns what is found by `names` in an object; None if there is nothing."""
    for name in names:
        found = getattr(found, name, None)
    return found
