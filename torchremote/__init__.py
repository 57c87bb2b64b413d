"""Remote PyTorch modules: typed interfaces, compiled to TorchScript that runs over torch.distributed.rpc."""

from typing import TYPE_CHECKING

from . import errors as errors
from . import supported as supported  # It comes before all that uses torch, and refuses one that is not fit.
from ._version import __version__
from .archive.load import load, reconnect
from .caller.creating.create import create, create_async
from .caller.creating.create_many import create_many
from .caller.creating.pending import Pending
from .caller.finding import failed_calls as failed_calls  # See caller/stubs/stub.py, Note [Set from elsewhere].
from .caller.finding import follow as follow  # The same note.
from .caller.finding.connect import connect, connect_async, withdraw
from .caller.replicas import send_replicas as send_replicas  # The same note.
from .caller.stats import stats
from .caller.stubs import as_module as as_module  # The same note.
from .caller.stubs import send_model as send_model  # The same note.
from .caller.stubs.at_owner import at_owner
from .caller.stubs.stub import remote_interface, with_timeout
from .dropin.remote_module import RemoteModule
from .errors import TorchRemoteError
from .group.join import group_address, join, leave
from .group.spawn import spawn
from .jit import batched, detached, idempotent, remote_scriptable
from .options import rpc_options
from .owner.compiled import compiled
from .owner.exported import exported
from .owner.served import serve

__all__ = [
    "Pending",
    "RemoteModule",
    "TorchRemoteError",
    "__version__",
    "at_owner",
    "batched",
    "compiled",
    "connect",
    "connect_async",
    "create",
    "create_async",
    "create_many",
    "detached",
    "errors",
    "exported",
    "group_address",
    "idempotent",
    "join",
    "leave",
    "load",
    "reconnect",
    "remote_interface",
    "remote_scriptable",
    "rpc_options",
    "serve",
    "spawn",
    "stats",
    "with_timeout",
    "withdraw",
]


def __dir__() -> list[str]:
    return list(__all__)


if not TYPE_CHECKING:  # type checkers would take any name for one of the module

    def __getattr__(name: str) -> object:
        """Says where an error is that is looked for here."""
        if isinstance(getattr(errors, name, None), type):
            raise AttributeError(
                f"torchremote has no {name}; errors are in torchremote.errors: torchremote.errors.{name}"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
