"""Calls through the native part. All tests of calls run with it, too; here is what only it does."""

import ctypes
import io
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import List

import pytest
import torch
import torch.distributed.autograd as dist_autograd
from torch import Tensor, nn

import torchremote as tr
from torchremote import native
from torchremote.errors import CallTimeoutError, RemoteError

from .. import zoo
from ..caller.test_interrupts import Napping, Naps
from ..group import play
from ..owner_process import resident

X = torch.ones(2, 8)
HELD = 1.0
"""Seconds for which a thread holds the GIL."""


class Repeated(nn.Module):
    """Calls a stub again and again, for so many nanoseconds, and says how long each call took."""

    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, lasting: int) -> List[int]:
        took: List[int] = []
        start = torch.ops.prim.TimePoint()
        while torch.ops.prim.TimePoint() - start < lasting:
            began = torch.ops.prim.TimePoint()
            self.encoder(x, 1.0)
            took.append(torch.ops.prim.TimePoint() - began)
        return took


def test_a_scripted_caller_does_not_wait_for_its_gil(owner):
    model = torch.jit.script(Repeated(tr.create(owner, zoo.Encoder, zoo.LinearEncoder)))
    for _ in range(3):
        model(X, 1_000_000)
    found, begun = [], threading.Event()

    def call():
        begun.set()
        found.extend(model(X, int(2e9 * HELD)))

    caller = threading.Thread(target=call)
    caller.start()
    begun.wait()
    time.sleep(0.1)
    hold_gil(HELD)
    caller.join()
    assert max(found) < 0.5e9 * HELD, "a call waited for the GIL"


def hold_gil(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # unlike CDLL, it keeps the GIL


def test_answers_arrive_while_the_gil_is_held(owner):
    stub = tr.create(owner, zoo.Sleeper, zoo.SlowLoop)
    stub(torch.zeros(1), 1)
    pending = [stub.forward_async(torch.zeros(1), n) for n in range(50)]
    hold_gil(HELD)
    assert all(one.done() for one in pending)
    assert [int(one.wait()) for one in pending] == list(range(50))


def test_the_errors_of_futures_are_ours(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    good, bad = stub.forward_async(X), stub.forward_async(torch.ones(2, 3))
    assert torch.equal(good.wait(), stub(X))
    for _ in range(2):
        with pytest.raises(RemoteError, match=r"Encoder\.forward on owner: (addmm: )?mat1 and mat2") as raised:
            bad.wait()
        assert raised.value.__cause__ is None
    with pytest.raises(RemoteError, match=r"Encoder\.forward on owner"):
        torch.futures.wait_all([good, bad])
    with pytest.raises(RemoteError, match=r"Encoder\.forward on owner"):
        bad.value()
    seen = []

    def look(done):
        with pytest.raises(RemoteError):
            done.value()
        seen.append(done)

    bad.add_done_callback(look)
    assert len(seen) == 1


def test_none_is_a_value_as_any_other(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    pending = stub.reset_async()
    assert pending.wait() is None
    assert pending.value() is None


def test_a_wait_keeps_no_memory_for_its_turns():
    pending, other = torch.futures.Future(), torch.futures.Future()
    before = resident()
    for _ in range(100_000):
        assert not native.wait_for(pending, 0.0)
        assert not native.wait_for(other, 0.0)  # that of a handler of a signal
    assert resident() - before < 5_000_000  # with a callback for each turn: 40 MB
    for one in (pending, other):
        later = threading.Timer(0.1, one.set_result, (1,))
        later.start()
        assert native.wait_for(one, 60.0)
        later.join()


def test_a_future_may_lie_where_another_was(owner):
    stub = tr.create(owner, Naps, Napping)
    stub.nap(0.0)
    for _ in range(100):
        assert not native.wait_for(torch.futures.Future(), 0.0)
        assert native.wait_for(stub.nap_async(0.0), 60.0)


def test_an_archive_names_nothing_native(owner, tmp_path):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="archived natively")
    for saved in (stub, torch.jit.script(Repeated(stub))):
        file = io.BytesIO()
        torch.jit.save(saved, file)
        with zipfile.ZipFile(file) as archive:
            assert not [name for name in archive.namelist() if native.NAMESPACE.encode() in archive.read(name)]
        path = tmp_path / "saved.pt"
        path.write_bytes(file.getvalue())
        load = f"import torch; torch.jit.load({str(path)!r}); print('loaded')"  # without torchremote
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", load], capture_output=True, text=True, timeout=60)
        assert done.stdout == "loaded\n", done.stderr
    tr.withdraw("archived natively", owner)


# -- modules that call others


@tr.remote_scriptable
class Step:
    def forward(self, x: Tensor) -> Tensor: ...


class AddOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Through(nn.Module):
    """Calls another module, and waits for it."""

    step: Step

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x) + 1


def first(store):
    pass


def second(store):
    pass


def calling_through(store):
    """With a thread for each worker, none may be held by a module that waits."""
    last = tr.create("first", Step, AddOne)
    middle = tr.create("second", Step, Through, args=(last,))
    stub = tr.create("first", Step, Through, args=(middle,))
    pending = [stub.forward_async(torch.full((1,), float(n))) for n in range(30)]
    assert [one.wait().item() for one in pending] == [n + 3.0 for n in range(30)]
    forked = torch.jit.script(Forked(stub))
    assert [one.item() for one in forked(torch.zeros(1), 30)] == [3.0] * 30


class Forked(nn.Module):
    step: Step

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x: Tensor, count: int) -> List[Tensor]:
        return [one.wait() for one in [torch.jit.fork(self.step, x) for _ in range(count)]]


def test_no_thread_of_rpc_waits(tmp_path):
    play(tmp_path, first, second, calling_through, threads=1)


# -- what torch carries with a call


def test_the_timeout_of_a_stub(owner):
    stub = tr.create(owner, Naps, Napping)
    assert stub.nap(0.0) == 1
    hasty = tr.with_timeout(stub, 0.2)
    with pytest.raises(CallTimeoutError, match=r"Naps\.nap on owner: .*more than set timeout"):
        hasty.nap(1.0)
    with pytest.raises(CallTimeoutError):
        hasty.nap_async(1.0).wait()
    assert stub.nap(0.5) == 1


def test_gradients_flow_through_a_scripted_caller(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    local = zoo.LinearEncoder()
    model = torch.jit.script(Summed(stub))
    x, own = torch.ones(2, 8, requires_grad=True), torch.ones(2, 8, requires_grad=True)
    for _ in range(3):
        with dist_autograd.context() as context:
            dist_autograd.backward(context, [model(x) + stub(x).sum()])
            found = dist_autograd.get_gradients(context)[x]
    (expected,) = torch.autograd.grad(local(own, 1.0).sum() * 2, own)
    torch.testing.assert_close(found, expected)


class Summed(nn.Module):
    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, 1.0).sum()


def test_grad_mode_and_autocast_are_those_of_the_caller(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(2, 8, requires_grad=True)
    with torch.no_grad():
        assert not stub(x).requires_grad
        assert not stub.forward_async(x).wait().requires_grad
    half = torch.ones(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert stub(half).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:Profiling a distributed call:UserWarning")
@pytest.mark.parametrize("name", [None, "profiled"])  # calls of a module with a name can be sent again
def test_the_profiler_has_a_range_for_a_call(owner, name):
    model = torch.jit.script(Summed(tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name)))
    for _ in range(3):
        model(X)

    def ranges():
        with torch.autograd.profiler.profile() as profile:
            model(X)
        return [event.key for event in profile.key_averages() if event.key.startswith("rpc_async_jit#")]

    with ThreadPoolExecutor(1) as other:  # torch has a range for the first such call of a thread alone
        (range_,) = other.submit(ranges).result()
    assert range_.endswith("endpoints._remote_forward(caller -> owner)")


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(8.0).reshape(2, 4)[:, ::2],
        torch.complex(torch.ones(2), torch.ones(2)).conj(),
        torch.ones(2, 3).to_sparse(),
        torch.ones(0),
    ],
    ids=["view", "conjugated", "sparse", "empty"],
)
def test_what_arrives_is_what_was_sent(owner, x):
    """Tensors are sent under another name than Python's."""
    stub = tr.create(owner, Step, Passing)
    for back in (stub(x), stub.forward_async(x).wait()):
        assert (back.dtype, back.layout, back.shape) == (x.dtype, x.layout, x.shape)
        assert torch.equal(back.to_dense(), x.to_dense())
        assert not x.is_sparse or back.is_coalesced() == x.is_coalesced()


class Passing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x
