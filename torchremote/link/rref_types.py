"""Checks what an RRef refers to. torch does not: it takes the value for one of the declared type, whatever it is."""

from __future__ import annotations

import typing
from functools import partial
from typing import Final

import torch
from torch.distributed.rpc import RRef

from .. import _torch
from .._torch import PyRRef, ReferenceTypes
from ..errors import ArgumentError
from ..jit.read.types import RRefType
from ..jit.script.cache import Cache
from .misfits import Inside


def check_reference(reference: PyRRef[typing.Any], kind: RRefType, where: str | Inside) -> None:
    """Checks that an RRef refers to a value of the declared type.

    Raises:
        ArgumentError: it refers to another type, or to a Python object, of which TorchScript does not know the type.
    """
    declared = str(kind)
    types = _types.get(declared, partial(_compile, declared))
    if types.fits(reference):
        return
    found = types.shown(reference)
    if found == "RRef[PyObject]":
        raise ArgumentError(
            f"{where}: this RRef refers to an object of Python, which TorchScript does not know, and is no {kind}; "
            "make it with a scripted function, as in rpc.remote(worker, torch.jit.script(function)), or on the worker "
            "that has the value, as RRef(value)"
        )
    raise ArgumentError(f"{where}: {found} is no {kind}; pass a reference to such a value, or declare {found}")


_types: Final[Cache[str, ReferenceTypes]] = Cache()


def _compile(declared: str) -> ReferenceTypes:
    """Compiles a declared type, as the model writes it."""
    scalars = {"dtype": int, "device": torch.device}
    resolve = _torch.resolver({**vars(typing), "torch": torch, "Tensor": torch.Tensor, "RRef": RRef, **scalars})
    return ReferenceTypes(declared, resolve)
