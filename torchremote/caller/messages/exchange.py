"""Sends the messages of a caller, and waits for their answers.

Calls, asynchronous calls, batches, creations and questions all go through `send`. A rule for every message belongs
here: which errors its failures become, which tensors are kept meanwhile, how the caller waits for it.

Messages that take back what others began (caller/creating), and those about leases (owner/lives), go out by torch's own
functions. They have no tensor of a user's, and if one fails, nobody is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from ... import _torch, native
from ...link.failures import FAILURES, check_not_forked
from .failures_later import Failing
from .kept_tensors import keep_tensors, may_be_recorded, until_answered
from .waiting import unless_of_a_handler, wait_until_done

Catches = tuple[type[Exception], ...]

_is_autocasting, _is_grad_enabled = _torch.is_autocasting, torch.is_grad_enabled
_is_inferring = torch.is_inference_mode_enabled
_PICKLE: Final = (rpc.rpc_async, rpc.remote)  # what they send


def send(
    start: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    failing: Failing = Exception,
    catches: Catches = FAILURES,
    keeps_recorded: bool = not native.available(),
) -> Any:
    """Sends a message: calls `start`, which returns the Future of its answer, or an RRef.

    Args:
        keeps_recorded: keeps the tensors of which autograd may record that they are sent. Links with the native part do
            so themselves: see kept_tensors.py.

    Raises:
        If `start` raises one of `catches`, nothing was sent, and `failing` makes the error to raise. Others pass.
        NotInitializedError: this process was forked from one in which RPC runs. It has none of its threads, so nobody
            would ever answer.
    """
    check_not_forked()
    kept = None
    if (is_pickled := start in _PICKLE) or (keeps_recorded and _is_grad_enabled() and may_be_recorded(args)):
        kept = keep_tensors(args, is_pickled)
    try:
        if _is_autocasting() or _is_inferring():
            # TorchScript would make float32 of every half tensor that it passes to an interface, as to the link.
            with _torch.without_autocast(), _torch.without_inference():
                answer = start(*args, **kwargs)
        else:
            answer = start(*args, **kwargs)
    except unless_of_a_handler(*catches) as error:
        raise failing(error) from None  # its message has everything
    if kept is not None:
        until_answered(answer, kept)
    return answer


def settle(answer: Any, unpack: Callable[[Any], Any] | None, failing: Failing, catches: Catches = FAILURES) -> Any:
    """Waits for a message's answer, and returns it, unpacked by `unpack`.

    It waits in Python. TorchScript would go on in another thread, and the switch costs time. Ctrl-C ends the waiting:
    see waiting.py, Note [Waiting and signals].

    Raises:
        If waiting raises one of `catches`, `failing` makes the error to raise. Others pass.
    """
    wait_until_done(answer)
    try:
        value = answer.wait()
    except unless_of_a_handler(*catches) as error:
        raise failing(error) from None
    return value if unpack is None else unpack(value)
