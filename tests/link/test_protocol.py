"""Two releases that meet, in a group and in an archive: both numbers are named, with what to do."""

import pathlib
import re

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import errors
from torchremote._version import PROTOCOL
from torchremote.archive.inspect import stubs_in_archive
from torchremote.caller.creating import sending
from torchremote.caller.stubs import send_stub
from torchremote.errors import ProtocolError
from torchremote.jit.lower import units
from torchremote.link import protocol, route
from torchremote.owner import create

from .. import zoo
from ..group import play

OTHER = PROTOCOL + 1
SAVED_BY_0_1_0 = pathlib.Path(__file__).parents[1] / "archive" / "saved_by_0_1_0.pt"


def speak(number, patch=setattr):
    """Makes this process one of a release that speaks `number` alone."""
    for module, name in (
        (protocol, "PROTOCOL"),
        (protocol, "OLDEST_PROTOCOL"),
        (units, "PROTOCOL"),
        (route, "PROTOCOL"),
    ):
        patch(module, name, number)
    for module in (protocol, sending, send_stub):
        patch(module, "SPOKEN", (number, number))


def ahead(store):
    """A worker of a later release."""
    speak(OTHER)
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "encoder")
    store.set("served", "yes")
    said = rf"the caller speaks protocol {OTHER}, and the owner, which runs torchremote \S+, {PROTOCOL}; run the same"
    with pytest.raises(ProtocolError, match=said):
        tr.create("behind", zoo.Encoder, zoo.LinearEncoder)
    store.wait(["done"])


def behind(store):
    """A worker of this release."""
    store.wait(["served"])
    said = (
        rf"Encoder on ahead: the caller speaks protocol {PROTOCOL}, and the owner, which runs torchremote \S+, "
        rf"{OTHER}; run the same release of torchremote on both \(the caller runs {re.escape(tr.__version__)}\)$"
    )
    for ask in (
        lambda: tr.create("ahead", zoo.Encoder, zoo.LinearEncoder),
        lambda: tr.connect("ahead", zoo.Encoder, "encoder"),
        lambda: tr.create_many(["ahead", "ahead"], zoo.Encoder, zoo.LinearEncoder),
    ):
        with pytest.raises(ProtocolError, match=said):
            ask()
    assert [module.name for module in tr.stats("ahead").modules] == ["encoder"]  # and nothing was left
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "here")
    stub = tr.connect("behind", zoo.Encoder, "here")
    with pytest.raises(
        Exception, match=rf"sent a stub speaks protocol {PROTOCOL}, and this process, which .*, {OTHER};"
    ):
        rpc.rpc_sync("ahead", call, (stub,))
    store.set("done", "yes")


def call(stub):
    return stub(torch.ones(1, 8))


def test_two_releases_in_a_group(tmp_path):
    play(tmp_path, ahead, behind)


@pytest.mark.parametrize("name", [None, "of_a_later_release"])
def test_an_owner_that_does_not_know_an_option(owner, monkeypatch, name):
    real, before = sending._fields, {module.number for module in tr.stats(owner).modules}
    later = {"voice": 3, "accent": True}
    monkeypatch.setattr(sending, "_fields", lambda request: real(request) | later)
    said = (
        rf"Encoder on {owner}: the owner runs torchremote {re.escape(tr.__version__)}, which does not know accent, "
        r"voice in a request to create; run the same release of torchremote on both, or do not ask for that "
        rf"\(the caller runs {re.escape(tr.__version__)}\)$"
    )
    names = None if name is None else [name, f"{name}_too"]
    for ask in (
        lambda: tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name),
        lambda: tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder, name=name).wait(),
        lambda: tr.create_many([owner] * 2, zoo.Encoder, zoo.LinearEncoder, names=names),
    ):
        with pytest.raises(ProtocolError, match=said):
            ask()
    assert {module.number for module in tr.stats(owner).modules} == before


def test_a_release_that_understands_an_older_one(monkeypatch):
    monkeypatch.setattr(protocol, "OLDEST_PROTOCOL", PROTOCOL - 1)
    protocol.check_protocol(PROTOCOL - 1, 1, "the caller")
    with pytest.raises(
        ProtocolError, match=rf"protocol {PROTOCOL - 2}, and this process, .*, {PROTOCOL} and those from"
    ):
        protocol.check_protocol(PROTOCOL - 2, PROTOCOL - 2, "the caller")
    with pytest.raises(ProtocolError, match=rf"protocol {OTHER + 1} and those from {OTHER} on, and this process"):
        protocol.check_protocol(OTHER + 1, OTHER, "the caller")


def test_an_interface_that_the_owner_cannot_read():
    (refusal,) = create.connect_here(PROTOCOL, PROTOCOL, "zoo.F", "forward(x: Later) -> int", "name")
    assert refusal.error is errors.InterfaceError
    assert re.match("zoo.F: the owner cannot read .*; run the same release of torchremote on both$", refusal.message)


def test_an_archive_of_another_release(owner, tmp_path, monkeypatch):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="archived")
    with monkeypatch.context() as later:
        speak(OTHER, later.setattr)
        torch.jit.save(tr.connect("caller", zoo.Encoder, served_here("archived_here")), tmp_path / "later.pt")
        tr.withdraw("archived_here")
    with pytest.raises(
        ProtocolError, match=rf"Encoder: another release .* protocol {OTHER}; .* of protocol {PROTOCOL};"
    ):
        tr.load(tmp_path / "later.pt")
    torch.jit.save(stub, tmp_path / "now.pt")
    assert tr.load(tmp_path / "now.pt")(torch.ones(1, 8)).shape == (1, 8)
    rpc.rpc_sync(owner, tr.withdraw, ("archived",))


def served_here(name):
    tr.serve(zoo.LinearEncoder(), zoo.Encoder, name)
    return name


def test_an_archive_of_the_first_release_says_what_to_do(owner):
    with pytest.raises(
        ProtocolError, match=r"Encoder: torchremote 0.1.0 saved this stub, with protocol 1; .*create the"
    ):
        tr.load(SAVED_BY_0_1_0)
    (saved,) = stubs_in_archive(SAVED_BY_0_1_0)
    assert (saved.path, saved.protocol, saved.worker, saved.name, saved.timeout) == (
        "encoder",
        1,
        "owner",
        "encoder",
        7,
    )
    model = torch.jit.load(SAVED_BY_0_1_0)
    with pytest.raises(torch.jit.Error, match="is not connected; call torchremote.reconnect"):
        model(torch.ones(1, 8))


def test_the_number_is_part_of_every_endpoints_name():
    endpoints = tr.jit.compile_interface(zoo.Encoder).endpoints
    assert all(f".protocol_{PROTOCOL}." in name for name in endpoints.values())
    assert issubclass(errors.ProtocolError, tr.TorchRemoteError)
