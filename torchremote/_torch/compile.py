"""Calls TorchScript's compilers, and registers classes with them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import _sources, nn
from torch._C._jit_tree_views import ClassDef, Def, Ident
from torch.jit import _recursive

from .frontend import Resolver, parsed, resolver
from .scripted import ScriptFunction, qualified_name, set_qualified_name

_C: Any = torch._C  # its type stubs lack many names


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
    """Scripts a generated module from the trees of its methods. Its parts have none."""
    stubs = [
        _recursive.ScriptMethodStub(resolve, definition, getattr(module, name)) for name, definition in methods.items()
    ]
    scripted: torch.jit.ScriptModule = _recursive.create_script_module(
        module, lambda part: stubs if part is module else []
    )
    for name in methods:
        # While any thread runs torch.export, Python calls what such an attribute wraps in its place: a method of ours
        # that is empty in Python.
        scripted.__dict__[name] = scripted._c._get_method(name)
    return scripted


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


def check_type(text: str, resolve: Resolver) -> None:
    """Compiles a function with an argument of that type. Raises TorchScript's RuntimeError if it cannot have it."""
    compile_function("__torch__.torchremote.check", parsed(f"def check(value: {text}):\n  pass"), resolve)


def keep_out_of_graphs(function: Callable[..., Any], reason: str) -> None:
    """Has Dynamo not trace a function, as torch.compiler.disable does, whose wrapper would cost each call 0.5 us."""
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    function._torchdynamo_disable_msg = reason  # type: ignore[attr-defined]
