"""Keeps torch's logger of statistics, to which scripted code adds: see jit/runtime/counting.py."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

_C: Any = torch._C  # its type stubs lack many names

_logger: Any = None


def start_counting() -> None:
    """Has this process keep the numbers to which scripted code adds, from now on. Does nothing the second time."""
    global _logger
    if _logger is None:
        logger = _C.LockingLogger()
        # torch keeps a bare pointer, and threads of RPC may still add to it when the interpreter ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(logger))
        _C._logging_set_logger(logger)
        _logger = logger


def is_counting() -> bool:
    return _logger is not None


def counted(key: str) -> int:
    """Returns the number of a key: 0 if nothing was added to it."""
    return int(_logger.get_counter_val(key))
