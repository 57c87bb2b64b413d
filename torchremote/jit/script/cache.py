"""Compiled once, by digest. Thread-safe; a failed compile leaves nothing behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# One lock for every cache: TorchScript's compiler is not made for two threads, and whoever asks for an interface that
# is being compiled has to wait for it anyway. Reentrant, since compiling a contract compiles what it stands on.
COMPILING = threading.RLock()


class Cache(Generic[Key, Value]):
    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value under `key`, made by `make` when there is none yet. What `make` raises is raised, and not kept."""
        # A dict read is atomic, and a value is stored only when it is whole: what is there needs no lock.
        found = self._values.get(key)
        if found is not None:
            return found
        with compiling():
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]


@contextmanager
def compiling() -> Iterator[None]:
    """Holds COMPILING, and pauses Python's collector. What compiling makes is not circular; but there is much of it,
    and all of it lives, so that the collector would look through all of torch again and again: a fifth of the time.

    Under the lock, or the collector could stay paused: a thread would find it so because another had paused it.
    """
    with COMPILING:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
