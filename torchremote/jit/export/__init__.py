"""The way into the compiler from torch.export: an exported graph in, a scripted module out.

`capture` has torch.export trace a method. `module` lowers what it captured to the program that all of the compiler
emits, in the order of a call: `guards` compares the arguments, `graph` runs the operators, and the result is put
together. The graph is a list of operators of ATen, and TorchScript runs those without Python. Or AOTInductor compiles
the graph, and `compiled` runs the package instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...errors import ArgumentError, MismatchError
from ..read.model import Interface
from ..read.shown import repr_of
from ..script.classes import Classes
from .capture import RUN_BY_TORCHSCRIPT, Captured, Finish, capture
from .compiled import RUN_BY_AOTINDUCTOR
from .holder import Holder
from .joined import Limits, limits_of_module
from .modes import (
    MIXED,
    MODE_NAMES,
    PartModes,
    has_own_train,
    misfit_of_mode,
    modes_of,
    parts_in_other_mode,
    restore_parts,
    undoing_train,
    words_of_undone,
    written,
)
from .module import NAMED_DEVICES, STATE, Graphs, ModuleLowering, is_compiled, source_of
from .programs import interface_of, modes_in, read_program, state_of


def export_module(
    module: nn.Module,
    interface: Interface,
    classes: Classes,
    defined: Mapping[str, Any],
    examples: Mapping[str, Any],
    dynamic_shapes: Mapping[str, Any] | None,
    device: torch.device,
    both_modes: bool,
    compiled: bool,
) -> torch.jit.ScriptModule:
    """Exports a module for the methods of an interface.

    Args:
        classes, defined: those of the interface's contract.
        examples: for every method, an example, or a list of examples.
        dynamic_shapes: for a method, torch.export's `dynamic_shapes`, or a list with one for each example.
        device: where the module is.
        both_modes: exports it for training, too, if it is in evaluation mode, and the other way round.
        compiled: has AOTInductor compile the graphs. The result has no parameters of its own.
    """
    holder = Holder(None if compiled else module, interface)
    finish = RUN_BY_AOTINDUCTOR if compiled else RUN_BY_TORCHSCRIPT
    lowering = ModuleLowering(interface, type(module).__name__, holder, "an example")
    shapes = _by_method("dynamic_shapes", {} if dynamic_shapes is None else dynamic_shapes, interface)
    if both_modes and (said := words_of_undone(modes_of(module), module.training)):
        raise ArgumentError(f"{interface.name}: both_modes=True: {said}; or leave out both_modes")
    modes = [_graphs(module, interface, classes, examples, shapes, device, finish)]
    if both_modes:
        with undoing_train(module):
            module.train(not module.training)
            modes.append(_graphs(module, interface, classes, examples, shapes, device, finish))
    return lowering.script(modes, defined)


def _graphs(
    module: nn.Module,
    interface: Interface,
    classes: Classes,
    examples: Mapping[str, Any],
    dynamic_shapes: Mapping[str, Any],
    device: torch.device,
    finish: Finish,
) -> Graphs:
    """Captures all methods in the module's present mode."""
    captured: dict[str, Sequence[Captured]] = {}
    for method in interface.methods:
        where = f"{interface.name}.{method.name}"
        if not callable(getattr(module, method.name, None)):
            raise MismatchError(f"{where}: {type(module).__name__} has no such method; expected\n  {method}")
        given = examples[method.name]
        several = isinstance(given, list)
        shapes = dynamic_shapes.get(method.name)
        listed = shapes if several and isinstance(shapes, list) else [shapes] * (len(given) if several else 1)
        if several and len(listed) != len(given):
            raise ArgumentError(f"{where}: {len(listed)} dynamic_shapes for {len(given)} examples; give one for each")
        captured[method.name] = [
            graph
            for number, (example, dynamic) in enumerate(zip(given if several else [given], listed, strict=True))
            for graph in capture(
                module, method, example, dynamic, classes, device, f"{where}[{number}]" if several else where, finish
            )
        ]
    return Graphs(module.training, captured, modes_of(module))


def export_programs(
    programs: Mapping[str, Any], interface: Interface, defined: Mapping[str, Any], compiled: bool = False
) -> torch.jit.ScriptModule:
    """Makes one module of exported programs, one or a list of them for each method of an interface."""
    holder = Holder(None, interface)
    finish = RUN_BY_AOTINDUCTOR if compiled else RUN_BY_TORCHSCRIPT
    captured: dict[str, Sequence[Captured]] = {}
    training: dict[bool, str] = {}
    others: dict[str, None] = {}
    for method in interface.methods:
        where = f"{interface.name}.{method.name}"
        given = programs[method.name]
        of_method = []
        for program in given if isinstance(given, list) else [given]:
            if not isinstance(program, torch.export.ExportedProgram):
                raise ArgumentError(
                    f"{where}: {type(program).__name__} is no ExportedProgram; give what torch.export.export returns, "
                    "or a module and examples"
                )
            if not compiled:
                holder.add_state(*state_of(program), where)
            of_method.append(finish.complete(read_program(program, method, where), where))
            is_training, in_evaluation = modes_in(program)
            training[is_training] = where
            others.update(dict.fromkeys(in_evaluation))
        captured[method.name] = of_method
    if len(training) > 1:
        raise ArgumentError(
            f"{training[True]} was exported in training mode, and {training[False]} in evaluation mode; "
            "export all in one"
        )
    lowering = ModuleLowering(interface, f"Exported{interface.name}", holder, "a program")
    return lowering.script([Graphs(True in training, captured, PartModes(tuple(others), tuple(others)))], defined)


def check_examples(examples: object, interface: Interface) -> dict[str, Any]:
    """Returns the examples by method.

    Raises:
        ArgumentError: a method has none, or there is no such method.
    """
    checked = _by_method("examples", examples, interface)
    for name in (method.name for method in interface.methods):
        if name not in checked or (isinstance(checked[name], list) and not checked[name]):
            raise ArgumentError(
                f"{interface.name}.{name}: no example of its arguments; give examples={{{name!r}: (...)}}"
            )
    return checked


def _by_method(what: str, given: object, interface: Interface) -> dict[str, Any]:
    """Returns what is given for methods of the interface, by their names; `what` says which argument that is.

    Raises:
        ArgumentError: it is no mapping, or there is no such method.
    """
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{what}: {type(given).__name__} is no mapping; give one from each method of {interface.name} to what is "
            f"for its arguments, as in {{'{interface.methods[0].name}': (...,)}}"
        )
    names = [method.name for method in interface.methods]
    for name in given:
        if name not in names:
            raise ArgumentError(f"{what}: {interface.name} has no method {repr_of(name)}; it has {', '.join(names)}")
    return dict(given)
