"""Scripts the modules of users, and tells what is special of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

import torch
import torch._jit_internal
from torch import nn
from torch.jit import _recursive, frontend

from .export import is_in_python
from .scripted import place_of

_C: Any = torch._C  # its type stubs lack many names

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


def script_module(
    module: nn.Module, methods: Iterable[str], overloads: Mapping[str, Callable[..., Any]] | None = None
) -> torch.jit.ScriptModule:
    """Scripts a user's module: `methods`, the methods that it exports, and everything that these call.

    Args:
        overloads: for a method with overloads, the one that is compiled under the method's name.
    """
    wanted = tuple(methods)
    chosen = overloads or {}
    key = (*wanted, *map(str, chosen.values()))
    store = _stores.setdefault(key, _recursive.ConcreteTypeStore())
    finished = _recursive.concrete_type_store.methods_compiled
    _drop_types(module, lambda known: known not in finished)

    def stubs(part: nn.Module) -> list[Any]:
        if part is not module:
            inferred: list[Any] = _recursive.infer_methods_to_compile(part)
            return inferred
        exported: list[Any] = _recursive.make_stubs_from_exported_methods(module)
        names = {stub.original_method.__name__ for stub in exported}
        exported += [_overloaded(module, name, chosen[name]) for name in chosen]
        names.update(chosen)
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
        del _stores[key]
        _drop_types(module, lambda known: True)
        raise
    return scripted


def overloads_of(module: nn.Module, method: str) -> list[Callable[..., Any]]:
    """Returns the overloads of a method, as `torch.jit._overload_method` declares them."""
    return list(torch._jit_internal._get_overloaded_methods(getattr(module, method), type(module)) or ())


def _overloaded(module: nn.Module, name: str, overload: Callable[..., Any]) -> Any:
    """Makes the stub of a method with the signature of one of its overloads."""
    method = getattr(module, name)
    body = frontend.get_jit_def(method, name, self_name="RecursiveScriptModule")
    signature = frontend.get_jit_def(overload, name, self_name="RecursiveScriptModule").decl()
    definition = _C._replace_overloaded_method_decl(signature, body, name)
    resolve = torch._jit_internal.createResolutionCallbackFromClosure(method)
    return _recursive.ScriptMethodStub(resolve, definition, overload)


def graphs_in(module: torch.jit.ScriptModule) -> dict[str, Any]:
    """Returns the graphs of all that runs when methods of a scripted module do, each under a name.

    They are those of its methods and parts, as "1 Class.method", of what these fork, and of the functions and classes
    that they use, under their TorchScript names.
    """
    parts = [part for part in module.modules() if isinstance(part, torch.jit.ScriptModule)]
    methods = [(number, part._c, name) for number, part in enumerate(parts) for name in part._c._method_names()]
    found = {f"{number} {part._type().name()}.{name}": part._get_method(name).graph for number, part, name in methods}
    waiting: list[tuple[str, Any]] = list(found.items())
    while waiting:
        where, block = waiting.pop()
        for node in block.nodes():
            waiting += [(where, inner) for inner in node.blocks()]
            graph, name = None, ""
            if node.hasAttribute("Subgraph"):
                name, graph = f"{where} {len(found)}", node.g("Subgraph")
            elif node.kind() in ("prim::CallFunction", "prim::CallMethod"):
                name = str(next(node.inputs()).type().annotation_str)  # a function is a constant of the graph
                name += f".{node.s('name')}" if node.kind() == "prim::CallMethod" else ""
                function = None if name in found else torch.jit._state._python_cu.find_function(name)
                graph = None if function is None else function.graph
            if graph is not None:
                found[name] = graph
                waiting.append((name, graph))
    return found


def functions_in(module: torch.jit.ScriptModule) -> list[Any]:
    """Returns the Python functions that were compiled for a scripted module, its parts, and other such functions."""
    known = {str(name): function for function, name in torch.jit._state._jit_caching_layer.items()}
    return [known[name] for name in graphs_in(module) if name in known]


def calls_of_python(graph: Any) -> list[tuple[str, str]]:
    """Lists where a graph itself runs Python, but for what is under `torch.jit.ignore`: as `place_of` does."""
    found = [place_of(node) for node in graph.findAllNodes("prim::PythonOp") if not is_ignored(node.pyobj())]
    waiting = [graph]
    while waiting:
        for node in waiting.pop().nodes():
            waiting += node.blocks()
            name, _, overload = node.schema().partition("(")[0].partition(".")  # torch cannot read all that it writes
            if is_in_python(name, overload):
                found.append(place_of(node))
    return found


def is_traced_only(function: Any) -> bool:
    """Says whether a decorated function is one that torch scripts only while it traces; then it knows the original."""
    return hasattr(function, "__script_if_tracing_wrapper")


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


def converts_states_by(module: nn.Module, is_whole: bool) -> str:
    """Names what of a module's own converts a state that it loads. "" for what is torch's own.

    Args:
        is_whole: the module is no part of another one, so its `load_state_dict` runs.
    """
    for method in ("load_state_dict", "_load_from_state_dict") if is_whole else ("_load_from_state_dict",):
        if not _is_torchs(getattr(module, method)):
            return method
    hooks = getattr(module, "_load_state_dict_pre_hooks", {}).values()
    if all(_is_torchs(getattr(hook, "hook", hook)) for hook in hooks):
        return ""
    return "load_state_dict_pre_hook"


def _is_torchs(function: Any) -> bool:
    """Says whether a function or a method is defined in torch."""
    module = getattr(getattr(function, "__func__", function), "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == "torch"


def not_compiled(module: nn.Module) -> nn.Module:
    """Returns the module from which `torch.compile` made another one, or `module` itself."""
    original: nn.Module = getattr(module, "_orig_mod", module)
    return original


def train_follows(frame: FrameType | None) -> bool:
    """Says whether `frame` is that of what torch.compile gives of a module, which sets its mode and then calls `train`.

    torch's `train` sets the mode of a module, and then calls that of its parts. What torch.compile gives hands the
    first down to the original, which is its part.
    """
    if frame is None or frame.f_globals.get("__name__") != "torch._dynamo.eval_frame":
        return False
    while frame is not None and frame.f_code.co_name in ("training", "__setattr__"):
        frame = frame.f_back
    return frame is not None and frame.f_code is nn.Module.train.__code__
