"""What torch.export does not take is refused with what to write, and that can be exported."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .test_numbers import Computing, OfTensor, WithNumber
from .zoo import OnTensor

X = torch.randn(4, 3)
LAYER = nn.Linear(3, 3)
TARGETS = torch.tensor([[1, 2], [1, 1]]), torch.tensor([4, 4]), torch.tensor([2, 2])


def normal(x, **options):
    return torch.distributions.Normal(x, x.exp(), **options).rsample()


def covariance(x):
    y = x - x.mean(1, True)
    return y @ y.mT / (x.shape[1] - 1)


def correlation(x):
    y = F.normalize(x - x.mean(1, True))
    return y @ y.mT


def loss(x):
    return (0.5 * (x.exp().log() + (x - x * 2) ** 2 / x.exp())).mean()


ON_TENSORS = {
    "validate_args=False": (  # torch's default is another one after some exports
        lambda x: normal(x, validate_args=True),
        lambda x: normal(x, validate_args=False),
    ),
    "x.shape[1] - 1": (torch.cov, covariance),
    "for torch.corrcoef(x)": (torch.corrcoef, correlation),
    "torch.linalg.pinv(a) @ b": (
        lambda x: torch.linalg.lstsq(x, x[:, :1] * 2)[0],
        lambda x: torch.linalg.pinv(x) @ (x[:, :1] * 2),
    ),
    "the number of classes": (lambda x: F.one_hot(x.abs().long()), lambda x: F.one_hot(x.abs().long(), 9)[..., :0] + 1),
    "for gaussian_nll_loss": (lambda x: F.gaussian_nll_loss(x, x * 2, x.exp()), loss),
    "logarithms of the probabilities": (
        lambda x: F.ctc_loss(x[:, None].expand(-1, 2, -1).log_softmax(-1), *TARGETS),
        lambda x: x[:, None].expand(-1, 2, -1).log_softmax(-1),
    ),
}
ON_INTEGERS = {
    "write (a | b) - (a & b)": (lambda n, k: (n ^ 6) + (k ^ 6), lambda n, k: (n | 6) - (n & 6) + (k | 6) - (k & 6)),
    "write -k - 1": (lambda n, k: ~k, lambda n, k: -k - 1),
    "write k // n and k % n": (lambda n, k: sum(divmod(k, 4)), lambda n, k: k // 4 + k % 4),
}


def refused(module, interface, example):
    with pytest.raises(CreationError) as found:
        tr.exported(module, interface, {"forward": example})
    return str(found.value)


@pytest.mark.parametrize("remedy", ON_TENSORS)
def test_what_to_write_for_an_operator(remedy):
    do, instead = ON_TENSORS[remedy]
    assert remedy in refused(OfTensor(do), OnTensor, (X,))
    exported = tr.exported(OfTensor(instead), OnTensor, {"forward": (X,)})
    torch.manual_seed(0)
    given = exported(X)
    torch.manual_seed(0)
    assert torch.equal(given, instead(X))
    if given.shape == do(X).shape:
        torch.manual_seed(0)
        torch.testing.assert_close(given, do(X))


@pytest.mark.parametrize("remedy", ON_INTEGERS)
def test_what_to_write_for_integers(remedy):
    do, instead = ON_INTEGERS[remedy]
    assert remedy in refused(Computing(do), WithNumber, (X, 5))
    exported = tr.exported(Computing(instead), WithNumber, {"forward": (X, 5)})
    for k in (0, 1, 7, -3):
        assert torch.equal(exported(X, k), X * do(4, k))


@pytest.mark.parametrize(
    "do",
    [
        lambda x: vmap(grad(lambda row: LAYER(row).sum()))(x),
        lambda x: grad(lambda x: LAYER(x).sum())(x),
        lambda x: jacrev(lambda x: (x**2).sum(0))(x),
    ],
)
def test_a_transform_that_torch_cannot_take_apart(do):
    assert "Write the derivative in operators" in refused(OfTensor(do), OnTensor, (X,))


class Quantized(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear})

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


@pytest.mark.filterwarnings("ignore")  # torch deprecates it
def test_quantized_parts_are_hosted_without_examples():
    module = Quantized().eval()
    for one in (module, OfTensor(lambda x: module(x))):
        assert "without examples=" in refused(one, OnTensor, (X,))
    hosted = scripted_module(module, compile_interface(OnTensor).interface)
    assert torch.equal(hosted(X), module(X))


FIXED = {
    "fake_quantize_per_tensor_affine": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
    "fake_quantize_per_channel_affine": lambda x: torch.fake_quantize_per_channel_affine(
        x, torch.ones(3), torch.zeros(3, dtype=torch.int32), 1, -128, 127
    ),
    "histogram": lambda x: torch.histogram(x, 4, range=(-1.0, 1.0))[0],
    "to_sparse": lambda x: torch.sparse.mm(x.t().to_sparse(), x),
    "dequantize": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize(),
    "geqrf": lambda x: torch.geqrf(x)[0],
    "Beta": lambda x: torch.distributions.Beta(x.exp(), x.exp(), validate_args=False).rsample(),
}


@pytest.mark.parametrize("name", FIXED)
def test_an_operator_without_sizes_in_torch_fixes_those_of_the_example(name):
    do = FIXED[name]
    exported = tr.exported(OfTensor(do), OnTensor, {"forward": (X,)})
    for _ in range(3):
        results, gradients = [], []
        for one in (exported, do):
            x = (X * 2).requires_grad_(name.startswith("fake"))
            torch.manual_seed(0)
            results.append(one(x))
            if x.requires_grad:
                results[-1].sum().backward()
                gradients.append(x.grad)
        assert torch.equal(*results)
        assert not gradients or torch.equal(*gradients)
    with pytest.raises(torch.jit.Error, match=r"exported for float32 \[4, 3\]; came float32 \[5, 3\]"):
        exported(torch.ones(5, 3))
