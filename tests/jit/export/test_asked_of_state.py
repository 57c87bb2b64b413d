"""What a method asks of its own parameters and buffers: whether they require a gradient, and for the gradient."""

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError

from .zoo import OnTensor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(3, 4)


class Asking(nn.Module):
    def __init__(self, ask):
        super().__init__()
        self.ask = ask
        self.w, self.linear = nn.Parameter(torch.full((4,), 5.0)), nn.Linear(4, 4)
        self.tied = self.w
        self.register_buffer("seen", torch.ones(4))

    def forward(self, x):
        return x * self.w if self.ask(self, x) else x * 3


def exported(ask, grad=False):
    module = Asking(ask)
    return module, tr.exported(module, OnTensor, {"forward": (X.clone().requires_grad_(grad),)})


def same(module, scripted, x=X):
    return torch.equal(module(x), scripted(x))


ASKS_OF_W = [
    lambda self, x: self.w.requires_grad,
    lambda self, x: self.tied.requires_grad,
    lambda self, x: any(parameter.requires_grad for parameter in self.parameters()),
    lambda self, x: (x * self.w).requires_grad,
    lambda self, x: (x * self.w).grad_fn is not None,
    lambda self, x: not (x * self.w).is_leaf,
]


@pytest.mark.parametrize("ask", ASKS_OF_W)
def test_a_parameter_that_was_asked_and_is_frozen_since(ask):
    module, scripted = exported(ask)
    assert same(module, scripted)
    module.requires_grad_(False)
    with pytest.raises(torch.jit.Error) as raised:
        scripted(X)
    assert (
        "self.w: exported for a tensor that requires a gradient; came one that does not; set requires_grad as it was, "
        "or export the module as it is now" in str(raised.value)
    )
    module.requires_grad_()
    assert same(module, scripted)
    module.requires_grad_(False)
    assert same(module, tr.exported(module, OnTensor, {"forward": (X,)}))


def test_a_parameter_that_was_frozen_and_is_not_since():
    module = Asking(ASKS_OF_W[0]).requires_grad_(False)
    scripted = tr.exported(module, OnTensor, {"forward": (X,)})
    assert same(module, scripted)
    module.requires_grad_()
    with pytest.raises(torch.jit.Error, match="self.w: exported for a tensor that requires no gradient; came one that"):
        scripted(X)


def test_a_buffer_that_was_asked():
    module, scripted = exported(lambda self, x: self.seen.requires_grad)
    assert same(module, scripted)
    module.seen.requires_grad_()
    with pytest.raises(torch.jit.Error, match="self.seen: exported for a tensor that requires no gradient"):
        scripted(X)


def test_a_computed_tensor_requires_none_without_gradients():
    module, scripted = exported(ASKS_OF_W[3])
    module.requires_grad_(False)
    with torch.no_grad():
        assert same(module, scripted)


@pytest.mark.parametrize(
    "ask",
    [
        lambda self, x: True,
        lambda self, x: self.w.is_leaf,
        lambda self, x: self.linear.weight.requires_grad or True,
        lambda self, x: self.w.dtype == torch.float32,
    ],
)
def test_what_was_not_asked_may_change(ask):
    module, scripted = exported(ask)
    module.w.requires_grad_(False)
    assert same(module, scripted)


class Attending(nn.Module):
    """torch's own modules ask their parameters, and choose a faster way."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2)
        self.recurrent = nn.GRU(4, 4, batch_first=True)

    def forward(self, x):
        return self.recurrent(self.encoder(self.attention(x, x, x)[0]))[0]


def test_modules_of_torch_may_be_frozen():
    torch.manual_seed(0)
    module, x = Attending().eval(), torch.randn(2, 3, 4)
    scripted = tr.exported(module, OnTensor, {"forward": (x,)})
    for requires_grad in (True, False, True):
        module.requires_grad_(requires_grad)
        assert torch.allclose(module(x), scripted(x), atol=1e-6)
        with torch.no_grad():
            assert torch.allclose(module(x), scripted(x), atol=1e-6)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda self, x: self.w.grad is None, "looks at the gradient of self.w, which a graph does not have"),
        (lambda self, x: self.w.requires_grad_(False) is None, "changes whether self.w requires a gradient, which an"),
        (lambda self, x: setattr(self.w, "requires_grad", False), "changes whether self.w requires a gradient"),
        (lambda self, x: self.linear.requires_grad_(False), "changes whether self.linear.weight requires a gradient"),
    ],
)
def test_what_a_graph_would_lose_is_refused(ask, said):
    with pytest.raises(CreationError, match=said):
        exported(ask)


def test_a_parameter_may_be_set_as_it_is():
    module, scripted = exported(lambda self, x: self.w.requires_grad_() is self.w)
    assert same(module, scripted)
