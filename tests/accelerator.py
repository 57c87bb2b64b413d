"""An accelerator written in Python: a tensor on "toy" keeps its values in a CPU tensor that only its own kernels see.

Importing this makes the device known to torch, for the rest of the process.
"""

import functools
import threading

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("toy")
DEVICE = torch.device("toy:0")


log = []
"""What was run, as pairs of the operator's name and the thread. `_local_scalar_dense` reads a value: it waits for all
before it."""

_values = {}  # by the address of a tensor's storage, which its shallow copies share; a test's device frees nothing


def _holding(values):
    tensor = torch._C._acc.create_empty_tensor(values.shape, values.dtype)
    _values[tensor.untyped_storage()._cdata] = values, tensor.untyped_storage()
    return tensor


def values_of(tensor):
    """The values of a tensor on the device; any other value as it is."""
    if isinstance(tensor, torch.Tensor) and tensor.device.type == "toy":
        return _values[tensor.untyped_storage()._cdata][0]
    return tensor


def _on_cpu(value):
    if isinstance(value, torch.device) and value.type == "toy":
        return torch.device("cpu")
    return values_of(value)


def _run(operator, *args, **kwargs):
    """Any operator: on the values, and its result on the device."""
    log.append((operator._schema.name.removeprefix("aten::"), threading.get_ident()))
    args, kwargs = pytree.tree_map(_on_cpu, (args, kwargs))
    result = operator(*args, **kwargs)
    return pytree.tree_map(lambda part: _holding(part) if isinstance(part, torch.Tensor) else part, result)


def _copy_from(source, target, non_blocking=False):
    values_of(target).copy_(values_of(source))
    return target


_every = torch.library.Library("_", "IMPL")
_every.fallback(_run, "PrivateUse1")
_aten = torch.library.Library("aten", "IMPL")
_aten.impl("_copy_from", _copy_from, "PrivateUse1")
for name, operator in (
    ("empty.memory_format", torch.ops.aten.empty.memory_format),
    ("empty_strided", torch.ops.aten.empty_strided.default),
):
    _aten.impl(name, functools.partial(_run, operator), "PrivateUse1")
