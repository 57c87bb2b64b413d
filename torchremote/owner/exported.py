"""Exports modules of users: `exported`, and what `create` and `serve` do with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .. import _torch
from ..errors import ArgumentError, CreationError, MismatchError
from ..jit import Contract, compile_interface
from ..jit.export import NAMED_DEVICES, check_examples, export_module, export_programs
from ..jit.read.model import Interface
from ..jit.script.cache import READING_MODULES
from ..link.places import CPU, device_of
from ..link.stubs import is_stub
from ..link.values import PythonPacker
from .checks.hooks import check_backward_hooks
from .checks.prepared import checked_module
from .state_names import StateNames, check_whole, note_names, read_names, remember_names


def exported(
    module: torch.nn.Module | Mapping[str, Any],
    interface: type,
    examples: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Mapping[str, Any] | None = None,
    both_modes: bool = False,
) -> torch.jit.ScriptModule:
    """Makes a ScriptModule of a module that `torch.export` captures. It can be served, sent and saved as any other.

    Calls are compared with what the export assumed: dtypes, ranks, sizes, and the values of all that is no tensor. A
    call that differs is refused.

    Args:
        module: a module on the device where it will run. Or a mapping from each method to an ExportedProgram of it, or
            to a list of those.
        interface: a class of annotated methods. The module implements it; dataclasses and mappings that it returns
            become the NamedTuples and Dicts that the interface declares.
        examples: for each method, a tuple of arguments, or a mapping by their names. A list of those, where calls
            differ in more than sizes: a call uses the first that fits it.
        dynamic_shapes: a mapping from each method to what torch.export takes as `dynamic_shapes`, by the interface's
            arguments. Where a method has a list of examples: one for all of them, or a list with one for each. Without
            it, every dimension is as dynamic as torch.export finds it.
        both_modes: exports for training and for evaluation. Otherwise the module keeps the mode that it is in.

    Returns:
        The module. Its parameters and buffers are those of `module`, and its `state_dict` has the same keys.

    Raises:
        InterfaceError: `interface` has a signature that cannot cross.
        ArgumentError: an example is missing, or does not fit the interface. Or `both_modes` is given, and a part
            is in another mode than `train` would set.
        MismatchError: the module does not implement `interface`.
        CreationError: torch.export cannot capture a method, or its graph has what cannot run without Python.

    >>> class Scaler:
    ...     def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor: ...
    >>> class Scaling(torch.nn.Module):
    ...     def forward(self, x, **options):
    ...         return x * options["scale"]
    >>> scaling = exported(Scaling(), Scaler, {"forward": {"x": torch.ones(2, 3), "scale": 2.0}})
    >>> scaling(torch.ones(5, 3), 2.0).sum().item()
    30.0
    """
    read = compile_interface(interface)
    contract = read.contract
    if isinstance(module, Mapping):
        if examples is not None or dynamic_shapes is not None or both_modes:
            raise ArgumentError("exported: programs are exported already, and take no examples, shapes or modes")
        programs = check_examples(module, read.interface)
        with READING_MODULES:
            of_programs = export_programs(programs, contract.interface, contract.defined)
        note_names(of_programs, StateNames(frozenset(of_programs.state_dict()), ""))
        return of_programs
    python = _python_module(module, contract.interface.name)
    complete = complete_examples(examples, read.interface, contract)
    return export_for(python, contract, complete, dynamic_shapes=dynamic_shapes, both_modes=both_modes)


def export_for(
    module: object,
    contract: Contract,
    examples: Mapping[str, Any],
    *,
    dynamic_shapes: Mapping[str, Any] | None = None,
    both_modes: bool = False,
    device: torch.device = CPU,
    compiled: bool = False,
) -> torch.jit.ScriptModule:
    """Exports a module for the methods of an interface. `examples` has all arguments.

    Args:
        device: where the module runs, if it has no tensors that show it.
        compiled: has AOTInductor compile the graphs. The module has no state then.
    """
    module = _python_module(module, contract.interface.name)
    check_parts_are_python(module)
    check_backward_hooks(module)
    check_whole(module)
    with READING_MODULES:
        scripted = export_module(
            module,
            contract.interface,
            contract.classes,
            contract.defined,
            examples,
            dynamic_shapes,
            device_of(module, otherwise=device),
            both_modes,
            compiled,
        )
    if not compiled:
        names = read_names(scripted, module)
        remember_names(scripted, names)
        note_names(scripted, names)
    return scripted


def _python_module(module: object, name: str) -> torch.nn.Module:
    """Returns a module that torch.export can take, or raises MismatchError. `name`: that of the interface."""
    if isinstance(module, torch.jit.ScriptModule):
        raise MismatchError(
            f"{name}: {type(module).__name__} is scripted already, and cannot be exported; create and serve host it as "
            "it is: give it to them without examples"
        )
    return _torch.not_compiled(checked_module(module, name))


def check_parts_are_python(module: torch.nn.Module) -> None:
    """Raises CreationError for a part that is scripted, which torch.export would capture for the example's sizes alone.

    A stub is such a part, and so is a module that is exported already.
    """
    cls = type(module).__name__
    for name, part in module.named_modules():
        if is_stub(part):
            raise CreationError(
                f"{cls}'s part {name} is a stub, whose calls torch.export cannot capture; call it outside of what is "
                f"exported, or script {cls}, without examples"
            )
        if isinstance(part, torch.jit.ScriptModule):
            raise CreationError(
                f"{cls}'s part {name}, a {part.original_name}, is scripted already, and torch.export captures Python "
                f"alone; give {cls} the Python module that it was made of, or script {cls}, without examples"
            )


def complete_examples(examples: object, interface: Interface, contract: Contract) -> dict[str, Any]:
    """Returns the examples with the defaults of arguments that they lack, which only the caller's interface has.

    Raises:
        ArgumentError: a method has no example, or there is no such method.
    """
    if examples is None:
        raise ArgumentError(f"examples: none; give one for each method of {interface.name}")
    checked = check_examples(examples, interface)
    packer = PythonPacker(contract.classes)
    for method in interface.methods:
        defaults = packer.defaults_of(method)
        names = [argument.name for argument in method.arguments]

        def complete(example: Any, names: list[str] = names, defaults: dict[str, Any] = defaults) -> Any:
            given = example
            if isinstance(example, (tuple, list)) and len(example) <= len(names):
                given = dict(zip(names, example, strict=False))
            completed = {**defaults, **given} if isinstance(given, Mapping) else {}
            return completed if set(names) <= completed.keys() else example  # what is no example stays as it came

        given = checked[method.name]
        checked[method.name] = [complete(one) for one in given] if isinstance(given, list) else complete(given)
    return checked


def check_movable(module: torch.jit.ScriptModule, device: torch.device) -> None:
    """Raises ArgumentError if `module` was exported, and a graph of it names another device."""
    named: str = getattr(module, NAMED_DEVICES, "")
    others = [one for one in named.split() if torch.device(one).type != device.type]
    if others:
        raise ArgumentError(
            f"the module was exported on {', '.join(others)}, which its graph names; create it where it is to be, as "
            f"in create('worker/{device}', ..., examples=)"
        )
