"""What the search takes for a tensor of floats is one, whatever the arguments are; what may be of integers is not."""

import importlib.util
from typing import Dict  # noqa: F401

import pytest
import torch
from torch import Tensor, nn

from torchremote.owner.checks.kinds import kinds_of
from torchremote.owner.checks.kinds_of_values import FLOATS, TENSOR
from torchremote.owner.checks.scripted_code import code_of


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        if y.sum() > 0:
            return y * 2
        return torch.relu(y)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.conv, self.norm = nn.Linear(4, 4), nn.Conv2d(1, 1, 1), nn.LayerNorm(4)
        self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.embedding, self.halves = nn.Embedding(5, 4), Halves()
        self.w = nn.Parameter(torch.ones(4))
        self.register_buffer("kept", torch.ones(4))


OF_FLOATS = """
self.linear(x)
self.net(x)
self.halves(x)
self.embedding(x.long())
self.w * x
(self.w * x).view(-1)
self.linear(x)[..., None]
self.linear(x).detach().clone().unsqueeze(0)
x @ self.linear.weight.T
x.sin()
x.float().max() * 0.5
x / 3
(x * 0.5).abs()
x.to(torch.float32)
x.to(self.w)
x.to(self.w.dtype)
x.type_as(self.w)
x.new_zeros(4, dtype=torch.float32)
torch.zeros(4)
torch.zeros_like(self.w)
torch.full((4,), 0.5)
torch.tensor([0.5, 1.0]).sum()
torch.arange(4.0)
torch.rand(4)
torch.mean(x, 0)
torch.where(x > 0, self.w, x)
torch.where(x > 0, x, 0.5)
torch.cat([x, self.w])
torch.stack([self.w, x], dim=0)
torch.einsum("ij,j->i", self.linear.weight, x)
F.linear(x, self.w)
F.softmax(x, -1)
F.relu(self.norm(x))
F.max_pool2d(self.conv(x[None, None, None]), 1)
F.interpolate(self.conv(x[None, None, None]), scale_factor=2.0)
""".split("\n")[1:-1]
OTHERS = """
x
x.long()
x.int()
x.to(x.dtype)
x.to("cpu")
x.view(-1)
x.view(torch.int32)
x.masked_fill(x > 0, 0.5)
x.argmax()
x.double().to(torch.int64)
x.add_(0)
(x > 0).sum()
torch.arange(3)
torch.zeros(4, dtype=torch.int64)
torch.cat([x, x])
torch.full((3,), 2)
torch.tensor([1, 2])
torch.ones_like(x)
torch.relu(x)
torch.div(x, 2, rounding_mode="floor")
torch.floor_divide(x, 2)
torch.zeros_like(self.w, dtype=torch.int64)
torch.max(self.w, 0)[1]
torch.sort(self.w)[1]
torch.where(self.w > 0)[0]
torch.bucketize(self.w, self.w)
self.w.topk(1)[1]
self.w.argsort()
self.w.nonzero()
self.kept.sum(dtype=torch.int64)
self.w.unique().type(torch.int64)
F.max_pool2d(self.w[None, None], 1, return_indices=True)[1]
F.relu(x)
""".split("\n")[1:-1]

NAMES_OF_FLOATS = [
    "for block in self.blocks:\n    x = block(x)\ny = x",
    "y = x.view(-1)\ny = self.linear(y)",
    "y = self.linear(x)\nfor i in range(3):\n    y = y + y * i",
    "if x.dim() == 1:\n    x = self.linear(x)\nelse:\n    x = torch.relu(self.w)\ny = x",
    "if x.dim() == 2:\n    return x\nelse:\n    x = x.float()\ny = x",
    "y = torch.zeros(4)\ny += x",
    "z, y = x, x.exp()",
    "y = x.float() if x.dim() == 1 else self.w",
    "rows = [row.sum() for row in self.linear.weight]\ny = torch.stack([self.w.sum()])",
    "for y in self.w:\n    return y\ny = self.w",
]
NAMES_OF_OTHERS = [
    "y = x.float()\ny = x",
    "y = x.float()\nfor i in range(3):\n    y = x",
    "y = x.float()\nfor i in range(3):\n    if i == 1:\n        y = x\n        break\n    y = x.float()",
    "y = x.float()\nfor i in range(3):\n    y = -y\n    if i == 2:\n        y = x\n        continue\n    y = y + 1",
    "a = self.w\nb = self.w\ny = self.w\nfor i in range(3):\n    y = b\n    b = a\n    a = x",
    "y, z = (x.float(), x) if x.dim() == 2 else (x, x.float())",
    "z = x.float()\ny = z.float()\nz, y = z.max(0)",
    "self.kept = x\ny = self.kept",
    "y = self.w\nfor block in self.blocks[2:]:\n    y = block(y)\nelse:\n    y = x\ny = x.view(-1)",
    "y = x\nfor block in self.blocks[2:]:\n    y = block(y)",
    "y = self.w\nfor y in x:\n    y = y + 1\ny = y",
    "y = x.float()\nif x.dim() == 1:\n    y = x",
]


def read(body, path):
    """Returns the module of a class whose forward has some code, and the kind of what it returns."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    file = path / "source.py"
    file.write_text(
        f"import torch\nimport torch.nn.functional as F\nfrom torch import Tensor\nfrom {__name__} import Parts\n\n\n"
        f"class Read(Parts):\n    def forward(self, x: Tensor) -> Tensor:\n{lines}"
    )
    spec = importlib.util.spec_from_file_location("source_of_kinds", file)
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    module = source.Read()
    return module, kind_of_result(module)


def kind_of_result(module):
    found = kinds_of(code_of(module, ["forward"]))
    kinds = next(one for one in found if one.code.function is type(module).forward)
    return kinds.kind(kinds.code.source.body[-1].value)


def dtypes(module):
    """Yields the dtypes of the results for arguments of several."""
    for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8):
        try:
            found = module(torch.tensor([1, 2, 3, 0], dtype=dtype))
        except (RuntimeError, IndexError, TypeError):
            continue  # as a linear layer of integers
        if isinstance(found, Tensor):
            yield found.dtype


@pytest.mark.parametrize(
    "body", [*(f"return {one}" for one in OF_FLOATS), *(f"{one}\nreturn y" for one in NAMES_OF_FLOATS)]
)
def test_a_tensor_of_floats_is_known(body, tmp_path):
    module, kind = read(body, tmp_path)
    found = list(dtypes(module))
    assert found
    assert all(one.is_floating_point for one in found)
    assert kind == FLOATS


@pytest.mark.parametrize(
    "body", [*(f"return {one}" for one in OTHERS), *(f"{one}\nreturn y" for one in NAMES_OF_OTHERS)]
)
def test_what_may_be_a_tensor_of_integers_is_not_taken_for_one(body, tmp_path):
    module, kind = read(body, tmp_path)
    assert not all(one.is_floating_point for one in dtypes(module))
    assert kind != FLOATS


class Quoted(nn.Module):
    def forward(self, items: "dict[str, 'Tensor']"):
        return items["a"]


class Commented(nn.Module):
    def forward(self, items):
        # type: (Dict[str, Tensor]) -> Tensor
        return items["a"]


@pytest.mark.parametrize("make", [Quoted, Commented])
def test_an_annotation_means_the_same_with_quotes(make):
    assert kind_of_result(make()) == TENSOR
