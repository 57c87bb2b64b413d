"""Defines every error that torchremote raises, grouped by whose fault it is.

All that are here derive from `TorchRemoteError`, and each also from the built-in exception of its kind, so `except
TimeoutError` works as it does elsewhere. A timeout or an option that is badly formed is a plain ValueError. A message
reads *where: what was found; what is possible; what to do*.
"""

from __future__ import annotations

import torch


class TorchRemoteError(Exception):
    """Base class of all errors of torchremote."""

    _some_may_have_run = False  # of the calls of `<m>_many`, although the class of the error says that none has


# -- the user's interface, or how it is used


class InterfaceError(TorchRemoteError, TypeError):
    """Raised for an interface that cannot be compiled, and for a class that is no interface."""


class UnsupportedTypeError(InterfaceError):
    """Raised for a type in an interface that can never cross."""


class NotYetSupportedError(UnsupportedTypeError):
    """Raised for a type in an interface that could cross, but does not yet."""


class GroupError(TorchRemoteError, RuntimeError):
    """Raised for what cannot be done in a group: to join it, to leave it in a call, to spawn an owner or run a hub."""


class PlaceError(TorchRemoteError, ValueError):
    """Raised for a worker or device that does not exist, and for a `where` that names neither."""


class AbsentWorkerError(PlaceError):
    """Raised for a worker that is not in the group, and may still join it: it has not started, or it has ended."""


class NotSavableError(TorchRemoteError, RuntimeError, torch.jit.Error):
    """Raised for a stub that cannot be saved or sent, and for a module whose state cannot be read as a whole."""


class ArchiveError(TorchRemoteError, ValueError):
    """Raised for a file that is no TorchScript archive, or that holds something else where a stub should be."""


class ProtocolError(TorchRemoteError, RuntimeError):
    """Raised when two releases of torchremote do not understand each other, or for an archive of such a release."""


class NativeError(TorchRemoteError, RuntimeError):
    """Raised when the native part cannot be built, as without a compiler, and where it is needed and not in use."""


class NotInitializedError(TorchRemoteError, RuntimeError):
    """Raised when torch.distributed.rpc is not running in this process, or just ends."""


# -- the module on its owner


class CreationError(TorchRemoteError, RuntimeError):
    """Raised when the owner could not build, place or script the module."""


class MismatchError(TorchRemoteError, TypeError):
    """Raised for a module that does not implement the interface under which it is offered, and for a state that does
    not fit a module."""


class ServedNameError(TorchRemoteError, LookupError):
    """Raised for a served name that is taken, and for one that nobody serves."""


class CapacityError(TorchRemoteError, RuntimeError):
    """Raised when an owner hosts as many modules of one interface as a table holds."""


# -- a call


class ArgumentError(TorchRemoteError, TypeError):
    """Raised for a call whose arguments do not fit the method. Nothing was sent."""


class StubError(TorchRemoteError, TypeError):
    """Raised for what torch.nn.Module has and a stub cannot do. The message says what to write instead."""


class DisconnectedError(TorchRemoteError, RuntimeError):
    """Raised for a call on a stub that is connected to no module."""


class RemoteError(TorchRemoteError, RuntimeError):
    """Raised when the remote method, or what else the owner was asked to do, failed. It has the remote message."""


class StaleStubError(RemoteError):
    """Raised when the stub's module was withdrawn, or its owner was restarted: create or connect again."""


class WireError(TorchRemoteError, ConnectionError):
    """Raised when a call or its answer did not get through. Nobody knows whether the method ran."""


class NotInGroupError(WireError):
    """Raised for a call to a worker that left the group or crashed, and is not back. Nothing was sent."""


class CallTimeoutError(WireError, TimeoutError):
    """Raised when no answer came within the stub's timeout. The owner goes on working."""


# -- torchremote itself


class InternalError(TorchRemoteError, RuntimeError):
    """Raised for a bug of torchremote: TorchScript refuses generated code. The message shows the numbered source."""

    def __init__(self, message: str, source: str = "") -> None:
        lines = source.splitlines()
        numbered = "".join(f"\n{number:4} | {line}" for number, line in enumerate(lines, 1))
        super().__init__(message + numbered)
