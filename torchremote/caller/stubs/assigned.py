"""Says what stubs, and replicas, take as attributes."""

from __future__ import annotations

import sys

from torch import nn

from ... import _torch
from ...errors import StubError
from ...jit.read.shown import repr_of


def takes(where: str, name: str, value: object, training: bool) -> bool:
    """Says whether an attribute of a stub, or of replicas, is set. The `__setattr__` of their class calls it.

    Args:
        where: names the stub in errors.
        training: its mode.

    Returns:
        True: set the attribute. False: leave it. The mode is that one already; or torch.compile's wrapper hands down
        its own, and calls `train` next.

    Raises:
        StubError: it is another mode, or a part.
    """
    if name == "training":
        if value is training or _torch.train_follows(sys._getframe(2)):
            return False
        raise StubError(
            f"{where}: training = {repr_of(value)}: the mode is the remote module's, which all its callers share; "
            f"call its train({repr_of(value)})"
        )
    if isinstance(value, nn.Module):
        raise StubError(
            f"{where}: {name} = {type(value).__name__}(...): it has no parts here; put both into a module of your own"
        )
    return True


def check_deleted(where: str, name: str) -> None:
    """Raises StubError if `name` is that of the mode."""
    if name == "training":
        raise StubError(f"{where}: del training: the mode is the remote module's; call its train() or eval()")
