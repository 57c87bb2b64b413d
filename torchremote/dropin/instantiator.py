"""Makes modules of functions that call a module through an RRef, as torch.distributed.nn.jit.instantiator does.

A class that has `module_rref`, `device` and `is_device_map_set` takes the `_generated_methods` as its own methods; it
can be scripted, too. Stubs and RemoteModule need none of this.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .. import _torch
from ..errors import InterfaceError
from ..jit import CompiledInterface, compile_interface
from ..jit.lower import SourceNames, endpoint, lower_through_rref, method_name
from ..jit.read.literals import literal
from ..jit.read.model import Required
from ..jit.script.cache import Cache
from ..jit.script.compile import script
from ..jit.script.emit import emit
from . import without_interface

_modules: Cache[tuple[CompiledInterface, str, bool], ModuleType] = Cache()


def instantiate_scriptable_remote_module_template(
    module_interface_cls: type, enable_moving_cpu_tensors_to_cuda: bool = True
) -> ModuleType:
    """Makes the functions for modules of an interface.

    Args:
        module_interface_cls: a class of annotated methods, under `torch.jit.interface` or not.
        enable_moving_cpu_tensors_to_cuda: whether tensors, in containers too, move to a module on an accelerator (of
            any kind), and back when there is no device map.

    Returns:
        A module with `_remote_<m>`, `<m>` and `<m>_async` for every method of the interface, and with
        `_generated_methods`, a list of the last two. It is compiled once for each interface and flag, and registered in
        `sys.modules`; a call needs it on the owner, too.

    Raises:
        InterfaceError: a signature that cannot cross.

    >>> import torch
    >>> class Encoder:
    ...     def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor: ...
    >>> functions = instantiate_scriptable_remote_module_template(Encoder)
    >>> [method.__name__ for method in functions._generated_methods]
    ['forward_async', 'forward']
    """
    compiled = compile_interface(module_interface_cls)
    # Of `torch.jit.interface`, or of `remote_scriptable`; an RRef's type is nominal.
    declared = "__torch_script_interface__" in vars(module_interface_cls)
    name = _torch.qualified_name(module_interface_cls) if declared else compiled.interface_name
    moves = bool(enable_moving_cpu_tensors_to_cuda)
    return _modules.get((compiled, name, moves), lambda: _instantiate(compiled, name, moves))


def instantiate_non_scriptable_remote_module_template() -> ModuleType:
    """Returns the functions for modules without an interface, as a module.

    It has `_remote_forward`, `forward`, `forward_async`, and a list of the last two, `_generated_methods`.
    """
    return without_interface


def get_arg_return_types_from_interface(module_interface: type) -> tuple[str, str, str]:
    """Returns the signature of an interface's `forward` as text: names, declarations, return type.

    Raises:
        InterfaceError: it has none, or one that cannot cross.

    >>> class Scaler:
    ...     def forward(self, x: float, by: int = 2) -> list[float]: ...
    >>> get_arg_return_types_from_interface(Scaler)
    ('x, by', 'x: float, by: int = 2', 'List[float]')
    """
    interface = compile_interface(module_interface).interface
    method = interface.method("forward")
    if method is None:
        raise InterfaceError(f"{interface.name}: has no forward, but {', '.join(m.name for m in interface.methods)}")
    source_names = SourceNames(interface)
    declarations = [f"{argument.name}: {source_names.declared(argument.type)}" for argument in method.arguments]
    for index, argument in enumerate(method.arguments):
        if not isinstance(argument.default, Required):
            declarations[index] += f" = {literal(source_names.default(argument.default))}"
    names = ", ".join(argument.name for argument in method.arguments)
    return names, ", ".join(declarations), source_names.declared(method.returns)


def _instantiate(compiled: CompiledInterface, interface_name: str, moves: bool) -> ModuleType:
    interface, contract = compiled.interface, compiled.contract
    unit = lower_through_rref(interface, interface_name, moves, SourceNames(interface))
    local = _torch.interface_called(interface_name)
    defined = script(unit, emit(unit), around={**contract.defined, "Local": local})
    module = ModuleType(unit.scope.removeprefix("__torch__."), unit.comment)
    module.__file__ = unit.title  # where linecache has the text
    generated: list[Any] = []
    for method in interface.methods:
        setattr(module, endpoint(method), defined[endpoint(method)])
        for name in (f"{method.name}_async", method.name):
            function = defined[method_name(name)]
            function.__name__ = function.__qualname__ = name
            setattr(module, name, function)
            generated.append(function)
    module._generated_methods = generated  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module  # functions are pickled by their module's name
    return module
