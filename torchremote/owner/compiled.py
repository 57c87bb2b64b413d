"""Modules that AOTInductor compiled: `compiled`, and where such a module can be."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .. import _torch, native, supported
from ..errors import ArgumentError, CreationError, MismatchError, NativeError
from ..jit import compile_interface
from ..jit.export import NAMED_DEVICES, check_examples, export_programs, is_compiled
from ..jit.script.cache import READING_MODULES
from ..link.places import CPU, device_of
from .exported import complete_examples, export_for


def compiled(
    module: torch.nn.Module | Mapping[str, Any] | str | PathLike[str],
    interface: type | None = None,
    examples: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Mapping[str, Any] | None = None,
) -> torch.jit.ScriptModule:
    """Makes a ScriptModule whose methods AOTInductor compiled to machine code, or loads one. It is hosted as any other.

    Compiling takes some ten seconds a graph, and a C++ compiler. `torch.jit.save` writes the module with its code, and
    `compiled(path)` loads that in milliseconds: with the same torch, on a processor with the same instructions.

    A module is for inference, on the device where it was compiled. It has no parameters: they are part of the code.
    Calls are compared with what was assumed, and refused, as those of `exported`.

    Args:
        module: a module on the device where it will run; or a mapping from each method to an ExportedProgram of it, or
            to a list of those; or the path of a file that `torch.jit.save` wrote of a compiled module.
        interface: a class of annotated methods, as for `exported`. A file has its own.
        examples, dynamic_shapes: as for `exported`. An integer argument is fixed to its value in the example.

    Returns:
        The module.

    Raises:
        NativeError: the native part is not in use here; `python -m torchremote build-native` builds it.
        InterfaceError: `interface` has a signature that cannot cross.
        ArgumentError: an example is missing, or does not fit the interface. Or the file is not such a file.
        MismatchError: the module does not implement `interface`.
        CreationError: torch.export or AOTInductor cannot take a method, or it changes buffers or arguments. Or the C++
            compiler links a C++ library of its own into what it compiles. Or the file was written by another torch, or
            for a processor with other instructions, or for a device that is not here.

    With the native part:

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> linear = compiled(torch.nn.Linear(4, 2), Layer, {"forward": (torch.ones(3, 4),)})  # doctest: +SKIP
    >>> torch.jit.save(linear, "linear.pt")  # doctest: +SKIP
    >>> layer = torchremote.create("owner", Layer, torchremote.compiled, args=("linear.pt",))  # doctest: +SKIP
    """
    if not native.available():
        raise NativeError(f"compiled: it needs the native part, which is {native.why()}")
    if isinstance(module, (str, PathLike)):
        if interface is not None or examples is not None or dynamic_shapes is not None:
            raise ArgumentError("compiled: a file has its interface and examples; give the path alone")
        return _load(Path(module))
    supported.check_has("compiled", supported.AHEAD, "use exported")
    if interface is None:
        raise ArgumentError("compiled: no interface; give the class that declares the methods, or the path of a file")
    read = compile_interface(interface)
    contract = read.contract
    if isinstance(module, Mapping):
        if examples is not None or dynamic_shapes is not None:
            raise ArgumentError("compiled: programs are exported already, and take no examples or shapes")
        programs = check_examples(module, read.interface)
        with READING_MODULES:
            return export_programs(programs, contract.interface, contract.defined, compiled=True)
    if isinstance(module, torch.jit.ScriptModule) or not isinstance(module, torch.nn.Module):
        raise MismatchError(
            f"{read.interface.name}: {type(module).__name__} cannot be compiled; give a torch.nn.Module that is "
            "not scripted, exported programs by method, or the path of a file"
        )
    complete = complete_examples(examples, read.interface, contract)
    return export_for(module, contract, complete, dynamic_shapes=dynamic_shapes, compiled=True)


def _load(path: Path) -> torch.jit.ScriptModule:
    if not path.is_file():
        raise ArgumentError(f"compiled: there is no file {path}")
    remedy = "give one that torch.jit.save wrote of a module that compiled() returned"
    if _is_bare_package(path):
        raise ArgumentError(
            f"compiled: {path} is a package of AOTInductor alone, which does not say for which calls it is right; "
            f"{remedy}"
        )
    try:
        module: torch.jit.ScriptModule = _torch.load_scripted(path)
    except RuntimeError as error:
        said = next(filter(None, str(error).splitlines()), "")
        if said.startswith(_OURS):
            raise CreationError(f"compiled: {path}: {said.removeprefix(_OURS)}") from error
        raise ArgumentError(f"compiled: {path} cannot be read: {said}; {remedy}") from error
    if not is_compiled(module):
        raise ArgumentError(f"compiled: {path} has another module; {remedy}, or load it with torchremote.load")
    return module


def _is_bare_package(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        # A file of ours has a package inside. If it is cut off, that is found, not at the beginning.
        return any("/aotinductor/" in item.filename and item.header_offset == 0 for item in archive.infolist())


_OURS = "torchremote: "  # so begin the errors of native/compiled.cpp


def own_device(module: torch.nn.Module, otherwise: torch.device = CPU) -> torch.device:
    """Returns the device for which AOTInductor compiled `module`, or that of its tensors, or else `otherwise`."""
    if is_compiled(module):
        return torch.device(getattr(module, NAMED_DEVICES).split()[0])
    return device_of(module, otherwise)


def check_place(module: torch.nn.Module, device: torch.device) -> None:
    """Raises CreationError if AOTInductor compiled `module` for another device."""
    own: str = getattr(module, NAMED_DEVICES, "")
    if is_compiled(module) and str(device) not in own.split():
        raise CreationError(
            f"the module was compiled on {own}, and cannot be on {device}; create it there, or host it with exported()"
        )
