"""Every private name of torch that torchremote needs.

torch offers no public way to compile TorchScript from anything but a source file, to make an object a constant of a
graph, to register a graph under a name, or to ask an RPC agent for its device map. What stands here is all that the
package uses of torch beyond its documentation, with the reason, so that a new torch is judged in one place.
supported.py lists the names.
"""

from __future__ import annotations

import ast
import builtins
import copy
import enum
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch._jit_internal
import torch.utils._pytree
from torch import _sources, nn
from torch._C._jit_tree_views import ClassDef, Def, Ident, Stmt
from torch.distributed.rpc import api as _api
from torch.jit import _recursive, frontend

if TYPE_CHECKING:
    from torch._C._distributed_rpc import PyRRef, WorkerInfo

    ScriptFunction = torch.jit.ScriptFunction[Any, Any]
else:  # present only where torch is built with RPC
    from torch.distributed.rpc import PyRRef, WorkerInfo

    ScriptFunction = torch.jit.ScriptFunction

Node = torch._C.Node
FunctionSchema = torch._C.FunctionSchema

__all__ = ["FunctionSchema", "Node", "PyRRef", "ScriptFunction", "WorkerInfo"]

_C: Any = torch._C  # its stub files lag behind it

Resolver = Callable[[str], object]


def resolver(namespace: Mapping[str, object]) -> Resolver:
    """How TorchScript looks up a name, dotted or not, in generated source."""
    evaluate: Resolver = torch._jit_internal.createResolutionCallbackFromEnv(_Scope(namespace))

    def resolve(text: str) -> object:
        if "[" in text or text in _OWN_TYPES:
            return None  # TorchScript takes a type apart itself, and asks for its parts; in Python, that is slow
        return namespace[text] if text in namespace else evaluate(text)

    return resolve


_OWN_TYPES = frozenset("Tensor Any None bool int float complex str".split())


class _Scope:
    def __init__(self, namespace: Mapping[str, object]) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> object:
        return self._namespace.get(name, getattr(builtins, name, None))


class Frontend:
    """TorchScript's frontend, which is in Python, for generated source; tracebacks say where in it an error is.

    torch.jit.script reads a function's source through inspect, and so from files; it also tokenises it again for
    every function. The frontend's own functions take a syntax tree.
    """

    def __init__(self, source: str, title: str) -> None:
        # One context for all functions, and so one copy of the text.
        self._context = _Context(source, title, 1, 0, True)

    def function(self, text: str, line: int) -> Def:
        """The function whose `text` begins in `line` of the source, counted from 1."""
        node = ast.parse("\n" * (line - 1) + text).body[0]
        assert isinstance(node, ast.FunctionDef)
        definition: Def = frontend.build_def(self._context, node, None, node.name, None)
        return definition

    def class_(self, name: str, line: int, methods: Iterable[Def]) -> ClassDef:
        place = self._context.make_range(line, 0, len("class"))
        return ClassDef(Ident(place, name), [Stmt(method) for method in methods], [], [])


def parsed(text: str) -> Def:
    """A function or method, read by TorchScript's own parser. It takes a tenth of the frontend's time, and knows
    defaults in an interface. Tracebacks have the text of what it read, and neither name nor line.
    """
    definition: Def = _C._parse_source_def(f"{text}\n")
    return definition


class _Context(_sources.SourceContext):
    """Has its text encoded once, where torch's encodes it for every attribute that it reads."""

    def __init__(self, text: str, *args: Any) -> None:
        super().__init__(text, *args)
        self._text = _Encoded(text)

    @property
    def source(self) -> str:
        return self._text


class _Encoded(str):
    def __init__(self, text: str) -> None:
        self._bytes = text.encode()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        assert encoding == "utf-8"
        return self._bytes


# The compilers themselves: torch.jit.script and torch.jit.interface warn that they are deprecated, and silencing
# that would silence other threads' warnings for as long.


def compile_interface(name: str, definition: ClassDef, resolve: Resolver, of_modules: bool) -> str:
    """The name under which TorchScript took it: another one when `name` was taken."""
    taken: str = _C._jit_script_interface_compile(name, definition, resolve, of_modules)
    return taken


def compile_class(cls: type, name: str, definition: ClassDef, methods: Iterable[str], resolve: Resolver) -> None:
    """Compiles `cls`, which has `methods`, under `name`, and has TorchScript know the one for the other."""
    # An entry for every method, or torch's loop over them does not end.
    no_defaults: dict[str, dict[str, object]] = {method: {} for method in methods}
    compiled: Any = _C._jit_script_class_compile(name, definition, no_defaults, resolve)
    set_qualified_name(cls, compiled.qualified_name())
    torch.jit._state._add_script_class(cls, compiled)


def compile_function(name: str, definition: Def, resolve: Resolver) -> ScriptFunction:
    compiled: ScriptFunction = _C._jit_script_compile(name, definition, resolve, {})
    return compiled


def compile_module(module: nn.Module, methods: Mapping[str, Def], resolve: Resolver) -> torch.jit.ScriptModule:
    """Scripts `module`, a generated one, from `methods`."""
    stubs = [
        _recursive.ScriptMethodStub(resolve, definition, getattr(module, name)) for name, definition in methods.items()
    ]
    scripted: torch.jit.ScriptModule = _recursive.create_script_module(module, lambda _: stubs)
    return scripted


# Note [Types of hosted modules]
#     torch gives the modules of a class one type, with the methods that the first of them was scripted with. Adding
#     methods to it later would move its list of them under the calls that are reading it; so a class has one type for
#     each set of methods that it is hosted with, in stores beside torch's own.
_stores: dict[tuple[str, ...], Any] = {}


def script_module(module: nn.Module, methods: Iterable[str]) -> torch.jit.ScriptModule:
    """Scripts a user's module: `methods`, what it exports, and all that these call."""
    wanted = tuple(methods)
    store = _stores.setdefault(wanted, _recursive.ConcreteTypeStore())

    def stubs(part: nn.Module) -> list[Any]:
        if part is not module:
            inferred: list[Any] = _recursive.infer_methods_to_compile(part)
            return inferred
        exported: list[Any] = _recursive.make_stubs_from_exported_methods(module)
        names = {stub.original_method.__name__ for stub in exported}
        return exported + [_recursive.make_stub_from_method(module, name) for name in wanted if name not in names]

    try:
        _recursive.check_module_initialized(module)
        concrete_type = store.get_or_create_concrete_type(module)
        stubs_of = _no_stubs
        if concrete_type not in _recursive.concrete_type_store.methods_compiled:
            # Reading source takes longest. The types of a module's parts are compiled before its own.
            stubs_of = stubs
            _recursive.AttributeTypeIsSupportedChecker().check(module)
        scripted: torch.jit.ScriptModule = _recursive.create_script_module_impl(module, concrete_type, stubs_of)
    except Exception:
        del _stores[wanted]  # a type whose methods failed to compile keeps what is left of them
        raise
    return scripted


def _no_stubs(part: nn.Module) -> list[Any]:
    return []


def register_class(cls: type) -> None:
    """Has TorchScript know an Enum or NamedTuple class; reads no source."""
    resolve = resolver({})  # as whoever refers to the class later: its annotations have to mean something by themselves
    text = f"class {cls.__name__}: ..."
    place = _sources.SourceContext(text, f"<{cls.__name__}>", 1, 0).make_range(1, 0, len("class"))
    if issubclass(cls, enum.Enum):
        _register_enum(cls, place, resolve)
        return
    try:
        _C._resolve_type_from_object(cls, place, resolve)
    except RuntimeError as error:
        if "redefine NamedTuple" not in str(error):
            raise
        # Defined before with other fields: in a REPL, or in a module that was loaded again.
        set_qualified_name(cls, f"{qualified_name(cls)}_{id(cls)}")
        _C._resolve_type_from_object(cls, place, resolve)


def _register_enum(cls: type[enum.Enum], place: Any, resolve: Resolver) -> None:
    # For a way back from the enum's name to the class, torch compiles it as a class, whose methods nobody needs.
    state: Any = torch.jit._state
    if state._script_classes.get(cls) is None:
        empty = ClassDef(Ident(place, cls.__name__), [], [], [])
        compiled: Any = _C._jit_script_class_compile(qualified_name(cls), empty, {}, resolve)
        # Another name than its own, if the class was defined before.
        set_qualified_name(cls, compiled.qualified_name())
        state._add_script_class(cls, compiled)


def set_qualified_name(cls: type, name: str) -> None:
    """Makes TorchScript find what it compiled from `cls` under `name`."""
    cls._jit_override_qualname = name  # type: ignore[attr-defined]


def qualified_name(cls: type) -> str:
    name: str = torch._jit_internal._qualified_name(cls)
    return name


def check_type(text: str, resolve: Resolver) -> None:
    """Raises what TorchScript raises for a type that it cannot have."""
    compile_function("__torch__.torchremote.check", parsed(f"def check(value: {text}):\n  pass"), resolve)


# Graphs and functions


def constant_holding(module: torch.jit.ScriptModule) -> Node:
    """The object that `module.forward` returns, as a constant of a graph: see table.py, Note [The constant table]."""
    frozen: Any = _C._freeze_module(module.eval()._c, [])
    for node in frozen._get_method("forward").graph.nodes():
        if node.kind() == "prim::Constant":
            constant: Node = node
            return constant
    raise RuntimeError("torch did not make the table a constant")


def register_bound(name: str, function: ScriptFunction, constant: Node) -> ScriptFunction:
    """Registers `function`, its first argument bound to `constant`, under `name`, for calls over RPC to find."""
    graph: Any = function.graph.copy()
    bound = graph.prependNode(graph.createClone(constant, lambda value: value))
    next(graph.inputs()).replaceAllUsesWith(bound.output())
    graph.eraseInput(0)
    registered: ScriptFunction = torch.jit._state._python_cu.create_function(name, graph, False)
    return registered


def find_function(name: str) -> ScriptFunction | None:
    found: ScriptFunction | None = torch.jit._state._python_cu.find_function(name)
    return found


def has_method(module: torch.jit.ScriptModule, method: str) -> bool:
    return bool(module._c._has_method(method))


def schema_of(module: torch.jit.ScriptModule, method: str) -> FunctionSchema:
    """The signature of a scripted method."""
    schema: FunctionSchema = module._c._get_method(method).schema
    return schema


def interface_schema(interface: type, method: str) -> FunctionSchema:
    name = interface.__torch_script_interface__  # type: ignore[attr-defined]
    schema: FunctionSchema = _C.InterfaceType(name).getMethod(method)
    return schema


def copy_module(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """A second instance of a scripted module. Nothing is compiled; attributes are shared until assigned."""
    copied: torch.jit.ScriptModule = _wrapped(
        copy.copy(module._c), torch.jit.RecursiveScriptModule, module._concrete_type
    )
    return copied


def as_class(module: torch.jit.ScriptModule, cls: type[Any]) -> Any:
    """The same scripted module, as a `cls`, which derives from RecursiveScriptModule."""
    return _wrapped(module._c, cls, module._concrete_type)


def _wrapped(cpp_module: Any, cls: type[Any], concrete_type: Any) -> Any:
    wrapped = cls(cpp_module)  # what RecursiveScriptModule._construct does, for a subclass
    wrapped._concrete_type = concrete_type
    cls._finalize_scriptmodule(wrapped)
    return wrapped


def replace_child(parent: nn.Module, name: str, child: nn.Module) -> None:
    """Another Python object for the child that `parent` has under `name`; a scripted parent keeps what it runs."""
    modules: Any = parent._modules
    getattr(modules, "_python_modules", modules)[name] = child


def set_child(parent: torch.jit.ScriptModule, name: str, child: torch.jit.ScriptModule) -> None:
    """Another child of the same type, in what `parent` runs."""
    parent._c.setattr(name, child._c)


def before_saving(check: Callable[[torch.jit.ScriptModule], None]) -> None:
    """Has `check` called with every scripted module that is going to be saved; what it raises, the saver gets."""
    scripted: Any = torch.jit.RecursiveScriptModule

    def checked(save: Any) -> Any:
        @functools.wraps(save)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            check(self)
            return save(self, *args, **kwargs)

        return call

    scripted.save = checked(scripted.save)
    scripted.save_to_buffer = checked(scripted.save_to_buffer)


def wrapped(module: Any) -> nn.Module:
    """What an RRef's `local_value` returns, as Python has it: of a scripted module, that is the bare C++ object."""
    if isinstance(module, _C.ScriptModule):
        scripted: nn.Module = _recursive.wrap_cpp_module(module)
        return scripted
    found: nn.Module = module
    return found


def has_interface(name: str) -> bool:
    """Whether TorchScript knows an interface by that name here."""
    return torch.jit._state._python_cu.get_interface(name) is not None


def interface_called(name: str) -> type:
    """A Python class for an interface that TorchScript knows."""
    interface = type(name.rpartition(".")[2], (), {"__torch_script_interface__": name})
    set_qualified_name(interface, name)
    return interface


def scripted_attribute(module: torch.jit.ScriptModule, name: str) -> Any:
    """The attribute itself; an object of a class that is scripted here comes as one of that class."""
    return module._c.getattr(name)


def scripted_method(module: torch.jit.ScriptModule, name: str) -> Callable[..., Any]:
    """The compiled method itself, without what Python finds under its name."""
    method: Callable[..., Any] = module._c._get_method(name)
    return method


# Values of any kind

map_leaves: Callable[..., Any] = torch.utils._pytree.tree_map
"""`map_leaves(function, value, is_leaf=)`: the same containers, the registered ones among them, of mapped leaves."""
map_leaves_with_path: Callable[..., Any] = torch.utils._pytree.tree_map_with_path
path_text: Callable[[Any], str] = torch.utils._pytree.keystr

# RPC

RemoteDevice = torch.distributed._remote_device
"""`remote_device` as torch's RemoteModule reads it, with its errors."""


def check_on_unwrap(future: Any, check: Callable[[object], None]) -> None:
    """Has `check` called with the future's value wherever it is waited for; what `check` raises, the waiter gets."""
    future._set_unwrap_func(check)


def send_as(cls: type[Any], reduce: Callable[[Any], str | tuple[Any, ...]]) -> None:
    """Has RPC's pickler take objects of exactly `cls` apart by `reduce`, which returns what `__reduce__` does."""
    # Its own function to register one keeps the first, and torch.distributed.nn registers one for scripted modules.
    # Exchanged rather than changed: other threads may be looking through it.
    pickler = _api._internal_rpc_pickler
    pickler._class_reducer_dict = {**pickler._class_reducer_dict, cls: reduce}


def rpc_running() -> bool:
    return bool(_api._is_current_rpc_agent_set())


def own_id() -> int | None:
    """This worker's id; None when RPC is not running."""
    try:
        return int(_api._get_current_rpc_agent().get_worker_info().id)
    except RuntimeError:
        return None


def worker_infos() -> list[WorkerInfo]:
    return list(_api._get_current_rpc_agent().get_worker_infos())


def mapped_devices(worker: WorkerInfo) -> list[torch.device]:
    """The devices from which this process sends `worker` tensors, beside the CPU."""
    return list(_api._get_current_rpc_agent()._get_device_map(worker))


# While it is entered, a call takes tensors of subclasses as what they are in C++, and asks no subclass for its opinion.
as_plain_tensors = _C.DisableTorchFunctionSubclass


is_functional: Callable[[torch.Tensor], bool] = torch._is_functional_tensor
"""Whether a tensor stands for another, as in torch.func.functionalize: it has no storage, and its class is Tensor."""


def has_dispatch(tensor: torch.Tensor) -> bool:
    """Whether operators on `tensor` are its Python class's affair."""
    return class_has_dispatch(type(tensor)) or is_functional(tensor)


def class_has_dispatch(cls: type[torch.Tensor]) -> bool:
    return cls.__torch_dispatch__ is not _C._disabled_torch_dispatch_impl


def is_transforming() -> bool:
    """Whether a torch.func transform, such as vmap, is running on this thread: its tensors have no storage."""
    return _C._functorch.peek_interpreter_stack() is not None
