"""Methods that are declared idempotent are sent again when a call is lost."""

import signal
import threading
import time

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote.caller.calls import again
from torchremote.caller.calls.following import METHODS
from torchremote.errors import (
    CallTimeoutError,
    InterfaceError,
    MismatchError,
    NotInGroupError,
    StaleStubError,
    WireError,
)
from torchremote.jit import compile_interface
from torchremote.jit.read.parse import parse_interface

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import elapsed, in_a_group, raises_within
from .test_follow import X, is_from, lose


@tr.remote_scriptable
class Lookup:
    @tr.idempotent
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...

    @tr.batched(0)
    @tr.idempotent
    def other(self, x: Tensor) -> Tensor: ...


@tr.remote_scriptable
class Patient:
    @tr.idempotent
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...


class Asking(torch.nn.Module):
    encoder: Patient

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.forward(x)


def test_the_mark_is_in_the_declaration_and_not_in_the_contract():
    interface = compile_interface(Lookup).interface
    assert [method.idempotent for method in interface.methods] == [True, True]
    assert interface.declaration == (
        "@idempotent forward(x: Tensor, scale: float = 1.0) -> Tensor\n"
        "@idempotent @batched(0) other(x: Tensor) -> Tensor"
    )
    assert "idempotent" not in interface.text
    assert parse_interface(interface.qualified_name, interface.declaration) == interface


def test_it_is_for_methods():
    with pytest.raises(InterfaceError, match="idempotent: for methods, and not for 3"):
        tr.idempotent(3)


@in_a_group()
def test_a_lost_call_is_sent_again_until_the_owner_is_back(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    stub = tr.connect("ps", Patient, "encoder", timeout=30)
    calls = [
        lambda: stub(X),
        lambda: stub.forward_async(X).wait(),
        lambda: stub.forward_many([(X,), (X,)])[1],
        lambda: stub.forward_many((X,) for _ in range(2))[1],  # an iterator is empty when it is asked again
        lambda: stub.forward_many([(X,), (X,)], return_exceptions=True)[1],
        lambda: stub.forward_many_async((X,) for _ in range(2)).wait()[1],
        lambda: tr.with_timeout(stub, 0)(X),
    ]
    for call in calls:
        owner.kill()  # and it is not taken off yet
        back = threading.Timer(1.0, come_back, (nursery,))
        back.start()
        assert is_from(0, call())
        back.join()
        owner = _owners.pop()


_owners = []


def come_back(nursery):
    until(lambda: "ps" not in roles.members())
    _owners.append(nursery.join("ps"))
    rpc.rpc_sync("ps", roles.serve_encoder, (0, "encoder", 0.5))


@in_a_group()
def test_it_ends_with_its_timeout(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    stub = tr.connect("ps", Patient, "encoder", timeout=2)
    lose(owner)
    for call in (lambda: stub(X), lambda: stub.forward_async(X).wait()):
        start = time.monotonic()
        with pytest.raises(NotInGroupError):
            call()
        assert 1.9 < time.monotonic() - start < 4
    stopped = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    assert is_from(0, stub(X))
    stopped.stop()
    start = time.monotonic()
    with pytest.raises(WireError):
        stub(X)
    assert 1.9 < time.monotonic() - start < 4


@in_a_group()
def test_what_a_handler_raises_ends_the_search_of_a_call(nursery):
    def handle(*_):
        raise error("of the handler")

    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    stub = tr.connect("ps", Patient, "encoder", timeout=20)
    lose(owner)
    stopped = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    stopped.stop()
    signal.signal(signal.SIGALRM, handle)
    for error in (NotInGroupError, StaleStubError, CallTimeoutError):
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(error, match="of the handler"):
            stub(X)
        assert time.monotonic() - start < 4
    stopped.signal(signal.SIGCONT)
    assert is_from(0, stub(X))


@in_a_group()
def test_many_calls_that_wait_for_an_owner_do_not_hold_up_those_of_another(nursery):
    owners = [nursery.join(name) for name in ("ps", "p1", "p2")]
    for owner in owners:
        rpc.rpc_sync(owner.name, roles.serve_encoder)
    waiting = [tr.connect(where, Patient, "encoder", timeout=50) for where in ("p1", ["p1", "p2"])]
    stub = tr.connect("ps", Patient, "encoder", timeout=30)
    for owner in owners:
        lose(owner)
    for _ in range(50):
        for one in waiting:
            one.forward_async(X)
    answer = stub.forward_async(X)
    time.sleep(0.5)
    nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    assert elapsed(answer.wait) < 10
    assert is_from(0, answer.wait())
    assert sum(thread.name == "torchremote-again" for thread in threading.enumerate()) == 1


@in_a_group()
def test_errors_of_the_method_and_of_what_does_not_fit_are_raised_at_once(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    stub = tr.connect("ps", Patient, "encoder", timeout=60)
    for call in (lambda: stub(torch.ones(3, 3)), lambda: stub.forward_async(torch.ones(3, 3)).wait()):
        with raises_within(5, tr.TorchRemoteError, match="mat1 and mat2"):
            call()
    lose(owner)
    nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_other)
    for call in (lambda: stub(X), lambda: stub.forward_async(X).wait()):
        with raises_within(5, MismatchError):
            call()


def test_a_stub_of_a_module_without_a_name_is_called_as_ever(owner):
    stub = tr.create(owner, Patient, zoo.LinearEncoder, kwargs={"seed": 0})
    assert is_from(0, stub(X))
    assert is_from(0, stub.forward_async(X).wait())


WAYS = {
    "call": lambda stub, x: stub(x),
    "async": lambda stub, x: stub.forward_async(x).wait(),
    "many": lambda stub, x: stub.forward_many([(x,)])[0],
}


@pytest.mark.parametrize("is_replicated", [False, True], ids=["stub", "replicas"])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_dist_autograd_has_recorded_is_not_sent_again(owner, way, is_replicated):
    """`backward` would wait for the gradients of both messages, and those of the first never come."""
    call = WAYS[way]
    rpc.rpc_sync(owner, roles.serve_encoder, (1, "recorded"))
    stub = tr.connect([owner] if is_replicated else owner, Patient, "recorded", timeout=30)
    assert is_from(1, stub(X))
    rpc.rpc_sync(owner, tr.withdraw, ("recorded",))
    rpc.rpc_sync(owner, roles.serve_encoder, (0, "recorded"))
    x = X.clone().requires_grad_()
    with dist_autograd.context(), pytest.raises(StaleStubError):
        call(stub, x)
    with torch.no_grad():  # such a call has no gradients
        assert is_from(0, call(stub, x))
    with dist_autograd.context() as context:
        dist_autograd.backward(context, [call(stub, x).sum()])
        found = dist_autograd.get_gradients(context)[x]
    (expected,) = torch.autograd.grad(roles.expected(x).sum(), x)
    torch.testing.assert_close(found, expected)
    rpc.rpc_sync(owner, tr.withdraw, ("recorded",))


def test_a_call_under_no_grad_is_sent_again_in_a_context_and_does_not_hold_up_its_gradients(owner):
    rpc.rpc_sync(owner, roles.serve_encoder, (1, "recorded"))
    stub = tr.connect(owner, Patient, "recorded", timeout=30)
    rpc.rpc_sync(owner, tr.withdraw, ("recorded",))
    rpc.rpc_sync(owner, roles.serve_encoder, (0, "recorded"))
    x = X.clone().requires_grad_()
    with dist_autograd.context() as context:
        with torch.no_grad():
            assert is_from(0, stub(x))
        dist_autograd.backward(context, [stub(x).sum()])
        assert dist_autograd.get_gradients(context)[x].shape == x.shape
    rpc.rpc_sync(owner, tr.withdraw, ("recorded",))


def test_the_error_says_why_it_was_not_sent_again(owner):
    rpc.rpc_sync(owner, roles.serve_encoder, (1, "recorded"))
    stub = tr.connect(owner, zoo.Encoder, "recorded", timeout=30)
    rpc.rpc_sync(owner, tr.withdraw, ("recorded",))
    with dist_autograd.context(), pytest.raises(StaleStubError) as raised:
        stub(X)
    assert raised.value.__notes__ == [again._RECORDED]


@in_a_group()
def test_a_call_that_has_to_find_its_module_keeps_to_its_timeout_and_async_does_not_wait(nursery):
    lost = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder, (0,))
    stub = tr.connect("ps", Patient, "encoder", timeout=2)
    lose(lost)
    until(lambda: not stub.__dict__[METHODS])
    stopped = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder, (1,))
    stopped.stop()
    took = []

    def call(after):
        time.sleep(after)
        start = time.monotonic()
        with pytest.raises(WireError):
            stub(X)
        took.append(time.monotonic() - start)

    threads = [threading.Thread(target=call, args=(after,)) for after in (0.0, 0.3, 0.9, 1.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 4
    assert max(took) < 3  # twice the timeout would be 4
    asked = []
    assert elapsed(lambda: asked.append(stub.forward_async(X))) < 1
    with pytest.raises(WireError):
        asked[0].wait()
    late = stub.forward_async(X)
    stopped.signal(signal.SIGCONT)
    assert is_from(1, late.wait())
