"""Remote PyTorch modules: typed interfaces, compiled to TorchScript that runs over torch.distributed.rpc."""

from . import supported as supported  # first: it refuses a torch that is not fit
from ._version import __version__
from .archives import load, reconnect
from .at_owner import at_owner
from .create import Pending, connect, create, create_async
from .creations import create_many
from .errors import TorchRemoteError
from .host import serve, withdraw
from .jit import batched, remote_scriptable
from .options import rpc_options
from .remote_module import RemoteModule
from .sending import register
from .stub import remote_interface, with_timeout

register()

__all__ = [
    "Pending",
    "RemoteModule",
    "TorchRemoteError",
    "__version__",
    "at_owner",
    "batched",
    "connect",
    "create",
    "create_async",
    "create_many",
    "load",
    "reconnect",
    "remote_interface",
    "remote_scriptable",
    "rpc_options",
    "serve",
    "with_timeout",
    "withdraw",
]
