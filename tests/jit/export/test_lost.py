"""What torch.export would lose without a word: regions without gradients, shared memory, state of classes."""

import logging

import pytest
import torch
from torch import nn
from torch._higher_order_ops import map as mapped
from torch._higher_order_ops import scan, while_loop

import torchremote as tr
from torchremote.errors import CreationError

from .zoo import OnTensor

ONES = torch.ones(3, 4)


def export(module, example=ONES):
    return tr.exported(module, OnTensor, {"forward": (example,)})


class Without(nn.Module):
    """Runs a part without gradients."""

    def __init__(self, do):
        super().__init__()
        self.do, self.linear = do, nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            y = self.do(self.linear, x)
        return y + self.linear(x) * 0


PARTS = {
    "cond": lambda f, x: torch.cond(x.sum() > 0, lambda x: f(x), lambda x: f(x) * 2, (x,)),
    "cond beside others": lambda f, x: f(x) + torch.cond(x.sum() > 0, lambda x: f(x), lambda x: f(x) * 2, (x,)),
    "while_loop": lambda f, x: while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, f(x)), (torch.tensor(0), x))[1],
    "map": lambda f, x: mapped(lambda row: f(row), x),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_branch_without_gradients_is_exported_for_calls_without(part):
    module = Without(PARTS[part])
    exported = export(module)
    with torch.no_grad():
        torch.testing.assert_close(exported(ONES), module(ONES))
    with pytest.raises(torch.jit.Error, match=r"exported for calls without gradients; .* under torch.no_grad\(\)"):
        exported(ONES)


class With(Without):
    """Runs the part with gradients."""

    def forward(self, x):
        return self.do(self.linear, x)


def carried(f, x):
    def step(before, row):
        after = torch.tanh(f(row) + before)
        return after, after * 2

    last, rows = scan(step, torch.zeros(4), x)
    return rows + last


def carried_in_python(f, x):
    last, rows = torch.zeros(4), []
    for row in x:
        last = torch.tanh(f(row) + last)
        rows.append(last * 2)
    return torch.stack(rows) + last


@pytest.mark.parametrize(
    ("do", "does"),
    [
        *((PARTS[name], PARTS[name]) for name in ("cond", "cond beside others", "map")),
        (carried, carried_in_python),  # the gradients of torch's own scan are wrong in torch 2.11
    ],
)
def test_parameters_in_a_branch_or_loop_have_gradients(do, does):
    module = With(do)
    exported = export(module)
    module.do = does
    for x in (torch.rand(5, 4), -torch.rand(3, 4)):
        gradients = []
        for one in (module, exported):
            module.zero_grad()
            result = one(x)
            result.sum().backward()
            gradients.append([result.detach(), *(parameter.grad for parameter in module.parameters())])
        for own, found in zip(*gradients, strict=True):
            torch.testing.assert_close(found, own)


def test_transforms_that_torch_export_cannot_take_apart():
    older = torch.__version__ < "2.12"  # which fails itself
    said = "cannot capture it: .*Expected FakeTensor" if older else "it has a transform of torch.func"
    with pytest.raises(CreationError, match=said):
        export(Does(lambda self, x: torch.func.grad(lambda q: (q**2).sum())(x)))
    with pytest.raises(CreationError, match="vmap beside a region without gradients"):
        export(Without(lambda f, x: torch.vmap(lambda row: f(row) * 2)(x)))


class Does(nn.Module):
    count = 0
    seen: list = []

    def __init__(self, do):
        super().__init__()
        self.do, self.w = do, nn.Parameter(torch.ones(4))
        self.register_buffer("mean", self.w.detach())
        self.register_buffer("whole", torch.zeros(6))
        self.register_buffer("part", self.whole[2:])
        self.register_buffer("alone", torch.ones(4))
        self.register_buffer("absent", None)

    def forward(self, x):
        return self.do(self, x)


def assigns(name):
    def do(self, x):
        setattr(self, name, getattr(self, name) + 1)
        return x * 1

    return do


@pytest.mark.parametrize(
    ("name", "other"), [("mean", "w"), ("part", "whole"), ("whole", "part")], ids=["mean", "part", "whole"]
)
def test_a_buffer_that_shares_memory_is_not_assigned(name, other):
    with pytest.raises(CreationError, match=rf"assigns the buffer {name}, which shares memory with {other};"):
        export(Does(assigns(name)))


def test_one_that_shares_memory_may_change_in_place_and_another_be_assigned():
    def do(self, x):
        self.whole.add_(1)
        self.alone = self.alone * 2
        return x * self.part * self.alone

    module = Does(do)
    exported = export(Does(do))
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(exported(ONES), module(ONES))


def fills(self, x):
    if self.absent is None:
        self.absent = x.sum(0)
    return x * self.absent


def fails_late(self, x):
    self.alone = self.alone + x.sum(0)
    return x if x.sum() > 0 else -x


def registers(self, x):
    self.register_buffer("late", x.sum(0))
    return x * self.late


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (fills, "another size or dtype to its buffer absent"),
        (registers, "registers the buffer late"),
        (fails_late, "torch.export cannot capture it"),
    ],
    ids=["a buffer that is None", "a new buffer", "a branch on a value"],
)
def test_a_failed_export_leaves_the_module_as_it_was_and_prints_nothing(do, message, capfd):
    module = Does(do)
    before = dict(module._buffers)
    with pytest.raises(CreationError, match=message):
        export(module)
    assert module._buffers.keys() == before.keys()
    assert all(module._buffers[name] is value for name, value in before.items())
    assert capfd.readouterr() == ("", "")


def test_a_size_that_a_call_computes_is_not_squeezed_away():
    module = Does(lambda self, x: x[(x[:, 0] > 0).nonzero().squeeze()].sum(0))
    exported = export(module)
    for x in (torch.ones(3, 4), torch.rand(9, 4) + 0.1, -torch.ones(3, 4), torch.zeros(0, 4)):
        assert torch.equal(exported(x), module(x))
    with pytest.raises(torch.jit.Error, match="exported for any size but 1, of a number that it computes"):
        exported(torch.tensor([[1.0, 2, 3, 4], [-1, 2, 3, 4]]))


REMEDIED = {
    "int": lambda self, x: x * x.sum().long().item(),
    "float": lambda self, x: x * x.sum().double().item(),
    "bool": lambda self, x: torch.where(x.sum() > 0, x, x * 2),
}
"""What to write in the place of what asks for the value of a tensor, and follows the error."""


@pytest.mark.parametrize(
    ("kind", "do"),
    [
        ("int", lambda self, x: x * int(x.sum())),
        ("int", lambda self, x: x * int(x.sum().item())),
        ("int", lambda self, x: x * int((x * 1.01).sum().item())),
        ("int", lambda self, x: x * int((x > 0).sum().item())),
        ("float", lambda self, x: x * float(x.sum())),
        ("float", lambda self, x: x * float(x.sum().item())),
        ("float", lambda self, x: x * float((x > 0).sum().item())),
        ("bool", lambda self, x: x if x.sum() > 0 else x * 2),
        ("bool", lambda self, x: x if x.sum().item() > 0 else x * 2),
    ],
)
def test_a_value_of_a_tensor_is_refused_in_plain_words(kind, do):
    write = (
        r"Write tensor.long\(\).item\(\) and tensor.double\(\).item\(\) in their place, and torch.cond or torch.where"
    )
    with pytest.raises(CreationError, match=rf"data-dependent .*\n(Caused by.*\n)?.*also around .*{write}") as caught:
        export(Does(do))
    assert len(str(caught.value).splitlines()) <= 3, str(caught.value)
    expected = do(None, ONES)
    assert torch.equal(export(Does(REMEDIED[kind]))(ONES), expected)


def test_an_export_that_succeeds_logs_nothing(capfd, caplog):
    export(Does(lambda self, x: nn.functional.avg_pool2d(x, 2)), torch.rand(1, 2, 5, 5))
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def counts(self, x):
    type(self).count += 1
    return x * self.count


def lists(self, x):
    self.seen.append(1)
    return x * len(self.seen)


@pytest.mark.parametrize(("do", "name"), [(counts, "count"), (lists, "seen")], ids=["a number", "a list"])
def test_a_class_that_a_method_changes(do, name):
    with pytest.raises(CreationError, match=rf"changes its attribute Does\.{name}"):
        export(Does(do))
    assert (Does.count, Does.seen) == (0, [])


class Remembers(nn.Module):
    def log(self, calls=[]):  # noqa: B006
        calls.append(1)
        return len(calls)

    def forward(self, x, calls=[]):  # noqa: B006
        calls.append(1)
        return x * len(calls)


class RemembersInAnother(Remembers):
    def forward(self, x):
        return x * self.log()


@pytest.mark.parametrize(("cls", "name"), [(Remembers, "forward"), (RemembersInAnother, "log")])
def test_a_default_that_a_method_changes(cls, name):
    with pytest.raises(CreationError, match=rf"changes its attribute Remembers\.{name}"):
        export(cls())
    assert getattr(Remembers, name).__defaults__ == ([],)


def test_data_of_a_tensor_is_the_tensor_without_gradients():
    def do(self, x):
        x.data.mul_(2)
        self.alone.data.add_(1)
        return x + self.w.data * self.alone

    given, own = ONES.clone(), ONES.clone()
    module, exported = Does(do), export(Does(do))
    for _ in range(2):
        assert torch.equal(exported(given), module(own))
        assert torch.equal(given, own)

    def assigned(self, x):
        self.alone.data = self.alone.data * 2
        return x * self.alone

    with pytest.raises(CreationError, match="assigns to a tensor's data"):
        export(Does(assigned))


def test_a_call_outside_of_what_a_number_of_it_was_assumed_to_be_names_the_line():
    exported = export(Does(lambda self, x: x[x[:, 0] > 0] + torch.ones(3, 4)))
    with pytest.raises(torch.jit.Error, match=r"the method was exported for u0 .*test_lost.py:\d+ in"):
        exported(torch.tensor([[1.0] * 4, [-1.0] * 4, [-1.0] * 4]))
