"""Sees whether this machine is fit, and says what to do if it is not: `python -m torchremote doctor`."""

from __future__ import annotations

import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import torch
import torch.distributed.rpc as rpc

from .. import native, supported
from .._version import __version__
from ..caller.creating.create import create
from ..group.open_files import higher_limit
from ..jit import compile_interface

SHARED_MEMORY: Final = "/dev/shm"
ROOM: Final = 256 << 20
"""Bytes of shared memory below which something is said: a container often has 64 MiB."""

OWN_FILES: Final = 25
FILES_WITH_SHARED_MEMORY: Final = 40
FILES_WITHOUT: Final = 6
"""Files that a worker has open: its own, and for each other worker that it calls, with and without shared memory."""
FEWEST_OTHERS: Final = 8
"""Other workers below which something is said of the limit of open files."""


@dataclass(frozen=True)
class Finding:
    what: str
    found: str
    remedy: str | None = None  # None: nothing is wrong

    def __str__(self) -> str:
        verdict = "ok   " if self.remedy is None else "WRONG"
        told = f"{verdict}  {self.what}: {self.found}"
        return told if self.remedy is None else f"{told}\n       {self.remedy}"


def examine() -> Iterator[Finding]:
    """Examines this machine, and yields each finding as it is made."""
    yield _versions()
    yield _private_names()
    yield _compiler()
    yield Finding("native part", native.why())
    yield _shared_memory()
    yield _open_files()
    yield _accelerators()
    yield _rpc("cpu", mapped=False)
    if torch.cuda.is_available():
        yield _rpc("cuda:0", mapped=False)
        yield _rpc("cuda:0", mapped=True)


def _versions() -> Finding:
    found = f"torchremote {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    for what, version, (_, newest) in (
        ("torch", supported.torch_version(), supported.TORCH),
        ("Python", sys.version_info[:2], supported.PYTHON),
    ):
        if version > newest:  # an older one cannot be imported
            remedy = f"tested up to {what} {supported.dotted(newest)}: install that, or trust what follows"
            return Finding("versions", found, remedy)
    return Finding("versions", found)


def _private_names() -> Finding:
    # Without the native part, nothing can be compiled ahead of time, whatever torch has.
    parts = (supported.PRIVATE, supported.GROUPS, supported.AHEAD if native.available() else {})
    missing = list(dict.fromkeys(name for part in parts for name in supported.missing_names(part)))
    if not missing:
        count = len({(holder, name) for part in parts for holder in part for name in part[holder].split()})
        return Finding("names of torch's own", f"all {count} are there")
    return Finding("names of torch's own", f"not there: {', '.join(missing)}", "install a torch that was tested")


class _Doubler(Protocol):
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...


class _DoublerModule(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.two = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.two


def _compiler() -> Finding:
    try:
        compile_interface(_Doubler)
    except Exception as error:
        return Finding("compiler", str(error).partition("\n")[0], "install a torch that was tested, and report this")
    return Finding("compiler", "an interface compiles")


def _shared_memory() -> Finding:
    what = f"shared memory ({SHARED_MEMORY})"
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
            file.write(b"x")
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError as error:
        return Finding(what, str(error), "workers of one machine meet there: mount it, writable for this user")
    found = f"{free >> 20} MiB free"
    if free < ROOM:
        return Finding(what, found, "give it more (docker run --shm-size=1g), or workers of one machine may fail")
    return Finding(what, found)


def _open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return Finding("open files", "no limit")
    room = max(0, limit - OWN_FILES)
    near, far = room // FILES_WITH_SHARED_MEMORY, room // FILES_WITHOUT
    found = f"{limit} at most: enough for about {near} other workers, or {far} with shared_memory=False"
    higher = higher_limit()
    if higher is not None:
        found += f"; join raises it to {higher}"
    if near < FEWEST_OTHERS:
        return Finding("open files", found, "torch ends a process that has none left: raise the limit with `ulimit -n`")
    return Finding("open files", found)


def _accelerators() -> Finding:
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()  # 0 also where torch is built for one that is not here
    if accelerator is None or count == 0:
        return Finding("accelerators", "none that torch can use: modules run on the CPU")
    found = f"{count} of {accelerator.type}"
    if accelerator.type != "cuda":
        return Finding("accelerators", f"{found}; torch's device maps are for cuda, so tensors go by way of the CPU")
    names = ", ".join(sorted({torch.cuda.get_device_name(n) for n in range(count)}))
    return Finding("accelerators", f"{found}: {names}")


# -- two workers that meet, and one calls the other


def _rpc(device: str, mapped: bool) -> Finding:
    what = f"a call to another process, module on {device}" + (", with a device map" if mapped else "")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", __name__, f"file://{folder}/rpc", device, str(int(mapped))]
        outputs = [pathlib.Path(folder, str(rank)) for rank in range(2)]
        workers = []
        for rank, output in enumerate(outputs):
            with output.open("w") as file:
                workers.append(subprocess.Popen([*command, str(rank)], stdout=file, stderr=subprocess.STDOUT))
        try:
            answered = workers[0].wait(timeout=60) == 0
        except subprocess.TimeoutExpired:
            answered = False
        finally:
            failed = [worker.poll() not in (None, 0) for worker in workers]
            for worker in workers:
                worker.kill()
                worker.wait()
        last_lines = [output.read_text().strip().rpartition("\n")[2] for output in outputs]
    if answered:
        return Finding(what, "answered")
    # If the owner failed, the caller may only say that it waited.
    found = [line for line, how in zip(last_lines, failed, strict=True) if how]
    return Finding(what, found[-1] if found else "no answer within 60 seconds", _NO_MAP if mapped else _NO_ANSWER)


_NO_ANSWER: Final = (
    "pip install numpy, if it is not available: torch's init_rpc needs it; else, workers meet at the address of this "
    "host's name: see that it resolves, or set TP_SOCKET_IFNAME to the network interface to use (lo for this machine "
    "alone); in a container, see that /dev/shm is shared"
)
_NO_MAP: Final = "give init_rpc no device map, and tensors go by way of the CPU; or see that the driver allows CUDA IPC"


def _work(rendezvous: str, device: str, mapped: str, rank: str) -> None:
    torch.set_num_threads(1)
    options = rpc.TensorPipeRpcBackendOptions(init_method=rendezvous, rpc_timeout=30)
    names = ("caller", "owner")
    if mapped == "1":
        options.set_device_map(names[1 - int(rank)], {device: device})
    rpc.init_rpc(names[int(rank)], rank=int(rank), world_size=2, rpc_backend_options=options)
    if rank == "0":
        _call(device, mapped == "1")
    rpc.shutdown()


def _call(device: str, mapped: bool) -> None:
    double = create(f"owner/{device}", _Doubler, _DoublerModule)
    x = torch.ones(4, device=device if mapped else "cpu")
    result = double(x)
    assert torch.equal(result.cpu(), torch.full((4,), 2.0)), f"it returned {result}"
    assert result.device == x.device, f"it returned a tensor on {result.device}"


if __name__ == "__main__":
    _work(*sys.argv[1:])
