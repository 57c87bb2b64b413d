"""Every error that torchremote raises, grouped by whose fault it is.

All derive from `TorchRemoteError`, and each also from the built-in exception that its kind goes by, so that
`except TimeoutError` and the like work as they do elsewhere. A message reads
*where: what was found; what is possible; what to do*.
"""

from __future__ import annotations

import torch


class TorchRemoteError(Exception):
    """Base class of all errors of torchremote."""


# -- the user's interface, or how it is used


class InterfaceError(TorchRemoteError, TypeError):
    """An interface that cannot be compiled, or a class that is none."""


class UnsupportedTypeError(InterfaceError):
    """A type in an interface that can never cross."""


class NotYetSupportedError(UnsupportedTypeError):
    """A type in an interface that could cross, and does not yet."""


class PlaceError(TorchRemoteError, ValueError):
    """A worker or device that does not exist, or a `where` that names neither."""


class NotSavableError(TorchRemoteError, RuntimeError, torch.jit.Error):
    """A stub that cannot be saved: its module has no name, or TorchScript cannot write its interface."""


class ArchiveError(TorchRemoteError, ValueError):
    """A file that is no TorchScript archive, or that holds something else where a stub should be."""


class ProtocolError(TorchRemoteError, RuntimeError):
    """Two releases of torchremote that do not understand each other, or an archive that another release saved."""


class NotInitializedError(TorchRemoteError, RuntimeError):
    """torch.distributed.rpc is not running in this process."""


# -- the module on its owner


class CreationError(TorchRemoteError, RuntimeError):
    """The owner could not build, place or script the module."""


class MismatchError(TorchRemoteError, TypeError):
    """A module that does not implement the interface it is offered under."""


class ServedNameError(TorchRemoteError, LookupError):
    """A served name that is taken, or that nobody serves."""


class CapacityError(TorchRemoteError, RuntimeError):
    """An owner that hosts as many modules of one interface as a table holds."""


# -- a call


class ArgumentError(TorchRemoteError, TypeError):
    """A call whose arguments do not fit the method. Nothing was sent."""


class DisconnectedError(TorchRemoteError, RuntimeError):
    """A call on a stub that is attached to no module."""


class RemoteError(TorchRemoteError, RuntimeError):
    """The remote method raised. The message begins with interface, method, worker and the remote message."""


class StaleStubError(RemoteError):
    """The stub's module was withdrawn."""


class WireError(TorchRemoteError, ConnectionError):
    """The call or its answer did not get through; whether the method ran is not known."""


class CallTimeoutError(WireError, TimeoutError):
    """No answer within the stub's timeout. The owner's work is not stopped."""


# -- torchremote itself


class InternalError(TorchRemoteError, RuntimeError):
    """A bug of torchremote: generated code that TorchScript refuses. The message shows the numbered source."""

    def __init__(self, message: str, source: str = "") -> None:
        lines = source.splitlines()
        numbered = "".join(f"\n{number:4} | {line}" for number, line in enumerate(lines, 1))
        super().__init__(message + numbered)
