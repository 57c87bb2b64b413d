"""rpc_options."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed.rpc as rpc
from torch.distributed.rpc import TensorPipeRpcBackendOptions

import torchremote as tr
from torchremote import options as module
from torchremote.options import CHANNELS, LARGE_TENSOR_CHANNELS, channels

from .forks import Fork
from .group import play


def test_what_is_not_said_is_torchs():
    options, torchs = tr.rpc_options(), TensorPipeRpcBackendOptions()
    for name in ("num_worker_threads", "rpc_timeout", "init_method", "device_maps", "devices"):
        assert getattr(options, name) == getattr(torchs, name)


def test_what_is_said_is_passed_on():
    options = tr.rpc_options(threads=3, rpc_timeout=7, init_method="file:///somewhere")
    assert (options.num_worker_threads, options.rpc_timeout, options.init_method) == (3, 7, "file:///somewhere")


def test_devices_are_mapped_to_every_worker():
    options = tr.rpc_options(workers=["a", "b"], devices=[0, "cuda:1"])
    pairs = {torch.device("cuda", number): torch.device("cuda", number) for number in (0, 1)}
    assert options.device_maps == {"a": pairs, "b": pairs}


def test_devices_need_workers():
    with pytest.raises(ValueError, match="name these, too"):
        tr.rpc_options(devices=["cuda:0"])


@pytest.mark.parametrize(
    "said",
    [
        {"devices": "cuda"},
        {"workers": "ps"},
        {"devices": ["cpu"], "workers": ["ps"]},
        {"devices": ["meta"], "workers": ["ps"]},
    ],
)
def test_what_cannot_be_meant_is_refused(said):
    with pytest.raises(ValueError, match="a list is wanted|those of CUDA alone"):
        tr.rpc_options(**said)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "thread",
            r"rpc_options has no argument thread; it has workers, .*, intraop_threads, _channels, .*, rpc_timeout$",
        ),
        ("num_worker_threads", "num_worker_threads; threads= sets that"),
    ],
)
def test_an_unknown_argument_is_named(name, says):
    for others in ({}, {"devices": ["cuda:0"]}):
        with pytest.raises(TypeError, match=says):
            tr.rpc_options(**{name: 4}, **others)


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, "a", None, True])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(timeout):
    with pytest.raises(ValueError, match=f"rpc_timeout={timeout!r}: seconds, or 0 for no limit"):
        tr.rpc_options(rpc_timeout=timeout)
    assert tr.rpc_options(rpc_timeout=np.float32(1.5)).rpc_timeout == 1.5


@pytest.mark.parametrize(("given", "taken"), [(0, 0), (0.0004, 0.001), (1e10, 2_147_483), (10**400, 2_147_483)])
def test_timeouts_are_whole_milliseconds_and_not_too_long(given, taken):
    assert tr.rpc_options(rpc_timeout=given).rpc_timeout == pytest.approx(taken)


def test_an_address_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="init_method=3: a text is wanted"):
        tr.rpc_options(init_method=3)


def test_tensors_on_accelerators_keep_their_ways():
    # a device map may be set on the options later
    cuda = {"cuda_xth", "cuda_ipc", "cuda_gdr", "cuda_basic"} if torch.version.cuda else set()
    assert set(channels()) == {"basic"} | cuda


def test_large_tensors_have_a_channel_of_their_own(monkeypatch):
    small, large = channels(CHANNELS), channels(LARGE_TENSOR_CHANNELS)
    given = []
    monkeypatch.setattr(module, "TensorPipeRpcBackendOptions", lambda **options: given.append(options["_channels"]))
    tr.rpc_options()
    tr.rpc_options(large_tensors=True)
    assert given == [small, large]
    assert large == ["cma", *small]


def test_channels_are_chosen_once():
    with pytest.raises(ValueError, match="only one of it and _channels"):
        tr.rpc_options(large_tensors=True, _channels=["basic"])


def sends_a_large_tensor(rank, store, large):
    options = tr.rpc_options(init_method=store, large_tensors=large[rank])
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2, rpc_backend_options=options)
    if rank == 0:
        x = torch.arange(1 << 20)
        assert torch.equal(rpc.rpc_sync("worker1", torch.neg, (x,)), -x)
    rpc.shutdown()


@pytest.mark.parametrize("large", [(True, False), (False, True), (True, True)])
def test_workers_with_and_without_large_tensors_understand_each_other(large, tmp_path):
    store = f"file://{tmp_path}/store"
    workers = [Fork(sends_a_large_tensor, rank, store, large, output=tmp_path / f"{rank}.txt") for rank in (0, 1)]
    try:
        ended = [worker.wait(timeout=50) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert ended == [0, 0], [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]


def test_an_unknown_channel_is_refused_by_torch():
    with pytest.raises(RuntimeError, match="Unknown channel: pigeons"):
        tr.rpc_options(_channels=["pigeons"])


THREADS = """
import pathlib, sys
import torch.distributed.rpc as rpc
import torchremote as tr
options = tr.rpc_options(init_method=sys.argv[1], shared_memory=sys.argv[2] == "shared")
rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
print({path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")})
rpc.shutdown()
"""


@pytest.mark.parametrize("memory", ["shared", "own"])
def test_only_shared_memory_has_a_thread_that_looks_for_messages(memory, tmp_path):
    command = [sys.executable, "-c", THREADS, f"file://{tmp_path}/store", memory]
    shown = subprocess.run(command, timeout=60, check=True, capture_output=True, text=True).stdout
    assert "TP_UV" in shown
    assert ("TP_SHM" in shown) == (memory == "shared")


def own_threads():
    return torch.get_num_threads()


def an_owner_of_three(store):
    pending = [rpc.rpc_async("an_owner_of_three", own_threads) for _ in range(100)]
    print("threads:", {answer.wait() for answer in pending})


def test_operators_of_all_calls_have_as_many_threads_as_was_said(tmp_path):
    assert "threads: {3}" in play(tmp_path, an_owner_of_three, intraop_threads=3)[0]


@pytest.mark.parametrize("name", ["threads", "intraop_threads"])
@pytest.mark.parametrize("wrong", [0, -1, True, 2.0])
def test_a_wrong_number_of_threads_is_refused(name, wrong):
    with pytest.raises(ValueError, match=rf"\A{name}=.*: a positive number of threads is wanted"):
        tr.rpc_options(**{name: wrong})


CHANGING = {"in_turn": True, "intraop_threads": 1, "counts": True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"shared_memory": False, "_transports": ["uv"]},
        {"intraop_threads": 0},
        {"threads": 0},
        {"_channels": ["no such"]},
    ],
)
def test_what_is_refused_changes_nothing_of_the_process(wrong, monkeypatch):
    changed = []
    for place, change in ((module._torch, "use_one_thread_for_forks"), (module._torch, "start_counting")):
        monkeypatch.setattr(place, change, lambda change=change: changed.append(change) or True)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: changed.append(number))
    monkeypatch.setattr(module.native, "available", lambda: False)
    with pytest.raises((ValueError, RuntimeError)):
        tr.rpc_options(**{**CHANGING, **wrong})
    assert changed == []
    tr.rpc_options(**CHANGING)
    assert changed == ["use_one_thread_for_forks", 1, "start_counting"]
