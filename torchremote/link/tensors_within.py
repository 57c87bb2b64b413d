"""Finds the tensors in a value of any kind, and changes them. All else stays the very object that it is.

It looks into containers of exactly the classes of Python and torch that `_items` lists. Objects of other classes are
not taken apart, be they registered with pytree or not: only their own class knows how to make one anew.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from ..jit.read.shown import repr_of

_PLAIN: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})
_SEQUENCES: Final = frozenset({list, tuple, deque})
_MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict})
_SETS: Final = frozenset({set, frozenset})


@dataclass(frozen=True)
class Path:
    """Says where in a value a part of it stands."""

    outer: Path | None = None
    key: Any = None
    is_field: bool = False  # of a NamedTuple

    def __str__(self) -> str:
        steps: list[str] = []
        path = self
        while path.outer is not None:
            steps.append(f".{path.key}" if path.is_field else f"[{_shown(path.key)}]")
            path = path.outer
        return "".join(reversed(steps))


def _shown(key: Any) -> str:
    """Shows a key. It may be, or have in it, a tensor that was not checked yet: showing one of these ends a process."""
    if type(key) is tuple:
        return f"({', '.join(map(_shown, key))})"
    return repr_of(key) if type(key) in _PLAIN else f"<{type(key).__name__}>"


def parts_of(value: Any, leaves: type | tuple[type, ...] = torch.Tensor) -> Iterator[tuple[Any, Path]]:
    """Yields each leaf in `value`, and each object that is neither container nor number nor text, once. Keys, too.

    Args:
        leaves: the classes whose objects are not looked into.
    """
    waiting, seen = [(value, Path())], set()
    while waiting:
        part, path = waiting.pop()
        if type(part) in _PLAIN or id(part) in seen:
            continue
        seen.add(id(part))
        items = None if isinstance(part, leaves) else _items(part)
        if items is None:
            yield part, path
        else:
            is_field = _is_named_tuple(type(part))
            waiting += [(item, Path(path, key, is_field)) for key, item in items][::-1]
            if type(part) in _MAPPINGS:
                waiting += [(key, Path(path, key)) for key in part if type(key) not in _PLAIN]


def with_changes(value: Any, changes: Iterable[tuple[Any, Any]]) -> Any:
    """Returns `value` with other parts in the place of some.

    Args:
        changes: parts that `parts_of` yielded, each with what takes its place; the same object changes nothing.

    Returns:
        `value` itself if nothing changes. Otherwise copies of the containers around what changes, of the same classes;
        an object that stood in two places stands in both again.
    """
    done = {id(old): new for old, new in changes if new is not old}
    return _rebuilt(value, done) if done else value


def changed(value: Any, change: Callable[[Any], Any], leaves: type | tuple[type, ...] = torch.Tensor) -> Any:
    """Returns `value` with what `change` returns in the place of each leaf: see `with_changes`."""
    found = [part for part, _ in parts_of(value, leaves) if isinstance(part, leaves)]
    return with_changes(value, [(part, change(part)) for part in found])


def _items(part: Any) -> list[tuple[Any, Any]] | None:
    """Returns the parts of a container with their keys. None if `part` is no container."""
    kind = type(part)
    if kind in _SEQUENCES or kind in _SETS:
        return list(enumerate(part))
    if kind in _MAPPINGS:
        return list(part.items())
    if _is_named_tuple(kind):
        return list(zip(kind._fields, part, strict=True))
    return list(enumerate(part)) if _is_structure(kind) else None


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple) and hasattr(kind, "_make")


def _is_structure(kind: type) -> bool:
    """Says whether `kind` is one of torch.return_types, as of `tensor.max(0)`."""
    return kind.__module__ == "torch.return_types" and issubclass(kind, tuple)


def _rebuilt(part: Any, done: dict[int, Any]) -> Any:
    """Returns `part`, or a copy if something in it changes. `done`: what was returned already, by the part's id."""
    if type(part) in _PLAIN:
        return part
    if id(part) in done:
        return done[id(part)]
    items = None if isinstance(part, torch.Tensor) else _items(part)
    if items is None:
        return part
    values = [value for _, value in items]
    if isinstance(part, (tuple, set, frozenset)):
        inner, same = _all_rebuilt(values, done)
        result = part if same else _made_like(part, inner)
    else:
        result = copy.copy(part)
        done[id(part)] = result  # it may contain itself
        inner, same = _all_rebuilt(values, done)
        if type(part) in _MAPPINGS:
            keys, same_keys = _all_rebuilt([key for key, _ in items], done)
            inner, same = list(zip(keys, inner, strict=True)), same and same_keys
        if same:
            result = part
        else:
            result.clear()
            (result.update if type(part) in _MAPPINGS else result.extend)(inner)
    done[id(part)] = result
    return result


def _all_rebuilt(parts: list[Any], done: dict[int, Any]) -> tuple[list[Any], bool]:
    """Returns each of `parts` as `_rebuilt` does, and whether they all are the same objects still."""
    inner = [_rebuilt(part, done) for part in parts]
    return inner, all(new is old for new, old in zip(inner, parts, strict=True))


def _made_like(part: Any, items: list[Any]) -> Any:
    """Makes a tuple or a set of the class of `part`."""
    kind = type(part)
    if not _is_named_tuple(kind):
        return kind(items)
    made = kind._make(items)
    if hasattr(part, "__dict__"):  # a class that derives from a NamedTuple may have attributes, too
        made.__dict__.update(part.__dict__)
    return made
