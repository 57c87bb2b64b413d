"""Uses the threads on which TorchScript runs what `torch.jit.fork` starts."""

# Without `from __future__ import annotations`: TorchScript reads the annotations of `_call`.

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch

from .compile import compile_function
from .frontend import parsed, resolver
from .scripted import ScriptFunction


def use_one_thread_for_forks() -> bool:
    """Sets that forks run on one thread, one after the other. Returns False if it is too late: torch allows it once.

    It is too late when the threads have started, or when somebody has set another number of them.
    """
    try:
        torch.set_num_interop_threads(1)
    except RuntimeError:
        return torch.get_num_interop_threads() == 1
    return True


def run_as_fork(function: Callable[[], Any]) -> Any:
    """Runs a Python function on a thread that runs forks, and returns its result or raises its exception.

    If there is one such thread, it runs beside no fork. It begins when every earlier fork has ended, or waits.
    """
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    number = next(_numbers)
    _waiting[number] = run
    compile_starter()(number)
    return result.result()


_numbers = itertools.count()
_waiting: dict[int, Callable[[], None]] = {}


def _call(number: int) -> int:
    _waiting.pop(number)()
    return number


@functools.cache
def compile_starter() -> ScriptFunction:
    """Compiles the function that starts a fork for the Python function with a number, once.

    The first call must hold the lock of the compiler, which `run_as_fork` does not take: see jit/script/cache.py.
    """
    names: dict[str, object] = {"torch": torch, "call": torch.jit.ignore(_call), "Future": torch.futures.Future}
    text = "def run(number: int) -> int:\n  return call(number)"
    names["run"] = compile_function("__torch__.torchremote.forks.run", parsed(text), resolver(names))
    text = "def start(number: int) -> Future[int]:\n  return torch.jit.fork(run, number)"
    return compile_function("__torch__.torchremote.forks.start", parsed(text), resolver(names))
