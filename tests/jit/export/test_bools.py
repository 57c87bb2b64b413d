"""A bool that an operator takes for a number stays one in an export. TorchScript would make an integer of it."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError


class OnMask:
    def forward(self, x: Tensor, on: bool, n: int, f: float) -> Tensor: ...


class OfMask(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x, on, n, f):
        return self.compute(x, x > 0, on, n, f)


def in_place(x, mask, on, n, f):
    mask = mask.clone()
    mask |= on
    mask ^= False
    mask &= n > 1
    mask[0] = True
    return mask.mul_(True).logical_or_(mask)


OF_BOOLS = [
    lambda x, mask, on, n, f: mask & True,
    lambda x, mask, on, n, f: ~(mask & on),
    lambda x, mask, on, n, f: x[(x > -9) & on],
    lambda x, mask, on, n, f: on | mask,
    lambda x, mask, on, n, f: torch.bitwise_and(True, mask),
    lambda x, mask, on, n, f: mask ^ True,
    lambda x, mask, on, n, f: mask * True,
    lambda x, mask, on, n, f: mask + on,
    lambda x, mask, on, n, f: mask.any() & on,
    lambda x, mask, on, n, f: mask & (x.shape[0] == 3),
    lambda x, mask, on, n, f: mask & (n > 1),
    lambda x, mask, on, n, f: mask * (x.sum() > 0).item(),
    lambda x, mask, on, n, f: torch.where(mask, True, False),
    lambda x, mask, on, n, f: torch.where(mask, on, n > 3),
    lambda x, mask, on, n, f: torch.where(x > 1, mask, True),
    lambda x, mask, on, n, f: torch.where(x > 1, on, mask),
    lambda x, mask, on, n, f: torch.full((x.shape[0],), True),
    lambda x, mask, on, n, f: torch.full((2,), (x.sum() > 0).item()),
    lambda x, mask, on, n, f: torch.full((2,), n > 3),
    lambda x, mask, on, n, f: torch.full_like(mask, on) | mask.new_full((3,), False),
    lambda x, mask, on, n, f: mask.masked_fill(x > 1, on).index_fill(0, torch.tensor([0]), True),
    lambda x, mask, on, n, f: torch.scatter(mask, 0, torch.tensor([0]), True),
    lambda x, mask, on, n, f: torch.tensor(on) & mask,
    lambda x, mask, on, n, f: nn.functional.pad(mask, (1, 1), value=True),
    lambda x, mask, on, n, f: (mask == on) & (mask > False),
    in_place,
]
OF_NUMBERS = [
    lambda x, mask, on, n, f: torch.add(mask, mask, alpha=True),
    lambda x, mask, on, n, f: x.long() & on,
    lambda x, mask, on, n, f: x * on + x.half() * on,
    lambda x, mask, on, n, f: x.to(torch.int8) * True,
    lambda x, mask, on, n, f: torch.full((2,), on, dtype=torch.float64),
    lambda x, mask, on, n, f: torch.where(mask, n, True),
    lambda x, mask, on, n, f: torch.where(mask, x.long(), True),
    lambda x, mask, on, n, f: torch.where(mask, x.half(), n),
    lambda x, mask, on, n, f: torch.where(mask, n, f),
    lambda x, mask, on, n, f: mask / True,
    lambda x, mask, on, n, f: mask * n,
    lambda x, mask, on, n, f: mask * f,
    lambda x, mask, on, n, f: x.long() * n + x.long() * (n / 2),
    lambda x, mask, on, n, f: x.long() * x.sum().item(),
    lambda x, mask, on, n, f: mask * x.half().sum().item(),
    lambda x, mask, on, n, f: torch.full((2,), n),
    lambda x, mask, on, n, f: torch.full((2,), n / 2),
    lambda x, mask, on, n, f: torch.arange(0, n, f),
    lambda x, mask, on, n, f: x.long().clamp(min=f),
    lambda x, mask, on, n, f: n - x.long(),
    lambda x, mask, on, n, f: n**x,
    lambda x, mask, on, n, f: torch.view_as_real(mask * 1j * n + f),
    lambda x, mask, on, n, f: torch.view_as_real(torch.where(mask, 1j, x)),
    lambda x, mask, on, n, f: torch.view_as_real(torch.full((2,), 1j)),
]


@pytest.mark.parametrize("computed", [OF_BOOLS, OF_NUMBERS])
@pytest.mark.parametrize("on", [True, False])
def test_results_have_the_dtypes_and_values_of_the_module(computed, on):
    x = torch.tensor([-1.0, 0.0, 2.0])
    for number, compute in enumerate(computed):
        exported = tr.exported(OfMask(compute), OnMask, {"forward": (x, on, 4, 2.5)})
        for call in ((x, on, 4, 2.5), (-x, on, 5, 2.5)):
            one, other = exported(*call), OfMask(compute)(*call)
            assert one.dtype == other.dtype, number
            assert torch.equal(one, other), number


@pytest.mark.parametrize(
    "compute", [lambda x, mask, on, n, f: True - x.long(), lambda x, mask, on, n, f: x.long() - on]
)
def test_a_bool_is_not_subtracted(compute):
    call = (torch.ones(3), True, 4, 2.5)
    for run in (OfMask(compute), tr.exported(OfMask(compute), OnMask, {"forward": call})):
        with pytest.raises(RuntimeError, match="with a bool tensor is not supported"):
            run(*call)


@pytest.mark.parametrize(
    ("compute", "operator"),
    [
        (lambda x, mask, on, n, f: mask**on, "aten::pow"),
        (lambda x, mask, on, n, f: torch._foreach_mul([mask], True)[0], "aten::_foreach_mul"),
    ],
)
def test_an_operator_that_takes_no_tensor_there_is_refused(compute, operator):
    with pytest.raises(CreationError, match=rf"OnMask.forward: .*{operator} with a bool for a number.*give"):
        tr.exported(OfMask(compute), OnMask, {"forward": (torch.ones(3), True, 4, 2.5)})
