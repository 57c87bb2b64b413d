"""Holds what an exported module has: the parameters and buffers of the original, in parts of the same names.

The parts have no methods. So `state_dict` has the original's keys, and the parameters are the original's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from ...errors import CreationError
from ..lower import ir
from ..lower.names import Names
from ..read.model import Interface
from ..read.types import check_identifier

_SELF: Final = ir.Name("self")


class Part(nn.Module):
    """Stands for a part of the original: only its parameters, buffers and parts are there."""


class Holder:
    """Collects the tensors of exported graphs, and gives them to the generated module.

    Args:
        module: the original; None if only exported programs are there.
        interface: the one whose methods the generated module has.
    """

    def __init__(self, module: nn.Module | None, interface: Interface) -> None:
        self._module = module
        self._methods = {method.name for method in interface.methods}
        self._parts: set[str] = set()
        self._parameters: dict[str, nn.Parameter] = {}
        self._buffers: dict[str, tuple[torch.Tensor, bool]] = {}  # with whether state_dict has it
        self._constants: dict[str, torch.Tensor] = {}
        self._packages: dict[str, Any] = {}
        if module is not None:
            for prefix, part in module.named_modules(remove_duplicate=False):
                self._parts.add(prefix.partition(".")[0])
                dotted = f"{prefix}." if prefix else ""
                for name, parameter in part._parameters.items():
                    if parameter is not None:
                        self._parameters[dotted + name] = parameter
                for name, buffer in part._buffers.items():
                    if buffer is not None:
                        self._buffers[dotted + name] = buffer, name not in part._non_persistent_buffers_set

    def add_state(self, state: Mapping[str, torch.Tensor], buffers: Mapping[str, bool], where: str) -> None:
        """Adds the state of an exported program. One that another program has, too, is shared.

        Args:
            buffers: for each name that is a buffer, whether state_dict has it.

        Raises:
            CreationError: another program has another tensor under that name.
        """
        for name, tensor in state.items():
            known = self._parameters.get(name, self._buffers.get(name, (None, True))[0])
            if known is None:
                if name in buffers:
                    self._buffers[name] = tensor, buffers[name]
                else:
                    self._parameters[name] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, False)
            elif known is not tensor and not (
                known.shape == tensor.shape and known.dtype == tensor.dtype and torch.equal(known, tensor)
            ):
                raise CreationError(
                    f"{where}: {name} is another tensor than in another program; export all methods of one module, "
                    "with one state"
                )

    def constant(self, tensor: torch.Tensor) -> ir.Expression:
        """Keeps a constant of a graph. Returns the expression for it."""
        return self._keep(tensor, self._constants, "constant")

    def package(self, package: Any, device: torch.device) -> ir.Expression:
        """Keeps what AOTInductor compiled of a graph. Returns the expression for it."""
        if device.type != "cpu":
            self._buffers["torchremote_package_device"] = (
                torch.empty(0, device=device),
                False,
            )  # it shows where the module is
        return self._keep(package, self._packages, "package")

    def _keep(self, value: Any, kept: dict[str, Any], stem: str) -> ir.Expression:
        name = next((name for name, known in kept.items() if known is value), None)
        if name is None:
            name = Names(self.names | self._methods, frozenset()).numbered(stem)
            kept[name] = value
        return ir.Attribute(_SELF, name)

    def attribute(self, name: str) -> ir.Expression | None:
        """Returns the expression for a parameter or buffer. None if there is none of that name."""
        return path(name) if name in self._parameters or name in self._buffers else None

    @property
    def is_compiled(self) -> bool:
        return bool(self._packages)

    @property
    def constants(self) -> Mapping[str, torch.Tensor]:
        return self._constants

    @property
    def names(self) -> set[str]:
        """Returns the names that the generated module's own attributes have."""
        held = (*self._parameters, *self._buffers, *self._constants, *self._packages)
        return self._parts.union(name.partition(".")[0] for name in held)

    def fill(self, root: nn.Module) -> None:
        """Gives a module the parameters, buffers, constants, and parts."""
        original = self._module
        if original is not None:
            for prefix, part in original.named_modules(remove_duplicate=False):
                if prefix:
                    _part(root, prefix, type(part).__name__)
        for name, parameter in self._parameters.items():
            owner, last = _owner(root, name)
            owner.register_parameter(last, parameter)
        for name, (buffer, persistent) in self._buffers.items():
            owner, last = _owner(root, name)
            owner.register_buffer(last, buffer, persistent)
        for name, constant in (*self._constants.items(), *self._packages.items()):
            object.__setattr__(root, name, constant)  # an attribute, so that state_dict does not have it

    def hide(self, scripted: torch.jit.ScriptModule) -> None:
        """Makes `state_dict` leave out the buffers that the original's leaves out. TorchScript forgets which."""
        for name, (_, persistent) in self._buffers.items():
            if not persistent:
                *parts, last = name.split(".")
                owner: nn.Module = scripted
                for part in parts:
                    owner = getattr(owner, part)
                owner._non_persistent_buffers_set.add(last)


def path(name: str) -> ir.Expression:
    """Returns the expression for an attribute with a dotted name."""
    found: ir.Expression = _SELF
    for part in name.split("."):
        found = _attribute(found, part)
    return found


def _attribute(value: ir.Expression, name: str) -> ir.Expression:
    try:
        check_identifier(name)
    except ValueError:  # such as "0", the name of a list's first part
        return ir.call("getattr", value, ir.Literal(name))
    return ir.Attribute(value, name)


def _owner(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    prefix, _, last = name.rpartition(".")
    return _part(root, prefix, "Part"), last


def _part(root: nn.Module, prefix: str, cls: str) -> nn.Module:
    """Returns the part of a dotted name, and makes it if it is not there yet."""
    found = root
    for name in filter(None, prefix.split(".")):
        if name not in found._modules:
            found.add_module(name, _class(cls)())
        found = found._modules[name]  # type: ignore[assignment]
    return found


def in_ascii(name: str) -> str:
    """Returns a name of a class without the characters that TorchScript does not take in one."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


_classes: dict[str, type[Part]] = {}


def _class(name: str) -> type[Part]:
    """Returns the class of the parts that stand for parts of a class of that name."""
    name = in_ascii(name)
    if name not in _classes:
        _classes[name] = type(name, (Part,), {"__module__": __name__})
    return _classes[name]
