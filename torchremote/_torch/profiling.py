"""Marks ranges for torch's profilers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.profiler import record_function

_C: Any = torch._C  # its type stubs lack many names

is_profiling: Callable[[], bool] = _C._autograd._profiler_enabled
"""Says whether a profiler records this thread."""


def call_in_range(name: str, call: Callable[[], Any]) -> Any:
    """Calls `call` within a range of a profiler. Returns its result."""
    with record_function(name):
        return call()


def call_in_range_until_done(name: str, call: Callable[[], Any]) -> Any:
    """Calls `call` within a range of a profiler that ends when the Future that it returns is done. Returns that."""
    with record_function(name) as opened:
        answer = call()
        opened._call_end_callbacks_on_future(answer)
    return answer
