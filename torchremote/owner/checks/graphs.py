"""Refuses what a graph shows to outlast its call, to run in another way than in the module, or to run Python.

Note [Python in a call]
    TorchScript compiles functions. What else can be called, it leaves to Python: `apply` of an autograd.Function, whose
    backward is Python, too; functools.partial; a cached function; what torch.library.custom_op gives. And an operator
    that was registered with torch.library may be computed by Python. A call of these waits for the owner's GIL, as
    none of ours may.

    What is under `torch.jit.ignore` is left to Python because its author says so, and is hosted.
"""

from __future__ import annotations

from typing import Any

from ... import _torch
from ...errors import CreationError
from .remedies import REMEDY


def check_graph(where: str, graph: Any) -> None:
    """Raises CreationError for a graph that sets gradients for its thread, is unsure of autocast, or calls Python.

    Later calls of any module would get the grad mode that it sets. The first call with arguments of autocast that are
    no constants would raise, and all later ones would run without autocast, or with bfloat16 for another dtype.

    Args:
        where: names the method or function that has the graph.
    """
    for place, code in _torch.places_that_set_gradients(graph):
        raise CreationError(
            f"{where} ({place}): `{code}` turns gradients on or off for the thread, also for calls of other modules "
            "that it runs later; write `with torch.no_grad():` around what needs none"
        )
    for name, place, code in _torch.casts_that_vary(graph):
        raise CreationError(
            f"{where} ({place}): `{code}` does not have a constant for {name}, and TorchScript would leave autocast "
            'out, or take another dtype; write a literal, as "cpu" or torch.bfloat16, or for an attribute '
            f'`__constants__ = ["its_name"]` in the body of the class; or {REMEDY}'
        )
    for place, code in _torch.calls_of_python(graph):
        raise CreationError(
            f"{where} ({place}): `{code}` runs Python, so each call would wait for the owner's GIL; write in "
            "TorchScript what it does, or use a RemoteModule without an interface, which runs Python, or call it in a "
            "function under @torch.jit.ignore, which says that calls may wait"
        )
