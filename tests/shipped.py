"""What torch ships to test its RemoteModule, with the two imports exchanged: its source, run here under our names.

A module of its own, which the tests' workers import.
"""

import inspect

from torch.testing._internal.distributed.nn.api import remote_module_test as _theirs

_source = inspect.getsource(_theirs)
for _import, _ours in (
    ("from torch.distributed.nn import RemoteModule\n", "from torchremote import RemoteModule\n"),
    ("from torch.distributed.nn.api.remote_module import (\n", "from torchremote.remote_module import (\n"),
):
    assert _source.count(_import) == 1
    _source = _source.replace(_import, _ours)

__file__ = _theirs.__file__  # where TorchScript finds the source of the interfaces
exec(compile(_source, __file__, "exec"))
