"""Refuses code that TorchScript leaves to Python without a word, so that calls would wait for the owner's GIL.

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


def check_python(where: str, graph: Any) -> None:
    """Raises CreationError if a graph calls Python, unless that is marked.

    Args:
        where: names the method or function that has the graph.
    """
    for place, code in _torch.calls_of_python(graph):
        raise CreationError(
            f"{where} ({place}): `{code}` runs Python, so each call would wait for the owner's GIL; write in "
            "TorchScript what it does, or use a RemoteModule without an interface, which runs Python, or call it in a "
            "function under @torch.jit.ignore, which says that calls may wait"
        )
