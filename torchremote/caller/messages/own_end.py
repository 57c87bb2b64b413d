"""Words the refusal of a message to a module that is gone because this process leaves.

Note [References that are let go]
    A process that leaves its group, or calls `rpc.shutdown()`, lets go of its references to what others own, and ends
    RPC only then: else their owners would log them as leaks. In between it still sends. Another thread of it may call a
    stub of a module without a name, which lives as long as such references. The owner has removed the module by then,
    and refuses the call as it refuses all that come too late. Only the caller knows that it was not withdrawn.
"""

from __future__ import annotations

import inspect
import sys
from traceback import walk_stack
from typing import Final

import torch.distributed.rpc as rpc

from ... import _torch
from ...errors import NotInitializedError, StaleStubError, TorchRemoteError
from ...link.failures import SOME_MAY_HAVE_RUN, WHEN_RUNNING
from ...link.route import Route

_SHUTDOWN: Final = inspect.unwrap(rpc.shutdown).__code__


def unless_let_go(failure: TorchRemoteError, where: str, route: Route) -> TorchRemoteError:
    """Returns the error of a message, or another one if the module is gone because this process leaves.

    Args:
        where: the beginning of the error, as in "Encoder.forward on ps".
        route: the way that the message went.
    """
    if not isinstance(failure, StaleStubError) or route.lease is None or not _lets_go():
        return failure
    ran = SOME_MAY_HAVE_RUN if failure._some_may_have_run else "nothing was done"
    return NotInitializedError(
        f"{where}: this process leaves its group, or ends RPC, and has let go of the module; {ran}; {WHEN_RUNNING}"
    )


def _lets_go() -> bool:
    """Says whether this process ends RPC, and lets go of its references meanwhile, or has left its group."""
    # rpc.shutdown() does it in the middle, and leaves no other sign of that.
    frames = (frame for innermost in sys._current_frames().values() for frame, _ in walk_stack(innermost))
    return _torch.has_let_go() or any(frame.f_code is _SHUTDOWN for frame in frames)
