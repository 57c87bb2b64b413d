"""A process that is measured, for any checkout of torchremote: a caller, its owner, or one that compiles.

turns.py starts it. It imports public names of torchremote alone, and nothing else of benchmarks/, so that an old
checkout can run it.
"""

import ctypes
import gc
import json
import resource
import signal
import sys
import time
import warnings
from typing import Any, Callable, Dict, List, Tuple

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote
from torchremote.jit import compile_interface


class Layer:
    def forward(self, x: Tensor) -> Tensor: ...


class Encoder:
    """The interface in the README."""

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...
    def topk(self, x: Tensor, *, k: int = 5) -> Tuple[Tensor, Tensor]: ...


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Echo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Sink(nn.Module):
    """Takes a tensor of any size, and answers with a small one."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(1)


WORK: Dict[str, type] = {"linear": Linear, "echo": Echo, "one way": Sink}


def call(
    stubs: Dict[str, Any], work: str, shape: List[int], calls: int, warm_up: int = 0, in_flight: int = 1
) -> List[float]:
    """Returns the seconds of each of so many calls, with a float32 tensor of this shape.

    Args:
        in_flight: with more than one, the seconds are those of so many calls together, a call.
    """
    x, stub = torch.ones(shape), stubs[work]
    seconds = []
    with torch.no_grad():
        for number in range(warm_up + calls):
            start = time.perf_counter()
            if in_flight == 1:
                stub(x)
            else:
                torch.futures.wait_all([stub.forward_async(x) for _ in range(in_flight)])
            if number >= warm_up:
                seconds.append((time.perf_counter() - start) / in_flight)
    return seconds


def serve_caller(store: str, options: Dict[str, Any]) -> None:
    """Makes the calls that are asked for, a JSON object a line of the standard input, until that ends."""
    _join("caller", store, options)
    # With names: an owner that was stopped for a while may think that a caller is lost, and let go of all others.
    stubs = {work: torchremote.create("owner", Layer, cls, name=work) for work, cls in WORK.items()}
    print(json.dumps(torchremote.__file__), flush=True)
    for line in sys.stdin:
        print(json.dumps(call(stubs, **json.loads(line))), flush=True)
    rpc.shutdown()


def serve_owner(store: str, options: Dict[str, Any]) -> None:
    _join("owner", store, options)
    rpc.shutdown()


def _join(name: str, store: str, options: Dict[str, Any]) -> None:
    chosen = torchremote.rpc_options(init_method=f"file://{store}", rpc_timeout=300, **options)
    rpc.init_rpc(name, rank=("caller", "owner").index(name), world_size=2, rpc_backend_options=chosen)


# -- compiling, in a process of its own


def interface(number: int, methods: int) -> type:
    """Returns an interface that has no signature in common with those of other numbers."""
    signature = f"(self, x{number}: Tensor, scale: float) -> Tensor: ...\n"
    text = "".join(f"def m{method}{signature}" for method in range(methods))
    namespace: Dict[str, Any] = {"Tensor": Tensor, "__name__": __name__}
    exec(text, namespace)
    body = {f"m{method}": namespace[f"m{method}"] for method in range(methods)}
    return type(f"I{number}", (), {**body, "__module__": __name__})


def compile_time() -> Dict[str, float]:
    """Returns the processor's seconds a method, in a first interface of 10 and in a later one, and Encoder's lines."""
    took = []
    for number in range(2):
        cls = interface(number, methods=10)
        start = time.process_time()
        compile_interface(cls)
        took.append((time.process_time() - start) / 10)
    lines = len(compile_interface(Encoder).source.splitlines())
    return {"first": took[0], "later": took[1], "lines": lines}


def memory(interfaces: int = 200, methods: int = 2) -> Dict[str, float]:
    """Returns the bytes of resident memory that each of so many interfaces adds."""
    for number in range(20):  # what is allocated in advance
        compile_interface(interface(number, methods))
    before = _resident()
    for number in range(20, 20 + interfaces):
        compile_interface(interface(number, methods))
    return {"memory": (_resident() - before) / interfaces}


def _resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


ALONE: Dict[str, Callable[[], Dict[str, float]]] = {"compile": compile_time, "memory": memory}


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent is gone: a stopped one would stay for ever."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    die_with_parent()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    role, *rest = sys.argv[1:]
    if role in ALONE:
        print(json.dumps(ALONE[role]()))
    else:
        serve = {"caller": serve_caller, "owner": serve_owner}[role]
        serve(rest[0], json.loads(rest[1]))


if __name__ == "__main__":
    main()
