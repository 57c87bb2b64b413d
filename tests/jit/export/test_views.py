"""A view of another dtype is a copy in an exported module, where nothing changes in place after it."""

import pytest
import torch

from torchremote.errors import CreationError

from .test_tracing import agree, pair


def bits(self, x):
    return x.view(torch.int32)


def by_keyword(self, x):
    return torch.view_copy(x, torch.int32) + x.view(dtype=torch.int32)


def of_its_own_dtype(self, x):
    return x.t().view(x.dtype).t()


def of_a_smaller_dtype(self, x):
    return x.to(torch.float8_e4m3fn).view(torch.uint8)


def of_a_wider_dtype(self, x):
    return x.to(torch.int16).repeat(1, 4).view(torch.int64)


def as_complex(self, x):
    return x.repeat(1, 2).view(torch.complex64).abs()


def in_a_branch(self, x):
    return torch.cond(x.sum() > 0, lambda x: x.view(torch.int32) + 1, lambda x: x.int(), (x,))


def after_a_change(self, x):
    self.one.add_(1)
    y = x.clone()
    y.add_(self.one)
    return y.view(torch.int32)


@pytest.mark.parametrize(
    "do",
    [
        bits,
        by_keyword,
        of_its_own_dtype,
        of_a_smaller_dtype,
        of_a_wider_dtype,
        as_complex,
        after_a_change,
    ],
)
def test_a_view_of_another_dtype(do):
    agree(pair(do), torch.randn(5, 3), torch.randn(1, 3), -torch.ones(2, 3), torch.ones(2, 3, requires_grad=True))


def test_a_view_of_another_dtype_in_a_branch():
    agree(pair(in_a_branch), torch.ones(5, 3), -torch.ones(7, 3))


def through_the_view(self, x):
    y = x.clone()
    y.view(torch.int32).add_(1)
    return y


def under_the_view(self, x):
    y = x.clone()
    view = y.view(torch.int32)
    y.add_(1)
    return view


def in_a_region(self, x):
    y = x.clone()
    view = y.view(torch.int32)
    with torch.no_grad():
        y.add_(1)
    return view


def assigned(self, x):
    view = self.one.view(torch.int32)
    self.one = self.one + 1
    return x + view


@pytest.mark.parametrize("do", [through_the_view, under_the_view, in_a_region, assigned])
def test_a_change_in_place_after_a_view_is_refused(do):
    with pytest.raises(CreationError, match=r"after x.view\(dtype\), in or after \S+\.py:\d+ .*torch.view_copy"):
        pair(do)
