"""Differential checks: through a stub, a module gives what it gives here."""

from __future__ import annotations

import inspect
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed.rpc as rpc
from hypothesis import HealthCheck, given, settings

from .. import host
from ..create import connect
from ..jit import Placement, _torch, compile_interface
from ..stub import at_placement
from .strategies import calls


def check_interface(interface: type, module: torch.nn.Module, *, max_examples: int = 50) -> int:
    """Calls every method of `module` here and through a stub, with arguments of all kinds, and compares.

    The stub's calls cross torch.distributed.rpc to this very process, in each placement, sync and async. If RPC is not
    running, it runs for the while, as a group of one.

    Args:
        interface: a class of annotated methods.
        module: implements it, on the CPU. Its results have to depend on its arguments alone.
        max_examples: calls of each method in each placement, sync and async.

    Returns:
        The number of calls that were compared.

    Raises:
        AssertionError: a difference; the message shows the smallest call that hypothesis found for it.
        InterfaceError, MismatchError: as `serve`.

    >>> class Doubler:
    ...     def forward(self, x: float, times: int = 1) -> float: ...
    >>> class Doubling(torch.nn.Module):
    ...     def forward(self, x: float, times: int) -> float:
    ...         return x * 2.0
    >>> check_interface(Doubler, Doubling(), max_examples=5)
    30
    """
    count = 0
    with _running() as worker:
        name = f"check-{uuid.uuid4()}"
        host.serve(module, interface, name)
        try:
            stub = connect(worker, interface, name)
            for method in compile_interface(interface).interface.methods:
                for placement in Placement:
                    count += _check_method(interface, method.name, module, at_placement(stub, placement), max_examples)
        finally:
            host.withdraw(name)
    return count


def _check_method(interface: type, method: str, module: torch.nn.Module, stub: Any, max_examples: int) -> int:
    remote, deferred = getattr(stub, method), getattr(stub, f"{method}_async")
    signature = inspect.signature(remote)

    def local(*args: Any, **kwargs: Any) -> Any:
        # A module takes all of its arguments; the interface has the defaults.
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return getattr(module, method)(**bound.arguments)

    def awaited(*args: Any, **kwargs: Any) -> Any:
        return deferred(*args, **kwargs).wait()

    return sum(_compare(interface, method, local, through, max_examples) for through in (remote, awaited))


def _compare(
    interface: type, method: str, local: Callable[..., Any], remote: Callable[..., Any], max_examples: int
) -> int:
    count = 0

    @settings(max_examples=max_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(calls(interface, method))
    def compare(call: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        args, kwargs = call
        here, there = _outcome(local, args, kwargs), _outcome(remote, args, kwargs)
        where = f"{interface.__name__}.{method}(*{args}, **{kwargs})"
        if isinstance(here, _Raised) or isinstance(there, _Raised):
            assert type(here) is type(there), f"{where}: here {here}, through the stub {there}"
        else:
            assert same(here, there), f"{where}: here {here!r}, through the stub {there!r}"

    compare()
    return count


class _Raised:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __str__(self) -> str:
        return f"raised {type(self._error).__name__}: {self._error}"


def _outcome(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return call(*args, **kwargs)
    except Exception as error:  # whatever the user's module raises is compared
        return _Raised(error)


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal in all that crosses: types at every depth, tensors' dtypes, shapes and layouts, the
    sign of zero, and what is not a number.

    >>> same([torch.zeros(2), 0.0], [torch.zeros(2), -0.0])
    False
    """
    if type(left) is not type(right) and not (isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)):
        return False
    match left, right:
        case torch.Tensor(), torch.Tensor():
            return _same_tensors(left, right)
        case (list(), list()) | (tuple(), tuple()):
            return len(left) == len(right) and all(map(same, left, right))
        case dict(), dict():
            return len(left) == len(right) and all(map(same, left.items(), right.items()))
        case (float(), float()) | (complex(), complex()):
            return repr(left) == repr(right)
        case rpc.RRef(), rpc.RRef():
            return same(left.to_here(), right.to_here())
    return bool(left == right)


def _same_tensors(left: torch.Tensor, right: torch.Tensor) -> bool:
    if (left.dtype, left.shape, left.layout, left.device) != (right.dtype, right.shape, right.layout, right.device):
        return False
    if left.layout != torch.strided:
        left, right = left.to_dense(), right.to_dense()
    if left.is_floating_point() or left.is_complex():
        return torch.allclose(left, right, rtol=0, atol=0, equal_nan=True)
    return torch.equal(left, right)


@contextmanager
def _running() -> Iterator[str]:
    """This worker's name, in a group that runs at least for the while."""
    if _torch.rpc_running():
        yield rpc.get_worker_info().name
        return
    with tempfile.TemporaryDirectory() as folder:
        options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{folder}/store")
        rpc.init_rpc("check", rank=0, world_size=1, rpc_backend_options=options)
        try:
            yield "check"
        finally:
            rpc.shutdown()
