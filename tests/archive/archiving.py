"""What tests of archives share."""

import io

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr

from .. import zoo


@pytest.fixture
def encoder(owner):
    """A stub of a module that is served as "encoder"."""
    yield tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 4}, name="encoder", timeout=7)
    rpc.rpc_sync(owner, tr.withdraw, ("encoder",))


def saved(module):
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return buffer
