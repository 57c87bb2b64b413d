"""torch's RemoteModule and its instantiator, by the same names, on this package's compiler."""

import sys

import torchremote

from .. import jit
from . import instantiator, remote_module, templates

# The paths under which torch has them, as in torch.distributed.nn: programs that exchange one import rely on these.
sys.modules["torchremote.remote_module"] = remote_module
setattr(torchremote, "remote_module", remote_module)  # noqa: B010
for _name, _module in (("instantiator", instantiator), ("templates", templates)):
    sys.modules[f"{jit.__name__}.{_name}"] = _module
    setattr(jit, _name, _module)
