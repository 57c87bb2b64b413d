"""Wraps every private name of torch that torchremote uses. No other file uses one.

torch has no public way to compile TorchScript from anything but a source file, to make an object a constant of a graph,
to register a graph under a name, or to ask an RPC agent for its device map. This file has everything that the package
uses of torch beyond its documentation, with the reason, so that a new torch can be checked in one place. supported.py
lists the names.
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

_C: Any = torch._C  # its type stubs lack many names

Resolver = Callable[[str], object]


def resolver(namespace: Mapping[str, object]) -> Resolver:
    """Makes the function with which TorchScript looks up names, dotted or not, in generated source."""
    evaluate: Resolver = torch._jit_internal.createResolutionCallbackFromEnv(_Scope(namespace))

    def resolve(text: str) -> object:
        if "[" in text or text in _OWN_TYPES:
            return None  # TorchScript then takes the type apart itself, which is faster than evaluating it in Python
        return namespace[text] if text in namespace else evaluate(text)

    return resolve


_OWN_TYPES = frozenset("Tensor Any None bool int float complex str".split())


class _Scope:
    """Has the names of a mapping, and Python's builtins, as attributes."""

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> object:
        return self._namespace.get(name, getattr(builtins, name, None))


class Frontend:
    """Reads generated source with TorchScript's frontend, which is in Python. Tracebacks then have title and line.

    torch.jit.script reads a function's source through inspect, from a file, and tokenises it again for every function.
    The frontend's own functions take a syntax tree.
    """

    def __init__(self, source: str, title: str) -> None:
        # All functions share one context, so there is one copy of the text.
        self._context = _Context(source, title, 1, 0, True)
        self._source = source

    @functools.cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        nodes = ast.parse(self._source).body  # once for all of them
        return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}

    def function(self, name: str) -> Def:
        """Reads a function of the source."""
        definition: Def = frontend.build_def(self._context, self._functions[name], None, name, None)
        return definition

    def class_(self, name: str, line: int, methods: Iterable[Def]) -> ClassDef:
        """Makes the tree of a class from those of its methods."""
        place = self._context.make_range(line, 0, len("class"))
        return ClassDef(Ident(place, name), [Stmt(method) for method in methods], [], [])


def parsed(text: str) -> Def:
    """Reads a function or method with TorchScript's own parser.

    The parser is in C++ and so faster than the frontend, and it knows defaults in an interface. But tracebacks show the
    text alone, without title and line.
    """
    definition: Def = _C._parse_source_def(f"{text}\n")
    return definition


class _Context(_sources.SourceContext):
    """Encodes its text once. torch's own context encodes it for every attribute that it reads."""

    def __init__(self, text: str, *args: Any) -> None:
        super().__init__(text, *args)
        self._text = _Encoded(text)

    @property
    def source(self) -> str:
        return self._text


class _Encoded(str):
    """A text that keeps its encoded bytes."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        assert encoding == "utf-8"
        return self._bytes


# The functions below call the compilers themselves. torch.jit.script and torch.jit.interface warn that they are
# deprecated, and to silence them would also silence other threads' warnings for that time.


def compile_interface(name: str, definition: ClassDef, resolve: Resolver, of_modules: bool) -> str:
    """Compiles an interface. Returns the name that TorchScript gave it, which differs if `name` was taken."""
    taken: str = _C._jit_script_interface_compile(name, definition, resolve, of_modules)
    return taken


def compile_class(cls: type, name: str, definition: ClassDef, methods: Iterable[str], resolve: Resolver) -> None:
    """Compiles `cls`, which has `methods`, under `name`, and registers the result as the class's TorchScript type."""
    # torch's loop over the methods does not end unless each has an entry here.
    no_defaults: dict[str, dict[str, object]] = {method: {} for method in methods}
    compiled: Any = _C._jit_script_class_compile(name, definition, no_defaults, resolve)
    set_qualified_name(cls, compiled.qualified_name())
    torch.jit._state._add_script_class(cls, compiled)


def compile_function(name: str, definition: Def, resolve: Resolver) -> ScriptFunction:
    compiled: ScriptFunction = _C._jit_script_compile(name, definition, resolve, {})
    return compiled


def compile_module(module: nn.Module, methods: Mapping[str, Def], resolve: Resolver) -> torch.jit.ScriptModule:
    """Scripts a generated module from the trees of its methods."""
    stubs = [
        _recursive.ScriptMethodStub(resolve, definition, getattr(module, name)) for name, definition in methods.items()
    ]
    scripted: torch.jit.ScriptModule = _recursive.create_script_module(module, lambda _: stubs)
    return scripted


# Note [Types of hosted modules]
#     torch gives all modules of a class one type, with the methods with which the first of them was scripted. To add a
#     method later would move the type's list of methods while calls read it. So a class gets one type for each set of
#     methods with which it is hosted. These types are in stores of our own, beside torch's. The types of its parts are
#     in torch's.
#
#     A type whose methods failed to compile keeps those that it has, and torch keeps the type. It would try to add them
#     again for the next module of the class, and complain about that. So such types are dropped: before scripting those
#     that were never finished, by whomever, and after a failure all of the module's. Other modules keep theirs.
_stores: dict[tuple[str, ...], Any] = {}


def script_module(module: nn.Module, methods: Iterable[str]) -> torch.jit.ScriptModule:
    """Scripts a user's module: `methods`, the methods that it exports, and everything that these call."""
    wanted = tuple(methods)
    store = _stores.setdefault(wanted, _recursive.ConcreteTypeStore())
    finished = _recursive.concrete_type_store.methods_compiled
    _drop_types(module, lambda known: known not in finished)

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
        if concrete_type not in finished:
            # Reading source takes longest, so it is done only for a new type. `stubs` also serves the module's parts:
            # their types are compiled before its own.
            stubs_of = stubs
            _recursive.AttributeTypeIsSupportedChecker().check(module)
        scripted: torch.jit.ScriptModule = _recursive.create_script_module_impl(module, concrete_type, stubs_of)
    except BaseException:
        del _stores[wanted]
        _drop_types(module, lambda known: True)
        raise
    return scripted


def _drop_types(module: nn.Module, drops: Callable[[Any], bool]) -> None:
    """Makes torch forget types of the parts of `module`, so that it makes new ones when it needs them."""
    known: dict[type, list[Any]] = _recursive.concrete_type_store.type_store
    for cls in {type(part) for part in nn.Module.modules(module) if type(part) in known}:
        known[cls] = [one for one in known[cls] if not drops(one)]


def _no_stubs(part: nn.Module) -> list[Any]:
    """Says that no method of `part` is left to compile."""
    return []


def is_exported(member: object) -> bool:
    """Says whether TorchScript compiles a method of a module although nothing calls it."""
    return str(getattr(member, "_torchscript_modifier", "")).startswith("export")


def is_ignored(function: object) -> bool:
    """Says whether TorchScript does not compile a function: one under `ignore` or `unused`, say."""
    modifier = str(getattr(function, "_torchscript_modifier", ""))
    return modifier.startswith(("ignore", "unused", "_drop"))


def is_frozen(module: torch.jit.ScriptModule) -> bool:
    """Says whether `torch.jit.freeze` made a module: it lacks what every scripted module has."""
    return not (hasattr(module, "training") and hasattr(module, "_concrete_type"))


def custom_objects(module: torch.jit.ScriptModule) -> Iterable[tuple[str, str]]:
    """Yields the attributes of a scripted module that are objects of torch's own classes, with their class's name."""
    for name, (kind, _) in module._concrete_type.get_attributes().items():
        if str(kind).startswith("__torch__.torch.classes."):
            yield name, str(kind).removeprefix("__torch__.")


def register_class(cls: type) -> None:
    """Registers an Enum or NamedTuple class with TorchScript, without reading its source."""
    resolve = resolver({})  # code that refers to the class later has no names either, so annotations must not need any
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
        # A class of that name had other fields before: in a REPL, or in a module that was loaded again.
        set_qualified_name(cls, f"{qualified_name(cls)}_{id(cls)}")
        _C._resolve_type_from_object(cls, place, resolve)


def _register_enum(cls: type[enum.Enum], place: Any, resolve: Resolver) -> None:
    # torch finds an enum by name only if it is also compiled as a class. That class needs no methods.
    state: Any = torch.jit._state
    if state._script_classes.get(cls) is None:
        empty = ClassDef(Ident(place, cls.__name__), [], [], [])
        compiled: Any = _C._jit_script_class_compile(qualified_name(cls), empty, {}, resolve)
        # TorchScript chose another name if the class was defined before.
        set_qualified_name(cls, compiled.qualified_name())
        state._add_script_class(cls, compiled)


def set_qualified_name(cls: type, name: str) -> None:
    """Sets the name under which TorchScript looks for the type that it compiled from `cls`."""
    cls._jit_override_qualname = name  # type: ignore[attr-defined]


def qualified_name(cls: type) -> str:
    """Returns the name under which TorchScript knows a class."""
    name: str = torch._jit_internal._qualified_name(cls)
    return name


def check_type(text: str, resolve: Resolver) -> None:
    """Compiles a function with an argument of that type. Raises TorchScript's RuntimeError if it cannot have it."""
    compile_function("__torch__.torchremote.check", parsed(f"def check(value: {text}):\n  pass"), resolve)


# Graphs and functions


def constant_holding(module: torch.jit.ScriptModule) -> Node:
    """Makes the object that `module.forward` returns a constant of a graph: see table.py, Note [The constant table]."""
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


def has_method(module: torch.jit.ScriptModule, method: str) -> bool:
    return bool(module._c._has_method(method))


def schema_of(module: torch.jit.ScriptModule, method: str) -> FunctionSchema:
    """Returns the signature of a scripted method."""
    schema: FunctionSchema = module._c._get_method(method).schema
    return schema


def interface_schema(interface: type, method: str) -> FunctionSchema:
    """Returns the signature of an interface's method."""
    name = interface.__torch_script_interface__  # type: ignore[attr-defined]
    schema: FunctionSchema = _C.InterfaceType(name).getMethod(method)
    return schema


def copy_module(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Makes a second instance of a scripted module. Nothing is compiled. Attributes are shared until assigned."""
    copied: torch.jit.ScriptModule = _wrapped(
        copy.copy(module._c), torch.jit.RecursiveScriptModule, module._concrete_type
    )
    return copied


def as_class(module: torch.jit.ScriptModule, cls: type[Any]) -> Any:
    """Returns the same scripted module as an instance of `cls`, a subclass of RecursiveScriptModule."""
    return _wrapped(module._c, cls, module._concrete_type)


def _wrapped(cpp_module: Any, cls: type[Any], concrete_type: Any) -> Any:
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


def wrapped(module: Any) -> nn.Module:
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


def scripted_attribute(module: torch.jit.ScriptModule, name: str) -> Any:
    """Returns an attribute of a scripted module. An object of a class that is scripted here comes as that class."""
    return module._c.getattr(name)


def scripted_method(module: torch.jit.ScriptModule, name: str) -> Callable[..., Any]:
    """Returns the compiled method, even if Python finds something else under its name."""
    method: Callable[..., Any] = module._c._get_method(name)
    return method


# Values of any kind

map_leaves: Callable[..., Any] = torch.utils._pytree.tree_map
"""`map_leaves(function, value, is_leaf=)` maps the leaves of nested containers, registered ones too."""
map_leaves_with_path: Callable[..., Any] = torch.utils._pytree.tree_map_with_path
path_text: Callable[[Any], str] = torch.utils._pytree.keystr

# RPC

RemoteDevice = torch.distributed._remote_device
"""Parses a `remote_device` as torch's RemoteModule does, with the same errors."""


def check_on_unwrap(future: Any, check: Callable[[object], None]) -> None:
    """Makes the future call `check` with its value in every `wait`. An exception of `check` is raised from `wait`."""
    future._set_unwrap_func(check)


def send_as(cls: type[Any], reduce: Callable[[Any], str | tuple[Any, ...]]) -> None:
    """Makes RPC's pickler call `reduce` for objects of exactly `cls`. `reduce` returns the same as `__reduce__`."""
    # torch's own function keeps the first `reduce` of a class, and torch.distributed.nn sets one for scripted modules.
    # The dict is exchanged, not changed, because other threads may be reading it.
    pickler = _api._internal_rpc_pickler
    pickler._class_reducer_dict = {**pickler._class_reducer_dict, cls: reduce}


def rpc_running() -> bool:
    return bool(_api._is_current_rpc_agent_set())


def own_id() -> int | None:
    """Returns this worker's id, or None if RPC is not running."""
    try:
        return int(_api._get_current_rpc_agent().get_worker_info().id)
    except RuntimeError:
        return None


def worker_infos() -> list[WorkerInfo]:
    """Lists the workers of this process's group."""
    return list(_api._get_current_rpc_agent().get_worker_infos())


def mapped_devices(worker: WorkerInfo) -> list[torch.device]:
    """Lists the devices, beside the CPU, from which this process can send tensors to `worker`."""
    return list(_api._get_current_rpc_agent()._get_device_map(worker))


# A context manager. Inside it, a call treats tensors of subclasses as plain ones and does not call __torch_function__.
as_plain_tensors = _C.DisableTorchFunctionSubclass


is_functional: Callable[[torch.Tensor], bool] = torch._is_functional_tensor
"""Says whether a tensor of class Tensor stands for another and has no storage, as in torch.func.functionalize."""


def has_dispatch(tensor: torch.Tensor) -> bool:
    """Says whether operators on `tensor` run Python code of its class."""
    return class_has_dispatch(type(tensor)) or is_functional(tensor)


def class_has_dispatch(cls: type[torch.Tensor]) -> bool:
    """Says whether operators on tensors of `cls` run Python code of that class."""
    return cls.__torch_dispatch__ is not _C._disabled_torch_dispatch_impl


def is_transforming() -> bool:
    """Says whether a torch.func transform, such as vmap, runs on this thread. Its tensors have no storage."""
    return _C._functorch.peek_interpreter_stack() is not None
