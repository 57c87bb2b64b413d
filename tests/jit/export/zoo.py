"""Modules that TorchScript refuses or gets wrong, each with an interface, examples, and calls at other shapes.

`PETS` has for each: the interface, what makes the module, examples, and calls. What a call gives has to be what the
module gives itself, bit for bit.
"""

import dataclasses
import enum
import io
import warnings
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn.utils.prune
from torch import Tensor, nn


class Way(enum.Enum):
    SUM = 1
    MEAN = 2


class Pair(NamedTuple):
    values: Tensor
    count: int


class Outputs(NamedTuple):
    logits: Tensor
    hidden: List[Tensor]
    loss: Optional[Tensor]


class Holding(nn.Module):
    """Has another module as a part."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return self.part(x)


def saved_and_loaded(module):
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


@dataclasses.dataclass
class Returned:
    hidden: tuple
    logits: Tensor
    loss: Optional[Tensor] = None


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class OnTwo:
    def forward(self, x: Tensor, y: Optional[Tensor] = None) -> Tensor: ...


class Returning:
    def forward(self, x: Tensor) -> Outputs: ...


class ToDict:
    def forward(self, x: Tensor) -> Dict[str, Tensor]: ...


class Nested:
    def forward(
        self,
        xs: List[Tensor],
        named: Dict[str, Tensor],
        pair: Pair,
        both: Tuple[Tensor, Optional[Tensor]],
        way: Way,
        scale: float,
        name: str,
        flag: bool,
    ) -> Tuple[List[Tensor], Dict[str, Tensor], Pair, Way, Optional[Tensor], float, str, bool, int]: ...


class Counted:
    def forward(self, x: Tensor, k: int) -> Tuple[Tensor, int, List[int]]: ...


class Several:
    def encode(self, x: Tensor) -> Tensor: ...
    def decode(self, x: Tensor, *, times: int) -> Tensor: ...


class Kwargs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, **options):
        y = options.get("y")
        return sum(part for part in (self.linear(x), x if y is None else y))


class Dataclass(Kwargs):
    def forward(self, x, **options):
        logits = self.linear(x)
        return Returned((x, logits), logits, logits.sum() if x.shape[1] == 4 else None)


class Mapped(Kwargs):
    def forward(self, x):
        return OrderedDict(first=self.linear(x), second=x * x.shape[0])


class Deep(nn.Module):
    def forward(self, xs, named, pair, both, way, scale, name, flag):
        total = sum(xs) if way is Way.SUM else sum(xs) / len(xs)
        total = total * scale + named["a"] - named["b"]
        if both[1] is not None:
            total = total + both[1]
        values = [x + total for x in xs]
        named = {name: total, "n": both[0]}
        return values, named, Pair(pair.values * 2, pair.count + 1), Way.MEAN, None, scale * 2, name, not flag, len(xs)


class Sizes(nn.Module):
    def forward(self, x, k):
        batch, length = x.shape
        y = x.reshape(batch * length)[: k * 2].view(-1, 1).expand(-1, 3)
        return y * (batch // 2 + length % 3 - max(batch, length)), batch * 3 + k, [batch, length, k]


class Controlled(nn.Module):
    def forward(self, x):
        x = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
        return torch.cond(x.shape[0] > 3, lambda x: x * 2, lambda x: x * 3, (x,))


class Looped(nn.Module):
    def forward(self, x):
        loop, over, scan = torch._higher_order_ops.while_loop, torch._higher_order_ops.map, torch._higher_order_ops.scan
        _, x = loop(lambda n, x: n < 3, lambda n, x: (n + 1, x * 2), (torch.tensor(0), x))
        y = over(lambda row, total: row.sin() + total, x, x.sum(0))
        carried, rows = scan(lambda carry, row: (carry + row, carry * row), x.sum(0), x)
        return y + carried + rows


class GradModes(Kwargs):
    def forward(self, x):
        with torch.no_grad():
            y = self.linear(x)
            with torch.enable_grad():
                z = self.linear(x)
        return y + z * 2


class Autocast(Kwargs):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(x) @ x.t()
        with torch.autocast("cpu", enabled=False):
            z = self.linear(x)
        return y.float() + z.sum()


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(4))
        self.register_buffer("hidden", torch.zeros(4), persistent=False)
        self.scales = torch.arange(4.0)

    def forward(self, x, **options):
        self.count += 1
        self.total = self.total + x.sum(0)
        self.hidden.mul_(0.5).add_(self.total)
        return x * self.count + self.hidden * self.scales + torch.tensor([1.0, 2.0, 3.0, 4.0])


class Normed(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.3)

    def forward(self, x, *others):
        return self.dropout(self.norm(x)) + torch.rand_like(x) * torch.randn(4)


class FromData(nn.Module):
    def forward(self, x):
        found = x.nonzero()
        largest = x.abs().max().ceil().long().item()
        torch._check(largest < 100)
        return found.sum() * found.shape[0] + x * largest


class Indexed(nn.Module):
    def forward(self, x):
        rows = torch.arange(x.shape[0])
        x = x[rows[:, None], torch.tensor([0, 2])]
        y = x.clone()
        y[rows, 0] = 7.0
        return y[:, torch.tensor([1, 0])] + x[x.sum(1) < 9].sum()


class OfAnotherLibrary(nn.Module):
    def forward(self, x):
        return torch.ops._test.leaky_relu(x, 0.1)  # torch's own, to test operators in C++ that are not ATen's


class Tied(nn.Module):
    def __init__(self, *args):
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.blocks = nn.ModuleDict({"a-b": nn.ModuleList([nn.Linear(4, 4), nn.LSTM(4, 4)])})
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x, **options):
        linear, lstm = self.blocks["a-b"]
        return self.head(lstm(linear(self.words(x)))[0])


class Encoding(Kwargs):
    def encode(self, x, *ignored):
        return self.linear(x).relu()

    def decode(self, x, **options):
        for _ in range(2):
            x = torch.nn.functional.linear(x, self.linear.weight.t())
        return x * options["times"]


class Hooked(Kwargs):
    def __init__(self):
        super().__init__()
        self.register_forward_hook(lambda module, args, result: result * 10)
        self.linear.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


class Decorated(Kwargs):
    @torch.no_grad()
    def forward(self, x):
        return self.linear(x)


class PerRow(Kwargs):
    def forward(self, x):
        return torch.vmap(lambda row: self.linear(row) * row.sum())(x)


def parametrized():
    return nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is the old one
        return nn.utils.weight_norm(nn.Linear(4, 4))


def pruned():
    linear = nn.utils.prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)
    return nn.utils.prune.random_unstructured(nn.utils.prune.l1_unstructured(linear, "bias", 2), "weight", 0.5)


class OnInput:
    def forward(self, input: Tensor) -> Tensor: ...


def rows(*sizes):
    return [(torch.randn(size, 4),) for size in sizes]


def nested(size, way=Way.SUM):
    one = torch.randn(size, 4)
    both = one, torch.ones(size, 4)
    named = {"a": one, "b": one * 2}
    return [one, one + 1, one + 2], named, Pair(one, size), both, way, 0.5, "label", True


X, W = (torch.randn(3, 4),), (torch.randn(3, 5),)
# torch 2.11 asks for itself, in branches and loops, whether tensors require gradients, as if the method asked.
WITH_GRADIENT = (X[0].clone().requires_grad_(),)

PETS = {
    "kwargs": (OnTwo, Kwargs, (X[0], X[0]), [(torch.randn(n, 4), torch.randn(n, 4)) for n in (1, 2, 7)]),
    "an optional": (OnTwo, Kwargs, [X, (X[0], X[0])], [*rows(1, 5), (torch.randn(6, 4), torch.randn(6, 4))]),
    "a dataclass": (Returning, Dataclass, X, rows(1, 6)),
    "a mapping": (ToDict, Mapped, X, rows(1, 6)),
    "nested values": (Nested, Deep, nested(3), [nested(1), nested(6)]),
    "sizes": (Counted, Sizes, (torch.randn(6, 5), 4), [(torch.randn(7, 9), 5), (torch.randn(4, 4), 3)]),
    "conditions": (OnTensor, Controlled, [X, WITH_GRADIENT], [*rows(2, 9), (torch.full((5, 4), -1.0),)]),
    "loops": (OnTensor, Looped, X, rows(2, 6)),
    "grad modes": (OnTensor, GradModes, X, rows(1, 6)),
    "autocast": (OnTensor, Autocast, X, rows(2, 6)),
    "buffers": (OnTensor, Counting, X, rows(1, 6, 2)),
    "values of tensors": (OnTensor, FromData, X, rows(1, 6)),
    "indices": (OnTensor, Indexed, X, rows(2, 6)),
    "an operator of another library": (OnTensor, OfAnotherLibrary, X, rows(1, 6)),
    "tied parameters": (OnTensor, Tied, (torch.randint(10, (3, 5)),), [(torch.randint(10, (3, 7)),)]),
    "hooks": (OnTensor, Hooked, X, rows(1, 6)),
    "a decorator": (OnTensor, Decorated, X, rows(1, 6)),
    "a parametrization": (OnInput, parametrized, X, rows(1, 6)),
    "weight norm": (OnInput, weight_normed, X, rows(1, 6)),
    "pruned": (OnInput, pruned, X, rows(1, 6)),
    "vmap": (OnTensor, PerRow, X, rows(2, 6)),
}
