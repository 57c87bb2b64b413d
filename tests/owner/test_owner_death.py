"""What a caller sees of an owner that goes, in order or not: in processes of their own, for the group ends with it."""

import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import RemoteError, WireError
from torchremote.link.failures import explain
from torchremote.link.lost import is_lost

from .. import zoo
from ..group import play


def test_a_dead_owner_is_noticed_and_named(tmp_path):
    store = f"file://{tmp_path}/store"
    caller = subprocess.run(
        [sys.executable, "-m", "tests.owner.test_owner_death", store], capture_output=True, text=True, timeout=90
    )
    assert "WireError Encoder.forward on owner: " in caller.stdout, caller.stderr
    assert "async WireError" in caller.stdout


def leaving(store):
    """Shuts down without waiting for anybody, as an owner does that is told to leave."""
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "served")
    store.set("served", "yes")
    store.wait(["called"])
    rpc.shutdown(graceful=False)
    store.set("left", "yes")
    os._exit(0)


def staying(store):
    store.wait(["served"])
    stub = tr.connect("leaving", zoo.Encoder, "served")
    stub(torch.ones(1, 8))
    store.set("called", "yes")
    store.wait(["left"])
    for call in (lambda: stub(torch.ones(1, 8)), lambda: tr.connect("leaving", zoo.Encoder, "served")):
        with pytest.raises(WireError, match=r"Encoder(\.forward)? on leaving: "):
            call()
    print("went on", flush=True)
    os._exit(0)  # an orderly shutdown would wait for the one that left


def test_an_owner_that_leaves_in_order_is_an_error_and_no_hang(tmp_path):
    _, told = play(tmp_path, leaving, staying)
    assert "went on" in told


def ending(store):
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "served")
    store.set("served", "yes")


def calling(store):
    store.wait(["served"])
    stubs = [tr.connect("ending", zoo.Encoder, "served"), tr.create("ending", zoo.Encoder, zoo.LinearEncoder)]
    print(sum(stub(torch.ones(1, 8)).numel() for stub in stubs))


def test_an_owner_that_ends_waits_for_its_callers(tmp_path):
    _, told = play(tmp_path, ending, calling)
    assert told.endswith("16\n")


LOST_NOW = (
    'this->threadPool_.inThreadPool() INTERNAL ASSERT FAILED at "tensorpipe_agent.cpp":862, please report a bug to '
    "PyTorch. Future marked complete from outside the thread pool"
)
"""The agent asserts in which thread a Future is complete, and it is complete at once if the connection is lost."""


def test_torchs_assertion_about_a_connection_that_is_lost_now_is_a_lost_connection():
    error = explain(RuntimeError(LOST_NOW), "Encoder.forward", "owner")
    assert type(error) is WireError
    assert str(error).startswith("Encoder.forward on owner: ")


@pytest.mark.parametrize(
    "ask",
    [
        lambda owner: tr.create(owner, zoo.Encoder, zoo.LinearEncoder),
        lambda owner: tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder).wait(),
        lambda owner: tr.create_many([owner], zoo.Encoder, zoo.LinearEncoder),
        lambda owner: tr.connect(owner, zoo.Encoder, "any"),
        lambda owner: tr.withdraw("any", owner),
        lambda owner: tr.stats(owner),
    ],
)
def test_it_is_one_for_every_question(owner, monkeypatch, ask):
    def lose(*_, **__):
        raise RuntimeError(LOST_NOW)

    with monkeypatch.context() as patch:
        patch.setattr(rpc, "rpc_async", lose)
        with pytest.raises(WireError):
            ask(owner)


@pytest.mark.parametrize(
    "text",
    [
        "process_vm_readv: No such process (this error originated at tensorpipe/channel/cma/context_impl.cc:60)",
        "EPIPE: broken pipe (this error originated at tensorpipe/transport/uv/connection_impl.cc:157)",
        "RPCErr:1:async error (this error originated at tensorpipe/channel/mpt/channel_impl.cc:1)",
    ],
)
def test_any_error_of_a_connection_is_a_lost_connection(text):
    """With large_tensors, whoever reads the memory of a killed worker is told that there is no such process."""
    assert is_lost(text)
    told = "the connection to owner was lost: its process ended, or the network failed"
    first = text.removeprefix("RPCErr:1:")
    for method, unsure in (("Encoder.forward", "the method ran"), ("Encoder", "it was done")):
        error = explain(RuntimeError(text), method, "owner")
        assert type(error) is WireError
        assert str(error) == f"{method} on owner: {told} ({first}); whether {unsure} is not known"
        longer = explain(RuntimeError(f"{text}\nmore"), method, "owner")
        assert str(longer) == f"{error}\n\n{text}\nmore"


def test_a_connection_that_the_module_lost_is_not_that_of_the_caller():
    lost = "eof (this error originated at tensorpipe/transport/shm/connection_impl.cc:259)"
    report = (
        "The following operation failed in the TorchScript interpreter.\n"
        "Traceback of TorchScript (most recent call last):\n"
        "def _remote_forward(table: Table, handle: int, x: Tensor, flags: int) -> Tensor:\n"
        "    return find(table, handle).forward(flags, x)\n"
        "           ~~~~~~~~~~~~~~~~~~~~~~~~~~~ <--- HERE\n"
        f"RuntimeError: {lost}\n"
    )
    error = explain(RuntimeError(report), "Encoder.forward", "owner")
    assert type(error) is RemoteError
    told = "it called a worker, and the connection to that was lost: its process ended, or the network failed"
    assert str(error).startswith(f"Encoder.forward on owner: {told} ({lost})\n\n")


def test_an_error_of_the_method_that_names_a_connection_stays_one():
    within = "ValueError: told\nprocess_vm_readv: No such process (this error originated at tensorpipe/channel)"
    assert not is_lost(within)


def act(store):
    owner = subprocess.Popen([sys.executable, "-m", "tests.owner_process", store])
    options = rpc.TensorPipeRpcBackendOptions(init_method=store, rpc_timeout=30)
    rpc.init_rpc("caller", rank=0, world_size=2, rpc_backend_options=options)
    stub = tr.create("owner", zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(1, 8)
    stub(x)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    for prefix, call in (("", stub), ("async ", lambda x: stub.forward_async(x).wait())):
        try:
            call(x)
        except WireError as error:
            print(f"{prefix}WireError {str(error).splitlines()[0]}", flush=True)
    os._exit(0)  # an orderly shutdown would wait for the dead


if __name__ == "__main__":
    act(sys.argv[1])
