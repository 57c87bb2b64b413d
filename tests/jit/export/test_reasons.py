"""What torch.export refuses is told why, and what to do instead."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module


class Reads:
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor: ...


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        found, _ = self.gru(packed)
        return pad_packed_sequence(found, batch_first=True)[0]


class Packed(Padded):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.gru(pack_sequence([x[0], x[1]]))[1]


class WithoutLayer(Padded):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(packed, batch_first=True)[0]


ARGUMENTS = torch.rand(2, 3, 4), torch.tensor([3, 2])


@pytest.mark.parametrize("make", [Padded, Packed, WithoutLayer])
def test_packed_sequences_are_hosted_without_examples(make):
    module = make().eval()
    with pytest.raises(CreationError, match="packed sequence, .* Host the module without examples=") as found:
        tr.exported(module, Reads, {"forward": ARGUMENTS})
    assert "in the place of a branch" not in str(found.value)
    hosted = scripted_module(module, compile_interface(Reads).interface)
    torch.testing.assert_close(hosted(*ARGUMENTS), module(*ARGUMENTS))


class OnValues(Padded):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.gru(pad_sequence([x[0], x[1, :2]], batch_first=True))[1] * int(lengths[0])


def test_others_have_their_own_reason():
    with pytest.raises(CreationError, match="It needs the value of a tensor") as found:
        tr.exported(OnValues().eval(), Reads, {"forward": ARGUMENTS})
    assert "packed" not in str(found.value)
