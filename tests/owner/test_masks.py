"""A list of bools is a mask as an index on an owner, as in Python. TorchScript alone picks rows 0 and 1 by it."""

import io
from typing import List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module


class Of:
    def forward(self, x: Tensor, chosen: List[bool]) -> List[Tensor]: ...


def rows(x: Tensor, chosen: List[bool]) -> Tensor:
    return x[chosen]


class Picks(nn.Module):
    def __init__(self):
        super().__init__()
        self.chosen = [False, True, True]
        self.places = [2, 0]

    def forward(self, x: Tensor, chosen: List[bool]) -> List[Tensor]:
        found = [x[[True, False, True]], x[chosen], x[:, chosen], x[self.chosen], x[self.chosen, 0], rows(x, chosen)]
        found += [x[self.places], x[[1, 0, 1]], x[None, chosen, ...]]
        found += [x[torch.tensor(chosen)], x[torch.tensor(chosen, dtype=torch.int64)]]
        y = x.clone()
        y[chosen] = -1.0
        y[self.chosen] += 10.0
        y[[True, False, False], 1] = torch.tensor([5.0])
        for _ in range(2):
            if chosen[0]:
                y[chosen] *= 3
        found.append(y)
        return found


class Saved(Picks):
    """Has a type of its own, which no other test has guarded."""


def loaded(module):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


CHOSEN = [[True, False, True], [False, False, False], [True, True, True], [False, True, False]]


@pytest.mark.parametrize("make", [Picks, lambda: torch.jit.script(Saved())])
def test_a_list_of_bools_is_a_mask(owner, make):
    stub, local = tr.create(owner, Of, make), Picks()
    for chosen in CHOSEN * 2:
        x = torch.arange(9.0).view(3, 3)
        for hosted, expected in zip(stub(x, chosen), local(x, chosen), strict=True):
            assert torch.equal(hosted, expected)


class Loaded(nn.Module):
    def forward(self, x: Tensor, chosen: List[bool]) -> List[Tensor]:
        y = x.clone()
        y[chosen] += 4.0
        return [x[[True, False, True]], x[:, chosen], x[torch.tensor(chosen, dtype=torch.int64)], y, x[[2, 1]]]


def test_it_is_one_in_a_module_that_was_saved_and_loaded():
    hosted, local = scripted_module(loaded(Loaded()), compile_interface(Of).interface), Loaded()
    for chosen in CHOSEN * 2:
        x = torch.arange(9.0).view(3, 3)
        for one, expected in zip(hosted(x, chosen), local(x, chosen), strict=True):
            assert torch.equal(one, expected)


def test_its_rows_have_gradients():
    hosted = scripted_module(Picks(), compile_interface(Of).interface)
    for _ in range(3):
        x = torch.ones(3, 3, requires_grad=True)
        hosted(x, [True, False, False])[1].sum().backward()
        assert x.grad.tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3]
