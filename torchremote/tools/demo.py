"""Does the main job on real data: trains a network split between two processes, then calls it at a busy owner.

A feature extractor is created on a second process, and trained with a classifier of this one, through distributed
autograd and DistributedOptimizer, on scikit-learn's 1,797 handwritten digits. Then the trained half is called through
torchremote and through torch's own RemoteModule, scripted and in Python, while threads keep the owner's Python busy.
Everything printed is measured in this run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
import torch.multiprocessing as mp
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer
from tqdm import tqdm

import torchremote
from torchremote.owner.served import served_module

matplotlib.use("Agg")
from matplotlib import pyplot

FEATURES = 64
TARGET_ACCURACY = 0.95
BUSY_THREADS = 2


@torchremote.remote_scriptable
class Extractor(nn.Module):
    """Turns images, [n, 1, 8, 8] float32, into features, [n, 64] float32."""

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError  # an interface: signatures are all that is read


class ConvExtractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.out = nn.Linear(32 * 4 * 4, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.out(self.layers(images).flatten(1)))


def run(output: str, quick: bool = False) -> None:
    """Runs the demo in two processes of its own; writes a picture to the folder `output`."""
    with tempfile.TemporaryDirectory(prefix="torchremote-demo-") as folder:
        mp.spawn(_process, args=(f"file://{folder}/store", os.path.abspath(output), quick), nprocs=2)


def _process(rank: int, init_method: str, output: str, quick: bool) -> None:
    # torch's own notices about RPC and TorchScript; a demo's screen is for what it measures
    warnings.filterwarnings("ignore", module="torch")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options = torchremote.rpc_options(init_method=init_method)
    rpc.init_rpc(["trainer", "owner"][rank], rank=rank, world_size=2, rpc_backend_options=options)
    if rank == 0:
        _train_and_time(output, quick)
    rpc.shutdown()


def _train_and_time(output: str, quick: bool) -> None:
    extractor = torchremote.create("owner", Extractor, ConvExtractor, name="extractor")
    print(f"two processes: this one (pid {os.getpid()}), and its owner (pid {rpc.rpc_sync('owner', os.getpid)})")
    accuracy = _train(extractor, epochs=8 if quick else 25)
    print(f"held-out accuracy: {accuracy:.4f} (asked for: {TARGET_ACCURACY})")
    if accuracy < TARGET_ACCURACY:
        raise SystemExit("the trained network falls short of the accuracy asked for")
    latencies = _time_calls(extractor, rounds=3 if quick else 10, calls=20 if quick else 50)
    _print_table(latencies)
    print(f"picture: {_draw(latencies, output)}")


# -- training


def _train(extractor: Any, epochs: int) -> float:
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    train_x, test_x = (torch.tensor(part, dtype=torch.float32).view(-1, 1, 8, 8) for part in split[:2])
    train_y, test_y = (torch.tensor(part) for part in split[2:])
    print(f"handwritten digits: {len(train_x)} images to train on, {len(test_x)} held out")

    classifier = nn.Linear(FEATURES, 10)
    parameters: list[Any] = [rpc.RRef(parameter) for parameter in classifier.parameters()]
    parameters += torchremote.at_owner(extractor).parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DistributedOptimizer scripts its Adam through the deprecated names
        optimizer = DistributedOptimizer(torch.optim.Adam, parameters, lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in tqdm(range(epochs), desc="training", unit="epoch"):
        for batch in torch.randperm(len(train_x), generator=generator).split(64):
            with dist_autograd.context() as context:
                loss = nn.functional.cross_entropy(classifier(extractor(train_x[batch])), train_y[batch])
                dist_autograd.backward(context, [loss])
                optimizer.step(context)
    with torch.no_grad():
        return float((classifier(extractor(test_x)).argmax(1) == test_y).float().mean())


# -- timing


class _SameExtractor(nn.Module):
    """torch's RemoteModule builds its own module; this one computes with the trained one's parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.extractor = ConvExtractor()
        self.extractor.load_state_dict(served_module("extractor").state_dict())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.extractor(images)
        return features


def _time_calls(extractor: Any, rounds: int, calls: int) -> dict[str, list[float]]:
    from torch.distributed.nn.api.remote_module import _RemoteModule

    scripted = torch.jit.script(_RemoteModule("owner/cpu", _SameExtractor, _module_interface_cls=Extractor))
    python = _RemoteModule("owner/cpu", _SameExtractor)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "torchremote": extractor,
        "torch RemoteModule, scripted": scripted.forward,
        "torch RemoteModule, Python": python.forward,
    }
    images = torch.rand(4, 1, 8, 8)
    latencies: dict[str, list[float]] = {way: [] for way in ways}
    with torch.no_grad():
        expected = extractor(images)
        for call in ways.values():
            for _ in range(20):  # TorchScript compiles for real in the first calls
                if not torch.equal(call(images), expected):
                    raise SystemExit("the three ways differ in what they compute")
        rpc.rpc_sync("owner", _start_being_busy)
        for _ in tqdm(range(rounds), desc="calling the busy owner", unit="round"):
            for way, call in ways.items():  # in turn, so that all three meet the machine in the same moods
                for _ in range(calls if way != "torch RemoteModule, Python" else max(1, calls // 10)):
                    start = time.perf_counter()
                    call(images)
                    latencies[way].append((time.perf_counter() - start) * 1e6)
        rpc.rpc_sync("owner", _stop_being_busy)
    return latencies


_busy = threading.Event()


def _start_being_busy() -> None:
    def work() -> None:
        while _busy.is_set():
            sum(range(1000))

    _busy.set()
    for _ in range(BUSY_THREADS):
        threading.Thread(target=work, daemon=True).start()


def _stop_being_busy() -> None:
    _busy.clear()


# -- showing


def _print_table(latencies: dict[str, list[float]]) -> None:
    print(f"\na call of 4 images, with {BUSY_THREADS} busy Python threads on the owner (microseconds):")
    print(f"{'':32}{'median':>10}{'p99':>10}{'calls':>8}")
    for way, values in latencies.items():
        p99 = statistics.quantiles(values, n=100, method="inclusive")[98]
        print(f"{way:32}{statistics.median(values):10.0f}{p99:10.0f}{len(values):8}")


def _draw(latencies: dict[str, list[float]], output: str) -> str:
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, "latency.png")
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    axes.boxplot(list(latencies.values()), vert=False, whis=(1, 99), showfliers=False)
    axes.set_yticks(range(1, len(latencies) + 1), list(latencies))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("microseconds a call (box: quartiles, whiskers: 1% and 99%)")
    axes.set_title(f"A remote module, its owner's Python busy ({BUSY_THREADS} threads)")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)
    return path
