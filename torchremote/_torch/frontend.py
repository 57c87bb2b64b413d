"""Reads generated source, and looks up its names, for TorchScript's compilers."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch._jit_internal
from torch import _sources
from torch._C._jit_tree_views import ClassDef, Def, Ident, Stmt
from torch.jit import frontend

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
        self._context = _Context(source, title, 1, 0, True)
        self._title = title

    def function(self, name: str, text: str, line: int) -> Def:
        """Reads a function of the source, whose `text` begins at `line`, counted from 1."""
        # It has a context of its own: TorchScript's compiler searches through the whole text of a context.
        context = _Context(text, self._title, line, 0, True)
        definition: Def = frontend.build_def(context, ast.parse(text).body[0], None, name, None)
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
