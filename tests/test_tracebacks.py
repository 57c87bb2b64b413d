"""An error of ours shows torch's traceback only where it has a line of the user's."""

import traceback

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError, MismatchError

EXAMPLES = {"forward": (torch.ones(2),)}


class Interface:
    def forward(self, x: Tensor) -> Tensor: ...


class Lists(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return [y for y in x if y is not None]


class HasProperty(nn.Module):
    @property
    def scale(self):
        raise KeyError("mine")

    def forward(self, x: Tensor) -> Tensor:
        return x


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("mine")


@pytest.mark.parametrize(
    ("module", "arguments", "error", "shows"),
    [
        (Lists, {}, CreationError, None),
        (Lists, {"examples": EXAMPLES}, MismatchError, None),
        (HasProperty, {}, CreationError, 'raise KeyError("mine")'),
        (Raises, {"examples": EXAMPLES}, CreationError, 'raise KeyError("mine")'),
    ],
)
def test_the_traceback_of_torch_is_shown_with_a_line_of_the_users(module, arguments, error, shows):
    with pytest.raises(error) as raised:
        tr.serve(module(), Interface, "any", **arguments)
    told = "".join(traceback.format_exception(raised.value))
    if shows is None:
        assert "direct cause" not in told
        assert "/torch/" not in told
    else:
        assert "direct cause" in told
        assert shows in told
