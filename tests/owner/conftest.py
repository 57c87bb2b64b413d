"""What tests of this folder share."""

import pytest
import torch

import torchremote as tr

from .gathering import Scaler, ScalerModule


@pytest.fixture(scope="module")
def scaler(owner):
    """A stub of a module on the owner whose calls are gathered."""
    with torch.no_grad():
        return tr.create(owner, Scaler, ScalerModule, gather=64)
