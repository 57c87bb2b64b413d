"""Works with what is scripted: graphs, functions, modules and interfaces."""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final

import torch
import torch._jit_internal
from torch import nn
from torch.jit import _recursive, _serialization

from .os_fork import keep_in_forks

_C: Any = torch._C  # its type stubs lack many names

if TYPE_CHECKING:
    ScriptFunction = torch.jit.ScriptFunction[Any, Any]
else:
    ScriptFunction = torch.jit.ScriptFunction

Node = torch._C.Node
FunctionSchema = torch._C.FunctionSchema


def load_scripted(file: str | os.PathLike[str] | IO[bytes], device: str | torch.device | None = None) -> Any:
    """Does what torch.jit.load does, which warns that it is deprecated.

    To silence the warning would also silence other threads' warnings for that time. To save, call `save_to_buffer`.
    """
    place = _serialization.validate_map_location(device)
    unit = _C.CompilationUnit()
    if isinstance(file, (str, os.PathLike)):
        loaded = _C.import_ir_module(unit, os.fspath(file), place, {}, False)
    else:
        loaded = _C.import_ir_module_from_buffer(unit, file.read(), place, {}, False)
    return _recursive.wrap_cpp_module(loaded)


def constant_holding(module: torch.jit.ScriptModule) -> Node:
    """Makes the object that `module.forward` returns a constant of a graph.

    See jit/runtime/table.py, Note [The constant table].
    """
    frozen: Any = _C._freeze_module(module.eval()._c, [])
    for node in frozen._get_method("forward").graph.nodes():
        if node.kind() == "prim::Constant":
            constant: Node = node
            return constant
    raise RuntimeError("torch did not make the table a constant")


def register_bound(name: str, function: ScriptFunction, constant: Node) -> ScriptFunction:
    """Binds the first argument of `function` to `constant`, and registers it under `name`, where RPC finds it."""
    graph: Any = function.graph.copy()
    bound = graph.prependNode(graph.createClone(constant, lambda value: value))
    next(graph.inputs()).replaceAllUsesWith(bound.output())
    graph.eraseInput(0)
    registered: ScriptFunction = torch.jit._state._python_cu.create_function(name, graph, False)
    return registered


def find_function(name: str) -> ScriptFunction | None:
    """Returns the function that is registered under `name`, if there is one."""
    found: ScriptFunction | None = torch.jit._state._python_cu.find_function(name)
    return found


def operator(name: str) -> Callable[..., Any]:
    """Returns a registered operator, as in "aten::add", for calls from Python. torch.ops would look it up in each."""
    found, _ = _C._jit_get_operation(name)
    called: Callable[..., Any] = found
    return called


def object_of(module: torch.jit.ScriptModule) -> Any:
    """Returns the object in C++ of a scripted module. As Any, pass this: torch never lets go of a module."""
    return module._c


def has_method(module: torch.jit.ScriptModule, method: str) -> bool:
    return bool(module._c._has_method(method))


def schema_of(module: torch.jit.ScriptModule, method: str) -> FunctionSchema:
    """Returns the signature of a scripted method."""
    schema: FunctionSchema = module._c._get_method(method).schema
    return schema


def operators_of(module: torch.jit.ScriptModule, method: str) -> Iterator[tuple[str, str]]:
    """Yields the operators on tensors in the graph of a scripted method itself: their names, and their overloads'."""
    waiting: list[Any] = [module._c._get_method(method).graph]
    while waiting:
        for node in waiting.pop().nodes():
            waiting += node.blocks()
            if node.schema() != "(no schema)":
                schema = _C.parse_schema(node.schema())
                if any("Tensor" in str(argument.type) for argument in (*schema.arguments, *schema.returns)):
                    yield schema.name, schema.overload_name


def interface_schema(interface: type, method: str) -> FunctionSchema:
    """Returns the signature of an interface's method."""
    name = interface.__torch_script_interface__  # type: ignore[attr-defined]
    schema: FunctionSchema = _C.InterfaceType(name).getMethod(method)
    return schema


def copy_module(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Makes a second instance of a scripted module. Nothing is compiled. Attributes are shared until assigned."""
    copied: torch.jit.ScriptModule = _wrap(copy.copy(module._c), torch.jit.RecursiveScriptModule, module._concrete_type)
    return copied


def as_class(module: torch.jit.ScriptModule, cls: type[Any]) -> Any:
    """Returns the same scripted module as an instance of `cls`, a subclass of RecursiveScriptModule."""
    return _wrap(module._c, cls, module._concrete_type)


def keep_module_in_forks(module: torch.jit.ScriptModule) -> None:
    """Has forked children never destroy a scripted module that holds RRefs: see os_fork.py."""
    keep_in_forks(module._c)  # all Python objects that are made of it by `as_class` hold this one


def _wrap(cpp_module: Any, cls: type[Any], concrete_type: Any) -> Any:
    """Wraps a C++ module in `cls`."""
    wrapped = cls(cpp_module)  # as RecursiveScriptModule._construct does, but for a subclass
    wrapped._concrete_type = concrete_type
    cls._finalize_scriptmodule(wrapped)
    return wrapped


def replace_child(parent: nn.Module, name: str, child: nn.Module) -> None:
    """Replaces the Python object of the child `name` of `parent`. A scripted parent goes on running the old child."""
    modules: Any = parent._modules
    getattr(modules, "_python_modules", modules)[name] = child


def set_child(parent: torch.jit.ScriptModule, name: str, child: torch.jit.ScriptModule) -> None:
    """Replaces the child that a scripted `parent` runs by another one of the same type."""
    parent._c.setattr(name, child._c)


def before_saving(check: Callable[[torch.jit.ScriptModule], None]) -> None:
    """Makes torch call `check` before it saves a scripted module. An exception of `check` stops the save."""
    scripted: Any = torch.jit.RecursiveScriptModule

    def checked(save: Any) -> Any:
        @functools.wraps(save)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            check(self)
            return save(self, *args, **kwargs)

        return call

    scripted.save = checked(scripted.save)
    scripted.save_to_buffer = checked(scripted.save_to_buffer)


def after_copying(then: Callable[[torch.jit.ScriptModule, torch.jit.ScriptModule], None]) -> None:
    """Makes torch call `then` with each copy that `copy.copy` makes of a scripted module, and with the module."""
    scripted: Any = torch.jit.RecursiveScriptModule
    copying = scripted.__copy__

    @functools.wraps(copying)
    def call(self: Any) -> Any:
        copied = copying(self)
        then(copied, self)
        return copied

    scripted.__copy__ = call


def as_python_module(module: Any) -> nn.Module:
    """Returns a module as Python knows it. An RRef's `local_value` gives the bare C++ object of a scripted one."""
    if isinstance(module, _C.ScriptModule):
        scripted: nn.Module = _recursive.wrap_cpp_module(module)
        return scripted
    found: nn.Module = module
    return found


def has_interface(name: str) -> bool:
    """Says whether TorchScript knows an interface by that name in this process."""
    return torch.jit._state._python_cu.get_interface(name) is not None


def interface_called(name: str) -> type:
    """Makes a Python class that stands for an interface that TorchScript knows."""
    interface = type(name.rpartition(".")[2], (), {"__torch_script_interface__": name})
    set_qualified_name(interface, name)
    return interface


def set_attribute(module: torch.jit.ScriptModule, name: str, value: Any) -> None:
    """Sets an attribute of a scripted module, past what its Python class does."""
    module._c.setattr(name, value)


def tensor_attributes(module: torch.jit.ScriptModule) -> list[tuple[str, torch.Tensor]]:
    """Returns the attributes of a scripted module itself that are tensors and neither parameters nor buffers."""
    own = {*dict(module.named_parameters(recurse=False)), *dict(module.named_buffers(recurse=False))}
    names = [name for name in module._concrete_type.get_attributes() if name not in own]
    found = [(name, module._c.getattr(name)) for name in names]
    return [(name, value) for name, value in found if isinstance(value, torch.Tensor)]


def modules_in_attributes(module: torch.jit.ScriptModule) -> Iterator[torch.jit.ScriptModule]:
    """Yields the scripted modules in containers that are attributes of `module`, as in `layers: List[Interface]`."""
    attributes = _C.ConcreteModuleType.from_jit_type(module._c._type()).get_attributes()  # a frozen one has no other
    for name, (kind, _) in attributes.items():
        if "__torch__" in str(kind):  # of a class or an interface of a user
            waiting = [module._c.getattr(name)]
            while waiting:
                value = waiting.pop()
                if isinstance(value, (list, tuple, dict)):
                    waiting += value.values() if isinstance(value, dict) else value
                elif isinstance(value, _C.ScriptModule):
                    yield _recursive.wrap_cpp_module(value)


def scripted_method(module: torch.jit.ScriptModule, name: str) -> Callable[..., Any]:
    """Returns the compiled method, even if Python finds something else under its name."""
    method: Callable[..., Any] = module._c._get_method(name)
    return method


def set_qualified_name(cls: type, name: str) -> None:
    """Sets the name under which TorchScript looks for the type that it compiled from `cls`."""
    cls._jit_override_qualname = name  # type: ignore[attr-defined]


def qualified_name(cls: type) -> str:
    """Returns the name under which TorchScript knows a class. torch would give that of a base which has one set."""
    if hasattr(cls, "_jit_override_qualname") and "_jit_override_qualname" not in vars(cls):
        cls = type(cls.__name__, (), {"__module__": cls.__module__})
    name: str = torch._jit_internal._qualified_name(cls)
    return name


def method_names(module: torch.jit.ScriptModule) -> list[str]:
    """Lists the compiled methods of a scripted module."""
    names: list[str] = module._c._method_names()
    return names


def type_name(module: torch.jit.ScriptModule) -> str:
    """Returns the name of a scripted module's TorchScript type. It is unique in a process."""
    name: str = module._c._type().str()
    return name


def inlined_graph(module: torch.jit.ScriptModule, method: str) -> Any:
    """Returns the graph of a method, with those of all methods and functions that it calls in their place."""
    return inlined(module._c._get_method(method).graph)


_WAITING: Final = ("aten::wait", "prim::rpc_sync", "prim::awaitable_wait")


def waits(module: torch.jit.ScriptModule, method: str) -> bool:
    """Says whether a method, or what it calls, waits for a Future. What it forks does not count."""
    graph = inlined_graph(module, method)
    return any(graph.findAllNodes(kind) for kind in _WAITING)


def inlined(graph: Any) -> Any:
    """Returns a copy of a graph, with those of all methods and functions that it calls in their place."""
    copied = graph.copy()
    inline(copied)
    return copied


def inline(graph: Any) -> None:
    """Puts the graphs of all methods and functions that a graph calls in the place of the calls."""
    _C._jit_pass_inline(graph)


_PLACE: Final = re.compile(r'File "([^"\n]+)", line (\d+)\n(?:.*\n)*?(.*)\n( *)(~+) <--- HERE')


def place_of(node: Any) -> tuple[str, str]:
    """Returns the file and line from which a node was compiled, as far as that is known, and the code."""
    found = _PLACE.search(node.sourceRange())
    if found is None:
        return "its source is not known", str(node.kind())
    file, line, code, indented, marks = found.groups()
    return f"{file}:{line}", code[len(indented) :][: len(marks)]


def parse_schema(text: str) -> FunctionSchema:
    """Reads the text of an operator's signature."""
    schema: FunctionSchema = _C.parse_schema(text)
    return schema
