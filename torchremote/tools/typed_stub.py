"""An interface -> the class of its stubs, as text for a `.pyi`: see typing.py, Note [Typed stubs]."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Union

from ..caller.calls.described import ASYNC, REMOTE
from ..jit import compile_interface
from ..jit.read.aliases import ALIASES, stands_for, variables_of
from ..jit.read.interface import names_in_body

IMPORTS: Final = {"_abc": "abc", "_typing": "typing", "_stubs": "torchremote.caller.typed"}
"""The modules that the text refers to, by the names that they have in the file."""


class StubWriter:
    """Writes the classes of the stubs of one file's interfaces. `imports` has the modules that they refer to."""

    def __init__(self, tree: ast.Module) -> None:
        self.imports = dict(IMPORTS)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        self._functions = {min([node.lineno, *(it.lineno for it in node.decorator_list)]): node for node in functions}

    def stub_class(self, cls: type) -> str:
        """Returns the text of the class of an interface's stubs."""
        interface = compile_interface(cls).interface
        # It exists for type checkers alone: a program that imports it has to do so under TYPE_CHECKING.
        lines = ["@_typing.type_check_only", f"class {cls.__name__}Stub({cls.__name__}, _stubs.TypedStub):"]
        for method in interface.methods:
            lines += self._written(cls, method.name).declarations()
        if interface.method("forward") is None:
            lines.append("    def __call__(self, the_interface_has_no_forward: _typing.Never) -> None: ...")
        return "\n".join(lines)

    def _written(self, cls: type, name: str) -> _Written:
        """Reads a method of an interface as it is written."""
        function = inspect.unwrap(getattr(cls, name))
        node = self._functions.get(function.__code__.co_firstlineno) if function.__module__ == cls.__module__ else None
        doc = inspect.getdoc(function)
        base = next(base for base in cls.__mro__ if name in vars(base))
        if node is None or node.name != function.__name__:
            return self._from_elsewhere(name, doc, function, names_in_body(base))
        node = _OfBody(base).visit(copy.deepcopy(node))
        arguments, defaults = node.args, node.args.defaults
        positional = [*arguments.posonlyargs, *arguments.args][1:]
        optional = [False] * (len(positional) - len(defaults)) + [True] * len(defaults)
        optional += [default is not None for default in arguments.kw_defaults]
        annotations = [_text(argument.annotation) for argument in (*positional, *arguments.kwonlyargs)]
        return _Written(name, doc, _text(arguments), annotations, optional, _text(node.returns))

    def _from_elsewhere(
        self, name: str, doc: str | None, function: Callable[..., Any], names: dict[str, Any]
    ) -> _Written:
        """Reads a method that is inherited from another module, whose names mean nothing in this file."""
        hints = typing.get_type_hints(function, None, names)
        first, *arguments = inspect.signature(function).parameters.values()
        annotations = [self._spelled(hints[argument.name]) for argument in arguments]
        optional = [argument.default is not argument.empty for argument in arguments]
        parameters = [first.name]
        for argument, annotation, has_default in zip(arguments, annotations, optional, strict=True):
            if argument.kind is argument.KEYWORD_ONLY and "*" not in parameters:
                parameters.append("*")
            parameters.append(f"{argument.name}: {annotation}{' = ...' if has_default else ''}")
        last = sum(argument.kind is argument.POSITIONAL_ONLY for argument in (first, *arguments))
        if last:
            parameters.insert(last, "/")
        return _Written(name, doc, ", ".join(parameters), annotations, optional, self._spelled(hints["return"]))

    def _spelled(self, annotation: Any, variables: Mapping[Any, str] = types.MappingProxyType({})) -> str:
        """Writes an annotation with the full names of classes and aliases. An alias without such a name is spelled out.

        Args:
            variables: how the type variables of an alias that is spelled out are written.
        """
        origin, given = typing.get_origin(annotation), typing.get_args(annotation)
        if annotation is types.NoneType:
            return "None"
        if isinstance(annotation, typing.TypeVar):
            return variables.get(annotation, "_typing.Any")
        if origin is typing.Literal:
            return f"_typing.Literal[{', '.join(map(repr, given))}]"
        items = [self._spelled(item, variables) for item in given]
        if origin in (Union, types.UnionType):
            return " | ".join(items)
        if origin is typing.Final:
            return items[0]
        named = annotation if origin is None else origin
        if name := _name_of(named):
            written = f"_{named.__module__.replace('.', '_')}"
            self.imports[written] = named.__module__
            return f"{written}.{name}" if origin is None else f"{written}.{name}[{', '.join(items) or '()'}]"
        if isinstance(named, ALIASES):
            inside: dict[Any, str] = {}
            for variable, item in variables_of(named, given).items():
                inside[variable] = items[len(inside)] if len(inside) < len(items) else self._spelled(item, inside)
            return self._spelled(stands_for(named), inside)
        return "_typing.Any"


def _name_of(named: Any) -> str:
    """Returns the name by which a module has a class or an alias, or ""."""
    if isinstance(named, ALIASES):
        name = named.__name__
        return name if getattr(sys.modules.get(named.__module__ or ""), name, None) is named else ""
    return named.__qualname__ if isinstance(named, type) and "<" not in named.__qualname__ else ""


class _OfBody(ast.NodeTransformer):
    """Gives the names of a class's body, in the arguments and the result of its methods, the name of the class."""

    def __init__(self, cls: type) -> None:
        self._cls, self._names = cls, names_in_body(cls)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.args = self.visit(node.args)
        node.returns = self._annotation(node.returns)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = self._annotation(node.annotation)
        return node

    def _annotation(self, written: ast.expr | None) -> Any:
        if isinstance(written, ast.Constant) and isinstance(written.value, str):
            text = ast.unparse(self.visit(ast.parse(written.value, mode="eval")))
            return written if text == ast.unparse(ast.parse(written.value)) else ast.Name(text)
        return written and self.visit(written)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(f"{self._cls.__qualname__}.{node.id}") if node.id in self._names else node


@dataclass(frozen=True)
class _Written:
    """A method of an interface, as text that means the same in the file."""

    name: str
    doc: str | None
    parameters: str  # with self
    annotations: list[str]  # of its arguments
    optional: list[bool]  # whether they have defaults
    returns: str

    def declarations(self) -> Iterator[str]:
        """Yields the lines of the methods that a stub has for this one."""
        for name in (self.name, "__call__") if self.name == "forward" else (self.name,):
            yield f"    def {name}({self.parameters}) -> {self.returns}:{_body(self.doc)}"
        doc = "\n\n".join(filter(None, (self.doc, ASYNC)))
        yield f"    def {self.name}_async({self.parameters}) -> _stubs.Answer[{self.returns}]:{_body(doc)}"
        doc = "\n\n".join(filter(None, (self.doc, REMOTE)))
        yield f"    def {self.name}_remote({self.parameters}) -> _stubs.RRef[{self.returns}]:{_body(doc)}"
        # Arguments with a default may be left out of a call, if all after them are left out.
        least = next((n for n in range(len(self.optional), 0, -1) if not self.optional[n - 1]), 0)
        calls = " | ".join(
            f"tuple[{', '.join(self.annotations[:count]) or '()'}]" for count in range(least, len(self.annotations) + 1)
        )
        yield f"    {self.name}_many: _stubs.Many[{calls}, {self.returns}]"
        yield f"    {self.name}_many_async: _stubs.ManyAsync[{calls}, {self.returns}]"


def _body(doc: str | None) -> str:
    """Returns the body of a method: its docstring, or what stands for nothing."""
    if doc is None:
        return " ..."
    quoted = repr(doc) if '"""' in doc or "\\" in doc or doc.endswith('"') else f'"""{doc}"""'
    return textwrap.indent(f"\n{quoted}", "        ") if "\n" in doc else f"\n        {quoted}"


def _text(node: ast.AST | None) -> str:
    """Returns the text of what is written. An interface leaves out no annotation."""
    assert node is not None
    return ast.unparse(node)
