"""Describes stubs to `help`, editors and shells: signatures, docstrings, the order of names, the nearest name."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch.distributed.rpc import RRef

from ... import _torch
from ...jit import CompiledInterface
from ...jit.read.interface import GENERATED
from ...jit.read.model import Method

ENDINGS: Final = ("", *GENERATED)

ASYNC: Final = "Returns a torch.futures.Future of the result, at once."

REMOTE: Final = "Returns an RRef of the result, at once. The result stays where the module is."

MANY: Final = """Makes many calls of {name}.

Args:
    calls: a list of calls. Each is a tuple of arguments, keyword-only ones last, or a mapping from their names.
        Arguments with a default may be left out.
    return_exceptions: False sends one message, and the owner runs the calls in order. The first that fails ends the
        batch, and the error says which it was. True sends a message for each call, all at once, and puts an error in
        the place of the result of a call that fails.

Returns:
    {results}, in the order of the calls."""


def describe(
    call: Callable[..., Any], compiled: CompiledInterface, method: Method, ending: str, model: inspect.Signature
) -> None:
    """Gives a Python method of stubs the name, signature and docstring that people are to see, and keeps graphs off it.

    Args:
        ending: what its name has after the method's.
        model: the method's signature from the model, for an interface that came as text.
    """
    written = compiled.as_written.methods.get(method.name)
    signature, doc = (model, None) if written is None else (written.signature, written.doc)
    call.__name__ = call.__qualname__ = f"{method.name}{ending}"
    call.__signature__ = _signature(signature, ending)  # type: ignore[attr-defined]
    call.__doc__ = docstring(method.name, doc, ending)
    _torch.keep_out_of_graphs(
        call, f"{compiled.interface.name}.{call.__name__}: a remote call has no graph; call it outside"
    )


def docstring(method: str, doc: str | None, ending: str) -> str | None:
    """Makes the docstring of a stub's method from that of its interface's."""
    parts = [doc]
    if "_many" in ending:
        results = "A torch.futures.Future of the results" if ending == "_many_async" else "The results"
        parts = [MANY.format(name=method, results=results), doc and f"{method}: {doc}"]
    elif ending:
        parts.append(REMOTE if ending == "_remote" else ASYNC)
    return "\n\n".join(filter(None, parts)) or None


def _signature(one: inspect.Signature, ending: str) -> inspect.Signature:
    """Makes the signature of a stub's method from that of its interface's."""
    returns = one.return_annotation
    if "_many" in ending:
        first, *arguments = one.parameters.values()
        every = tuple(argument.annotation for argument in arguments)
        calls = Iterable[tuple[every] | Mapping[str, Any]]  # type: ignore[valid-type]
        kind = inspect.Parameter
        one = inspect.Signature(
            [
                first,
                kind("calls", kind.POSITIONAL_OR_KEYWORD, annotation=calls),
                kind("return_exceptions", kind.KEYWORD_ONLY, default=False, annotation=bool),
            ]
        )
        returns = f"list[{returns}]" if isinstance(returns, str) else list[returns]  # type: ignore[valid-type]
    if "_async" in ending:
        returns = f"{_FUTURE}[{returns}]" if isinstance(returns, str) else _Future(torch.futures.Future, (returns,))
    if ending == "_remote":
        returns = f"RRef[{returns}]" if isinstance(returns, str) else types.GenericAlias(RRef, (returns,))
    return one.replace(return_annotation=returns)


_FUTURE: Final = "torch.futures.Future"


class _Future(types.GenericAlias):
    """A Future of something. The class itself is shown as `torch.jit.Future`, which is another of its names."""

    def __repr__(self) -> str:
        (item,) = self.__args__
        return f"{_FUTURE}[{inspect.formatannotation(item)}]"


class CallSignature:
    """The signature of a stub that is called itself: that of its `forward`."""

    def __get__(self, stub: Any, owner: type) -> inspect.Signature | None:
        return None if stub is None or not hasattr(stub, "forward") else inspect.signature(stub.forward)


class _First(str):
    """A name that is sorted before all ordinary strings: `dir` sorts what it is given."""

    def __new__(cls, name: str, place: int) -> _First:
        it = super().__new__(cls, name)
        it.place = place
        return it

    place: int

    def __lt__(self, other: str) -> bool:
        return not isinstance(other, _First) or self.place < other.place

    def __gt__(self, other: str) -> bool:
        return isinstance(other, _First) and self.place > other.place


def in_order(compiled: CompiledInterface, others: Iterable[str]) -> list[str]:
    """Lists the names of a stub, for `dir`: the methods of its interface come first, and stay there when sorted."""
    own = [f"{method.name}{ending}" for method in compiled.interface.methods for ending in ENDINGS]
    return [*map(_First, own, range(len(own))), *(name for name in others if name not in own)]


def no_such(compiled: CompiledInterface, name: str) -> AttributeError:
    """Makes the error for a name that a stub does not have. It has the nearest name, and the list."""
    interface = compiled.interface.name
    if name in compiled.as_written.values:
        return AttributeError(f"{interface}.{name}: a stub has methods alone; read it of the interface itself")
    methods = [method.name for method in compiled.interface.methods]
    near = difflib.get_close_matches(name, [f"{method}{ending}" for method in methods for ending in ENDINGS], n=1)
    has = f"did you mean {near[0]}? It has" if near else "it has"
    return AttributeError(
        f"{interface}.{name}: a stub has no such attribute; {has} {', '.join(methods)}, and for each <m> "
        "also <m>_async, <m>_many, <m>_many_async and <m>_remote"
    )
