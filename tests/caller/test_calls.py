"""Calls through stubs, between two processes."""

import copy
import time
import warnings
from typing import Optional

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer

import torchremote as tr
from torchremote import _torch
from torchremote.errors import ArgumentError, CallTimeoutError, InterfaceError, RemoteError, StaleStubError
from torchremote.jit import compile_interface

from .. import owner_process as remote
from .. import zoo
from ..waiting import holding_the_gil

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def encoder(owner):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 3})


@pytest.fixture
def x():
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def local():
    return zoo.LinearEncoder(seed=3)


def test_a_call_gives_what_the_module_gives(encoder, x):
    assert torch.equal(encoder(x, 2.0), local()(x, 2.0))
    assert torch.equal(encoder.forward(x, scale=2.0), local()(x, 2.0))


def test_defaults_and_keyword_only_arguments_keep_their_meaning(encoder, x):
    assert torch.equal(encoder(x), local()(x, 1.0))
    assert torch.equal(encoder.topk(x)[0], x.topk(2)[0])
    assert torch.equal(encoder.topk(x, k=3)[1], x.topk(3)[1])
    with pytest.raises(ArgumentError, match="topk"):
        encoder.topk(x, 3)


def test_an_async_call_gives_a_future(encoder, x):
    futures = [encoder.forward_async(x, float(n)) for n in range(50)]
    for n, result in enumerate(torch.futures.wait_all(futures)):
        assert torch.equal(result, local()(x, float(n)))
    assert encoder.topk_async(x, k=1).then(lambda done: done.value()[0].sum()).wait() == x.topk(1)[0].sum()


def test_a_result_may_be_none(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    assert stub.reset() is None
    assert stub.reset_async().wait() is None
    assert torch.equal(stub(torch.ones(1, 8)), torch.zeros(1, 8))


def test_nested_containers_cross(owner):
    deep = tr.create(owner, zoo.Deep, zoo.DeepEcho)
    a = [{"x": (torch.ones(2), 3), "y": None}, {}]
    total, by_number, word = deep(a)
    assert (total.tolist(), list(by_number), word) == ([3.0, 3.0], [0], "no b")
    b = [torch.arange(3), torch.empty(0)]
    _, by_number, word = deep(a, b=b)
    assert word is None
    assert all(map(torch.equal, by_number[1], b))


def test_awkward_names_work_by_position_and_by_keyword(owner, x):
    stub = tr.create(owner, zoo.Awkward, zoo.AwkwardModule)
    expected = x * 2 + 3 + 4 + 3 + 1
    torch.testing.assert_close(stub(x, "cpu", 2, 3, 4.0, True), expected)
    torch.testing.assert_close(stub(torch=x, device="cpu", args=2, kwargs=3, module=4.0, self_=True), expected)
    torch.testing.assert_close(stub.encode(x, out=1, result=None, table=[x]), x + 2)


def test_an_interface_without_forward_and_without_arguments(owner):
    counters = tr.create(owner, zoo.Counters, CountersModule)
    assert counters.count({"a": 1}, 5) == [("a", 1), ("limit", 5)]
    assert counters.count({}) == [("limit", -1)]


class CountersModule(nn.Module):
    def count(self, names: dict[str, int], limit: Optional[int]) -> list[tuple[str, int]]:
        found = list(names.items())
        found.append(("limit", -1 if limit is None else limit))
        return found


def test_a_stub_says_where_its_module_is(encoder):
    assert repr(encoder) == "EncoderStub(Encoder on owner/cpu, answers)"


# -- in TorchScript


class Ranker(nn.Module):
    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.forward(x).relu() + self.encoder.topk(x, k=1)[0].sum() + self.encoder.topk(x)[0].sum()


class Deferring(nn.Module):
    encoder: tr.remote_interface(zoo.Encoder)

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder.forward_async(x)
        second = self.encoder.forward_async(x, 2.0)
        return first.wait() + second.wait() + self.encoder.forward(x)


def test_the_interface_annotates_stubs_and_local_modules_alike(encoder, x):
    scripted = _torch.script_module(local(), ["forward", "topk", "reset", "fail"])
    remote_ranker, local_ranker = torch.jit.script(Ranker(encoder)), torch.jit.script(Ranker(scripted))
    assert torch.equal(remote_ranker(x), local_ranker(x))


def test_without_an_annotation_a_stub_is_an_ordinary_submodule(encoder, x):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, x: Tensor) -> Tensor:
            return self.encoder.topk(x)[0]

    assert torch.equal(torch.jit.script(Plain())(x), x.topk(2)[0])


def test_the_remote_interface_has_the_async_methods(encoder, x):
    assert torch.allclose(torch.jit.script(Deferring(encoder))(x), local()(x, 4.0), atol=1e-6)


# -- failures


def test_a_remote_exception_says_what_where_and_why(encoder, x):
    for call in (lambda: encoder.fail(x), lambda: encoder.fail_async(x).wait()):
        with pytest.raises(RemoteError, match=r"^Encoder\.fail on owner: ValueError: this method fails\n"):
            call()
    with pytest.raises(RemoteError, match=r"^Encoder\.forward on owner: (addmm: )?mat1 and mat2"):
        encoder(torch.ones(2, 3))
    assert encoder(x).shape == (4, 8)  # both go on


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda encoder, x: encoder(3), r"^Encoder\.forward\.x: 3 is no Tensor; write torch"),
        (
            lambda encoder, x: encoder(),
            r"^Encoder\.forward: missing .*argument: 'x'; it is forward\(x: Tensor, scale: ",
        ),
        (
            lambda encoder, x: encoder(x, speed=3),
            r"^Encoder\.forward: .*unexpected .*'speed'; it is forward\(x: Tensor, ",
        ),
        (lambda encoder, x: encoder(x, 1.0, 2), r"^Encoder\.forward: "),
        (
            lambda encoder, x: encoder.forward_async(x, "fast"),
            r"^Encoder\.forward\.scale: 'fast' is no float; give a value of type float, or ",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_they_are_sent(encoder, x, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(encoder, x)


def test_a_stub_may_have_a_timeout(owner):
    slow = tr.create(owner, zoo.Sleeper, zoo.SlowLoop, timeout=0.2)
    with pytest.raises(CallTimeoutError, match=r"^Sleeper\.forward on owner: .*200 ms.*\n*.*with_timeout"):
        slow(torch.zeros(1), 2_000_000)
    assert slow(torch.zeros(1), 3) == 3


def test_a_single_call_may_have_a_timeout_of_its_own(owner):
    slow = tr.create(owner, zoo.Sleeper, zoo.SlowLoop)
    with pytest.raises(TimeoutError):
        tr.with_timeout(slow, 0.1)(torch.zeros(1), 2_000_000)
    with pytest.raises(CallTimeoutError):
        tr.with_timeout(slow, 0.1).forward_async(torch.zeros(1), 2_000_000).wait()
    assert tr.with_timeout(slow, 0)(torch.zeros(1), 3) == 3
    assert slow(torch.zeros(1), 3) == 3


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_is_none_is_refused(encoder, timeout):
    with pytest.raises(ValueError, match="timeout="):
        tr.with_timeout(encoder, timeout)


def test_with_timeout_wants_a_stub():
    with pytest.raises(InterfaceError, match="Linear is no stub"):
        tr.with_timeout(nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize(
    "words",
    ["RPC ran for more than set timeout (3 ms)", "torchremote: stale handle 3", "eof", "this stub is not connected"],
)
def test_what_a_module_says_is_not_taken_for_torchs_word(owner, words):
    class Saying:
        def forward(self, words: str) -> Tensor: ...

    with pytest.raises(RemoteError) as raised:
        tr.create(owner, Saying, zoo.Repeating)(words)
    assert type(raised.value) is RemoteError
    assert str(raised.value).startswith(f"Saying.forward on owner: {words}\n")


def test_a_copy_of_a_stub_is_a_stub_of_the_same_module(encoder, x):
    for copied in (copy.copy(encoder), copy.deepcopy(nn.ModuleList([encoder]))[0]):
        assert torch.equal(copied(x), encoder(x))
        assert copied is not encoder


def test_a_modules_own_forward_need_not_be_scriptable(owner):
    class OnlyGood:
        def good(self, x: Tensor) -> Tensor: ...

    assert torch.equal(tr.create(owner, OnlyGood, zoo.PythonForward).good(torch.zeros(1)), torch.ones(1))


def test_a_keyword_only_argument_on_both_sides(owner, x):
    class Keyword:
        def forward(self, x: Tensor, *, k: int = 3) -> Tensor: ...

    assert torch.equal(tr.create(owner, Keyword, zoo.KeywordOnly)(x), x * 3)


# -- the owner's Python takes no part


def test_a_call_returns_while_the_owners_gil_is_held(owner, encoder, x):
    # As the first of all calls would, this one finds TorchScript's executor warm.
    for _ in range(5):
        encoder(x)
    held = holding_the_gil(owner, 2.0)
    python_call = rpc.rpc_async(owner, remote.hosted_here)
    slowest, calls = 0.0, 0
    while not held.done() and calls < 50:
        start = time.perf_counter()
        encoder(x)
        slowest = max(slowest, time.perf_counter() - start)
        calls += 1
    assert calls == 50, "the GIL was not held for long enough to tell"
    assert slowest < 1.0
    assert not python_call.done()
    held.wait()
    python_call.wait()


def test_the_owner_compiles_an_interface_that_it_never_imported(owner, x):
    namespace = {}
    exec(
        "from torch import Tensor\nclass Unseen:\n  def forward(self, x: Tensor, scale: float = 3.0) -> Tensor: ...\n",
        namespace,
    )
    interface = compile_interface(namespace["Unseen"]).interface
    assert not rpc.rpc_sync(owner, remote.is_compiled, (interface.name, interface.text))
    stub = tr.create(owner, namespace["Unseen"], zoo.Missing)
    assert torch.equal(stub(x), x)
    assert rpc.rpc_sync(owner, remote.is_compiled, (interface.name, interface.text))


# -- autograd


def test_training_through_a_stub_is_training(owner):
    data = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    target = data.sum(1, keepdim=True)

    torch.manual_seed(5)
    head = nn.Linear(8, 1)
    body = zoo.LinearEncoder(seed=4)
    optimizer = torch.optim.SGD([*head.parameters(), *body.parameters()], lr=0.05)
    expected = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(head(body(data, 1.0)), target)
        loss.backward()
        optimizer.step()
        expected.append(loss.item())

    torch.manual_seed(5)
    head = nn.Linear(8, 1)
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 4}, name="trained")
    parameters = [rpc.RRef(parameter) for parameter in head.parameters()]
    parameters += rpc.rpc_sync(owner, parameters_of, ("trained",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distributed = DistributedOptimizer(torch.optim.SGD, parameters, lr=0.05)
    losses = []
    for _ in range(10):
        with dist_autograd.context() as context:
            loss = nn.functional.mse_loss(head(stub(data)), target)
            dist_autograd.backward(context, [loss])
            distributed.step(context)
            losses.append(loss.item())
    rpc.rpc_sync(owner, tr.withdraw, ("trained",))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0] / 2


def parameters_of(name):
    return [rpc.RRef(parameter) for parameter in tr.owner.served.served_module(name).parameters()]


def test_a_withdrawn_module_is_stale_for_its_stubs(owner, x):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="short-lived")
    stub(x)
    rpc.rpc_sync(owner, tr.withdraw, ("short-lived",))
    with pytest.raises(StaleStubError) as raised:
        stub(x)
    # torch's traceback would be of our own code.
    said = "its module is gone: it was withdrawn, or its worker was restarted; create it again, or connect if it has a "
    assert str(raised.value) == f"Encoder.forward on owner: {said}name"


class AroundEncoder(nn.Module):
    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@pytest.mark.parametrize("options", [{}, {"in_turn": True}], ids=str)
def test_a_withdrawn_module_is_named_so_in_a_scripted_model(owner, x, options):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="short-lived", **options)
    model = torch.jit.script(AroundEncoder(stub))
    model(x)
    rpc.rpc_sync(owner, tr.withdraw, ("short-lived",))
    with pytest.raises(
        RuntimeError, match=r"stale handle -?\d+: its module is gone: it was withdrawn, or .*reconnect\(mo"
    ):
        model(x)
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="short-lived", **options)
    tr.reconnect(model)(x)
    rpc.rpc_sync(owner, tr.withdraw, ("short-lived",))
