"""Declares what `create_async` and `connect_async` return: a stub, or replicas, that are not there yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, Generic

from ...typing import StubT


class Pending(ABC, Generic[StubT]):
    """Stands for a stub that is not there yet. `create_async` and `connect_async` return it.

    `.wait()` returns the stub, and so does `await` in an event loop. Both raise the errors of the owner.

    In a group with a worker "owner":

    >>> import torch
    >>> from torchremote import create_async
    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
    >>> layer = pending.wait()
    >>> pending.done()
    True
    """

    @abstractmethod
    def done(self) -> bool:
        """Says whether the owner has answered.

        Returns:
            True: the owner has answered. `wait` returns or raises at once, unless the owner could not import something
            in the request: then `wait` builds the module here and sends it.

        >>> import torch
        >>> from torchremote import create_async
        >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
        >>> layer = pending.wait()
        >>> pending.done()
        True
        """

    @abstractmethod
    def wait(self) -> StubT:
        """Waits for the owner's answer, and returns the stub.

        Returns:
            The stub. Every call returns the same one.

        Raises:
            CreationError: the owner could not create the module.
            MismatchError: the module does not implement the interface, or the state in `checkpoint` does not fit it.
            PlaceError: there is no such device on the owner.
            NotSavableError: with `checkpoint`, as from `AtOwner.checkpoint`.
            CapacityError: the owner hosts as many modules of the interface as a table holds.
            ServedNameError: the name is taken on the owner; or, of `connect_async`, the owner serves nothing under it.
            WireError: the owner is lost, or does not answer in time.
            ProtocolError: the owner runs a release of torchremote that does not understand this one.

        >>> import torch
        >>> from torchremote import create_async
        >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
        >>> layer = pending.wait()
        >>> layer is pending.wait()
        True
        """

    @abstractmethod
    def until_done(self) -> Generator[Any, None, None]:
        """Waits in an event loop until the owner has answered."""

    def __await__(self) -> Generator[Any, None, StubT]:
        """Waits in an event loop of asyncio, and returns the stub."""
        yield from self.until_done()
        return self.wait()
