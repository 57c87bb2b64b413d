"""Caches what was compiled, so that it is compiled once. Safe for threads.

A failed attempt is not cached. What TorchScript registered until then stays, and the next attempt copes with that.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ...locks import new_lock

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# All caches share one lock. TorchScript's compiler is not made for two threads, and a thread that wants an interface
# that is being compiled has to wait anyway. It is reentrant, since whoever compiles a contract compiles its table, too.
COMPILING = new_lock()

# Whoever scripts or exports a user's module holds this one. While torch.export traces, it replaces nn.Module's
# __getattr__ and __call__ for all threads, so nobody may read another module then. To trace runs the user's code, which
# may import a module and wait for one whose interfaces are being compiled. So whoever has this lock may take COMPILING,
# but traces without it; and who has COMPILING does not take this one.
READING_MODULES = new_lock()


class Cache(Generic[Key, Value]):
    """A mapping that makes a missing value, once."""

    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}

    def known(self, key: Key) -> Value | None:
        """Returns the value under `key`, if there is one. It never waits for what is being compiled."""
        # Reading a dict is atomic, and a value is stored only when it is whole, so this needs no lock.
        return self._values.get(key)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Returns the value under `key`. Calls `make` if there is none yet, and keeps nothing if `make` raises."""
        found = self.known(key)
        if found is not None:
            return found
        with compiling():
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]


@contextmanager
def compiling() -> Iterator[None]:
    """Holds COMPILING, and pauses Python's garbage collector.

    Compiling makes many objects, without cycles, and nearly all of them live on. They would start the collector again
    and again, and each time it would walk through all of torch.

    The pause is under the lock. Otherwise a thread could find the collector paused by another one, and leave it so.
    """
    with COMPILING:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
