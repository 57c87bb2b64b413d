"""Another thread leaves the group while this one asks for something: the error is the one of a process without RPC."""

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import _torch
from torchremote.caller.calls.following import METHODS
from torchremote.caller.creating import requests
from torchremote.errors import NotInitializedError
from torchremote.link import places, timeouts

from .. import zoo
from ..waiting import hosted, until
from .nursery import in_a_group

X = torch.ones(2, 8)


def leaving(function):
    """Makes a function that does what `function` does, and leaves the group, as another thread may just then."""

    def run(*given, **named):
        result = function(*given, **named)
        tr.leave()
        return result

    return run


@in_a_group()
def test_create_between_its_checks_and_its_message(nursery):
    for where, name in ((requests, "new_ticket"), (places, "_read_place")):
        real = getattr(where, name)
        setattr(where, name, leaving(real))
        with pytest.raises(NotInitializedError, match="RPC is not running in this process; call"):
            tr.create("main", zoo.Encoder, zoo.LinearEncoder)
        setattr(where, name, real)
        tr.join("main", shared_memory=False)


@in_a_group()
def test_the_default_timeout_just_after_the_check(nursery):
    timeouts.check_running = leaving(timeouts.check_running)
    with pytest.raises(NotInitializedError, match="RPC is not running in this process; call"):
        timeouts.seconds_of(None)


class Patient:
    @tr.idempotent
    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor: ...


@in_a_group()
def test_a_call_whose_module_has_to_be_found_again(nursery):
    nursery.join("ps")
    tr.create("ps", zoo.Encoder, zoo.LinearEncoder, name="encoder")
    encoder, patient = [tr.connect("ps", interface, "encoder") for interface in (zoo.Encoder, Patient)]
    replicas = tr.connect(["ps"], Patient, "encoder")
    tr.leave()  # as another thread may, just after a stub was told that its worker is lost
    for name, call in (
        ("Encoder on ps", lambda: encoder(X)),
        ("Encoder on ps", lambda: encoder.forward_many([(X,)])),
        ("Encoder on ps", lambda: tr.at_owner(encoder).state_dict()),
        ("Patient on ps", lambda: patient(X)),
        ("Patient on ps", lambda: patient.forward_async(X).wait()),
        ("Patient.forward on ps", lambda: replicas(X)),
    ):
        for stub in (encoder, patient):
            stub.__dict__[METHODS].lose()
        with pytest.raises(NotInitializedError, match=f"^{name}.*: RPC is not running in this process.* call stubs"):
            call()


@in_a_group()
def test_statistics_of_this_process(nursery):
    tr.serve(zoo.LinearEncoder(seed=0), zoo.Encoder, "encoder")
    assert tr.stats().worker == "main"
    real = places._torch.rpc_running
    tr.leave()
    places._torch.rpc_running = lambda: True  # as it was a moment before
    assert (tr.stats().worker, tr.stats().running) == ("", 0)
    places._torch.rpc_running = real


def said_after_references_were_let_go(where, name, end):
    """Returns what calls raise between that and the end of RPC. The owner has removed modules without a name by then.

    Args:
        where, name: the function that lets go.
        end: ends RPC.
    """
    stub, named = [tr.create("ps", zoo.Encoder, zoo.LinearEncoder, name=called) for called in (None, "named")]
    calls = (
        lambda: stub(X),
        lambda: stub.forward_async(X).wait(),
        lambda: stub.forward_many([(X,)] * 2),
        lambda: stub.forward_many_async([(X,)] * 2).wait(),
        lambda: tr.at_owner(stub).state_dict(),
        lambda: tr.at_owner(stub).train(),
        lambda: torch.nn.Sequential(torch.nn.ReLU(), stub).train(),
    )
    real, said = getattr(where, name), []

    def let_go(*given):
        real(*given)
        until(lambda: len(hosted("ps")) == 1)
        assert named(X).shape == (2, 8)
        for call in calls:
            with pytest.raises(NotInitializedError) as raised:
                call()
            said.append(str(raised.value))

    setattr(where, name, let_go)
    end()
    assert len(said) == len(calls)
    return said


def is_of_the_end(said):
    return " on ps: this process leaves its group, or ends RPC, and has let go of the module; nothing was done" in said


@in_a_group()
def test_calls_after_leave_has_let_go_of_modules(nursery):
    nursery.join("ps")
    said = said_after_references_were_let_go(_torch.GroupAgent, "let_go", tr.leave)
    assert all(map(is_of_the_end, said)), said


@in_a_group()
def test_calls_after_shutdown_has_let_go_of_modules(nursery):
    nursery.join("ps")
    said = said_after_references_were_let_go(rpc.api, "_delete_all_user_and_unforked_owner_rrefs", rpc.shutdown)
    assert all(map(is_of_the_end, said)), said
