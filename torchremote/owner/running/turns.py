"""Decides for which modules calls run in turn. How they do is in jit/runtime/turns.py, Note [Calls in turn].

Note [One thread for forks]
    Calls run in turn if torch has one thread for forks. torch takes that setting once, and only before the first fork
    or the first wait of scripted code. So a process is prepared as late as possible: when its first module that changes
    itself is hosted. Then processes that host none keep all their threads, on which callers in TorchScript go on after
    they waited. `rpc_options(in_turn=True)` prepares a process from the beginning.

    With the native part, nothing has to be prepared: see jit/lower/in_turn.py, Note [Strands].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import torch

from ... import _torch, native
from ...errors import ArgumentError, CreationError
from ...jit.read.shown import repr_of
from ...jit.script.cache import COMPILING
from ..checks.self_changing import change_of
from .hosting import Hosting

T = TypeVar("T")

_WAIT: Final = 0.1
"""Seconds of one wait in C++ for a turn. In between, Python runs the handlers of signals, such as that of Ctrl-C."""


def check_in_turn(in_turn: object) -> None:
    """Raises ArgumentError if `in_turn`, as `create` and `serve` take it, is none of True, False and None."""
    if in_turn is not None and not isinstance(in_turn, bool):
        raise ArgumentError(
            f"in_turn={repr_of(in_turn)}: True, False or None is wanted; with None, the owner finds out"
        )


def prepare_turns(module: torch.jit.ScriptModule, wanted: bool | None, gather: int | None = None) -> bool:
    """Prepares this process if calls of `module` run in turn, and says whether they do.

    Args:
        wanted: what the user said. None: they do if a method changes the module.
        gather: what the user said. If calls are gathered, the process has to be prepared in any case.

    Raises:
        CreationError: they should, and this process cannot run them so.
    """
    change = change_of(module) if wanted is None else None
    in_turn = bool(wanted) or change is not None
    if native.available():
        return in_turn  # in a strand, for which nothing has to be prepared
    if not in_turn and gather is None:
        return False
    if _torch.use_one_thread_for_forks():
        with COMPILING:
            _torch.compile_starter()
        return in_turn
    name = module.original_name
    why = "in_turn=True" if gather is None else f"gather={gather}"
    if change is not None:
        why = f"{name}.{change}, which is not safe in two calls at once"
    ways_out = ["gather=None"] * (gather is not None)
    ways_out += ["in_turn=False, if no two calls of the module ever run at once"] * in_turn
    raise CreationError(
        f"{name}: its calls have to run one after another ({why}), and this process cannot do that any more: it has "
        f"{torch.get_num_interop_threads()} threads for forks, and torch does not let them be changed after the first "
        "use. When the owner starts, give init_rpc the options of torchremote.rpc_options(in_turn=True), or call "
        f"torch.set_num_interop_threads(1). Or say {' and '.join(ways_out)}"
    )


def take_turn(hosting: Hosting, function: Callable[[], T]) -> T:
    """Calls a Python function between two calls of a module, if these run one after another.

    If the module is on an accelerator, that has done before what it was given, in all streams. With a device map, every
    message has streams of its own: an optimizer's step may still be at work in those of the last one.
    """

    def run() -> T:
        if hosting.device.type == "cuda":  # torch has device maps for CUDA alone
            torch.cuda.synchronize(hosting.device)
        return function()

    if not hosting.ways.takes_turns:
        return run()
    if hosting.strand is None:
        result: T = _torch.run_as_fork(run)
        return result
    turn = hosting.strand.turn()
    try:
        while not turn.comes(_WAIT):
            pass
        return run()
    finally:
        turn.let_go()
