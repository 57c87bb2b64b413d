"""Differential checks: through a stub, a module gives what it gives here."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from .. import _torch
from ..caller.calls.single import call_signature
from ..caller.finding.connect import connect
from ..caller.stubs.stub import route_and_interface, stub_along
from ..jit import CompiledInterface, compile_interface
from ..jit.read.model import Method
from ..link.places import CPU
from ..link.values import PythonPacker
from ..owner import served
from ..owner.running.hosting import Ways
from ..owner.scripting import scripted_module
from .strategies import calls


def check_interface(
    interface: type,
    module: torch.nn.Module,
    *,
    arguments: Mapping[str, SearchStrategy[Any]] | None = None,
    max_examples: int = 50,
) -> int:
    """Calls every method of `module` here and through a stub, with arguments of all kinds, and compares.

    The stub's calls cross torch.distributed.rpc to this very process: sync, async, and as one of many; and each as to a
    module on the CPU, and as to one on an accelerator, with a device map and without. If RPC is not running, it runs
    for the while, as a group of one. A call that raises here has to raise through the stub, too.

    Args:
        interface: a class of annotated methods.
        module: implements it, on the CPU. Its results have to depend on its arguments alone, and to be the same in
            TorchScript; there, an int has 64 bits.
        arguments: strategies for arguments of which not every value will do, by "method.argument", such as
            `{"forward.x": testing.tensors(dtype=torch.float32, shape=(4, 128)), "forward.k": st.integers(1, 5)}`.
        max_examples: calls of each method, of each kind.

    Returns:
        The number of calls that returned something to compare.

    Raises:
        AssertionError: a difference; the message shows the smallest call that hypothesis found for it. Or no call of
            a method returned, so that nothing was compared.
        InterfaceError, MismatchError: as `serve`.

    >>> class Doubler:
    ...     def forward(self, x: float, times: int = 1) -> float: ...
    >>> class Doubling(torch.nn.Module):
    ...     def forward(self, x: float, times: int) -> float:
    ...         return x * 2.0
    >>> check_interface(Doubler, Doubling(), max_examples=5)
    45
    """
    compiled = compile_interface(interface)
    scripted, count = scripted_module(module, compiled.interface), 0
    with _running() as worker:
        for moves, devices in WAYS:
            name = f"check-{uuid.uuid4()}"
            served.host(served.Ready(scripted, CPU, compiled.contract, Ways(moves=moves), name=name))
            try:
                stub = connect(worker, interface, name)
                route, _ = route_and_interface(stub, "check_interface")
                stub = stub_along(stub, replace(route, devices=devices))
                for method in compiled.interface.methods:
                    drawn = calls(interface, method.name, arguments)
                    count += _check_method(compiled, method, module, stub, drawn, max_examples)
            finally:
                served.withdraw_here(name)
    return count


# Whether tensors move, as to an accelerator, and what the caller's device map has: all branches of an endpoint.
WAYS: Final = ((False, ()), (True, ()), (True, (CPU,)))


def _check_method(
    compiled: CompiledInterface,
    method: Method,
    module: torch.nn.Module,
    stub: Any,
    drawn: SearchStrategy[Any],
    max_examples: int,
) -> int:
    remote, deferred, many = (getattr(stub, f"{method.name}{suffix}") for suffix in ("", "_async", "_many"))
    packer = PythonPacker(compiled.contract.classes)
    signature = call_signature(method, packer)
    where = f"{compiled.interface.name}.{method.name}"

    def local(*args: Any, **kwargs: Any) -> Any:
        # A module takes all of its arguments; the interface has the defaults.
        bound = signature.bind(module, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()
        result = getattr(module, method.name)(**dict(arguments))
        # As the type that is declared: eager torch returns tuples of classes of its own, for one.
        return packer.unpack(packer.pack(result, method.returns, f"{where}.return"), method.returns)

    def awaited(*args: Any, **kwargs: Any) -> Any:
        return deferred(*args, **kwargs).wait()

    def one_of_many(*args: Any, **kwargs: Any) -> Any:
        _, *arguments = signature.bind(module, *args, **kwargs).arguments.items()
        return many([dict(arguments)])[0]

    every = (remote, awaited, one_of_many)
    return sum(_compare(where, local, through, drawn, max_examples) for through in every)


def _compare(
    where: str,
    local: Callable[..., Any],
    remote: Callable[..., Any],
    drawn: SearchStrategy[Any],
    max_examples: int,
) -> int:
    returned = 0
    raised: _Raised | None = None

    @settings(max_examples=max_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn)
    def compare(call: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        nonlocal returned, raised
        # Tensors of their own for each side: a method may change them.
        here, there = _outcome(local, *_fresh(call)), _outcome(remote, *_fresh(call))
        shown = f"{where}(*{call[0]}, **{call[1]})"
        if isinstance(here, _Raised) or isinstance(there, _Raised):
            assert type(here) is type(there), f"{shown}: here {here!r}, through the stub {there!r}"
            raised = here
        else:
            assert same(here, there), f"{shown}: here {here!r}, through the stub {there!r}"
            returned += 1

    compare()
    assert returned, f"{where}: nothing to compare, since every call {raised!r}; give it arguments that it takes"
    return returned


def _fresh(value: Any) -> Any:
    """Copies the tensors in `value`, and keeps its types."""
    match value:
        case torch.Tensor():
            return value.clone()
        case list():
            return list(map(_fresh, value))
        case dict():
            return {_fresh(key): _fresh(part) for key, part in value.items()}
        case tuple():
            parts = map(_fresh, value)
            return tuple.__new__(type(value), parts) if hasattr(value, "_fields") else tuple(parts)
    return value


class _Raised:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __repr__(self) -> str:
        return f"raised {type(self._error).__name__}: {self._error}"


def _outcome(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return call(*args, **kwargs)
    except Exception as error:  # whatever the user's module raises is compared
        return _Raised(error)


def same(left: Any, right: Any) -> bool:
    """Compares two values in everything that crosses.

    That is: types at every depth; dtypes, shapes, layouts, devices and values of tensors; the sign of zero in scalars,
    and what is not a number.

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
    try:
        return _same_values(left, right)
    except NotImplementedError:  # dtypes that only have bits
        whole = {1: torch.uint8, 2: torch.int16}[left.element_size()]
        return torch.equal(left.contiguous().view(whole), right.contiguous().view(whole))


def _same_values(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.is_floating_point() or left.is_complex():
        return torch.allclose(left, right, rtol=0, atol=0, equal_nan=True)
    return torch.equal(left, right)


@contextmanager
def _running() -> Iterator[str]:
    """Yields this worker's name, in a group that runs at least for the while."""
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
