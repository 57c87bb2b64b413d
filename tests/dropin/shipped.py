"""What torch ships to test its RemoteModule, with the two imports exchanged: its source, run as a module of ours."""

import inspect
import sys
import types

from torch.testing._internal.distributed.nn.api import remote_module_test as theirs


def exchanged(source):
    for their_import, our_import in (
        ("from torch.distributed.nn import RemoteModule\n", "from torchremote import RemoteModule\n"),
        ("from torch.distributed.nn.api.remote_module import (\n", "from torchremote.remote_module import (\n"),
    ):
        assert source.count(their_import) == 1
        source = source.replace(their_import, our_import)
    return source


suites = types.ModuleType(f"{__name__}_suites")
suites.__file__ = theirs.__file__  # where TorchScript finds the source of the interfaces
sys.modules[suites.__name__] = suites  # workers find what they are sent by its name: they import this file first
exec(compile(exchanged(inspect.getsource(theirs)), theirs.__file__, "exec"), vars(suites))
