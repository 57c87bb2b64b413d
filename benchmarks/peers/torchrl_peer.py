"""TorchRL's ProcessInferenceServer, which gathers up to 64 requests, with each of its transports between processes.

There is a server for each transport, in a process of its own. This process submits requests and waits for their Futures
in order, so many of them under way at once. The network is the one of gathering.py.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from driver import Block, drive_blocks
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules.inference_server import (
    MPTransport,
    ProcessInferenceServer,
    ProcessSlotTransport,
    SharedMemoryTransport,
)

WIDTH = 1024
IN_FLIGHT = 64
LOOK, SPREAD = 0.05, 0.5  # seconds: how often idle threads look whether to begin, and until they run on all cores
Submit = Callable[[TensorDict], Any]


def make_policy(busy: Any) -> TensorDictModule:
    """Makes the network, and has two threads of its process compute in Python while `busy` is set."""
    torch.set_num_threads(1)
    for _ in range(2):
        threading.Thread(target=be_busy, args=(busy,), daemon=True).start()
    torch.manual_seed(0)
    wide = nn.Linear(WIDTH, 2 * WIDTH)
    network = nn.Sequential(wide, nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)).requires_grad_(False)
    return TensorDictModule(network, in_keys=["x"], out_keys=["y"])


def be_busy(busy: Any) -> None:
    while True:
        if busy.value:
            sum(range(1000))
        else:
            time.sleep(LOOK)


def window(submit: Submit, x: TensorDict, calls: int, depth: int) -> None:
    """Makes calls, `depth` of them under way at once."""
    futures: list[Any] = []
    for number in range(calls + depth):
        if number >= depth:
            futures[number - depth].result()
        if number < calls:
            futures.append(submit(x))


def bursts(submit: Submit, x: TensorDict, calls: int, depth: int) -> None:
    """Makes `depth` calls at once, and waits for all of them before it makes the next."""
    for _ in range(calls // depth):
        window(submit, x, depth, depth)


def rate(work: Callable[[int], None]) -> Block:
    """Returns how many calls a second `work` makes."""

    def block(calls: int) -> list[float]:
        start = time.perf_counter()
        work(calls)
        return [calls / (time.perf_counter() - start)]

    return block


def while_busy(block: Block, busy: Any) -> Block:
    def measure(calls: int) -> list[float]:
        busy.value = True
        time.sleep(LOOK + SPREAD)
        found = block(calls)
        busy.value = False
        return found

    return measure


def in_turn(clients: list[Any]) -> Submit:
    """Returns what submits through one client after the other: each of these has one request in flight at most."""
    count = 0

    def submit(x: TensorDict) -> Any:
        nonlocal count
        count += 1
        return clients[count % len(clients)].submit(x)

    return submit


def main() -> None:
    torch.set_num_threads(1)
    x = TensorDict({"x": torch.randn(WIDTH)})
    layouts = x, TensorDict({"y": torch.zeros(WIDTH)})
    transports = {
        "SharedMemoryTransport": SharedMemoryTransport(*layouts, num_slots=IN_FLIGHT),
        "ProcessSlotTransport": ProcessSlotTransport(*layouts, num_slots=IN_FLIGHT),
        "MPTransport": MPTransport(),
    }
    blocks: dict[str, Block] = {}
    servers = []
    for name, transport in transports.items():
        busy = multiprocessing.get_context("spawn").RawValue(ctypes.c_bool, False)
        server = ProcessInferenceServer(
            policy_factory=functools.partial(make_policy, busy),
            transport=transport,
            max_batch_size=IN_FLIGHT,
            timeout=1.0,  # of waiting for a first request, as min_batch_size is 1
            collect_stats=False,
            policy_version_key=None,
        )
        slots = name == "ProcessSlotTransport"
        submit = in_turn([transport.client() for _ in range(IN_FLIGHT)]) if slots else server.client().submit
        servers.append(server.start())
        kinds = {
            f"{IN_FLIGHT} in flight": rate(functools.partial(window, submit, x, depth=IN_FLIGHT)),
            f"bursts of {IN_FLIGHT}": rate(functools.partial(bursts, submit, x, depth=IN_FLIGHT)),
            "one in flight": rate(functools.partial(window, submit, x, depth=1)),
        }
        for kind, block in kinds.items():
            blocks[f"{name}: {kind}"] = block
            blocks[f"{name}: {kind}, busy"] = while_busy(block, busy)
    drive_blocks(blocks)
    for server in servers:
        server.shutdown()


if __name__ == "__main__":
    main()
