"""What TorchScript leaves to Python without a word is refused; what says so itself is hosted."""

import functools
import io

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.supported import torch_version

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


@torch.library.custom_op("torchremote_owner_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return 2 * x


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


library = torch.library.Library("torchremote_owner_library", "DEF")
library.define("doubled(Tensor x) -> Tensor")
library.define("doubled.times(Tensor x, int times) -> Tensor")
library.impl("doubled", lambda x: 2 * x, "CPU")
fragment = torch.library.Library(
    "quantized", "FRAGMENT"
)  # as torchvision does with its own operators, which are in C++
fragment.impl("batch_norm1d", lambda *given: given[0], "AutocastCPU")
library.impl("doubled.times", lambda x, times: times * x, "CPU")


def times(factor: Tensor, x: Tensor) -> Tensor:
    return factor * x


partial = functools.partial(times, torch.tensor(2.0))


@functools.lru_cache
def cached(x: Tensor) -> Tensor:
    return 2 * x


def by_function(x: Tensor) -> Tensor:
    return Doubled.apply(x)


class Applied(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Doubled.apply(x)


class InABranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            if x.sum() > 0:
                x = Doubled.apply(x)
        return x


class InAFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return by_function(x)


class InAFork(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(by_function, x))


class Forked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(Doubled.apply, x))


class InAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = InABranch()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class ByPartial(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return partial(x)


class Cached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return cached(x)


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return doubled(x)


class Operator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.torchremote_owner_tests.doubled(x)


class OfALibrary(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while x.sum() < 9:
            x = torch.ops.torchremote_owner_library.doubled(x, 3)
        return x


OF_FUNCTIONS = [Applied, InABranch, InAFunction, InAFork, Forked, InAPart]
REFUSED = [ByPartial, Cached, Custom, Operator, OfALibrary]
COMPILES_FUNCTIONS = torch_version() >= (2, 15)  # torch tries to, and fails


@pytest.mark.parametrize("make", REFUSED + ([] if COMPILES_FUNCTIONS else OF_FUNCTIONS))
def test_python_is_refused_with_its_line(make):
    for given in (make(), make(), torch.jit.script(make())):
        with pytest.raises(CreationError, match=r"` runs Python, so each call would wait for the owner's GIL") as found:
            tr.serve(given, OnTensor, "never")
        assert names_its_line(str(found.value), __file__)


@pytest.mark.parametrize("make", OF_FUNCTIONS)
def test_a_function_of_autograd_is_refused_by_every_torch(make):
    with pytest.raises(CreationError):
        tr.serve(make(), OnTensor, "never")


def traced():
    return torch.jit.trace(Applied(), torch.ones(2))


def loaded():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Operator()), file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("make", [traced, loaded])
def test_python_in_other_scripted_modules_is_refused(make):
    with pytest.raises(CreationError, match=r"runs Python, so each call would wait"):
        tr.serve(make(), OnTensor, "never")


@torch.jit.ignore
def marked(x: Tensor) -> Tensor:
    return Doubled.apply(x)


class Marked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return marked(x) + self.own(x) + torch.jit.wait(torch.jit.fork(marked, x))

    @torch.jit.ignore
    def own(self, x: Tensor) -> Tensor:
        return doubled(x)


class OnlyInPython(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            return Doubled.apply(x)
        return 2 * x

    @torch.jit.unused
    def unused(self, x: Tensor) -> Tensor:
        return cached(x)


def quantized():
    torch.manual_seed(0)
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2)), {nn.Linear})


class OnInput:
    def forward(self, input: Tensor) -> Tensor: ...


@pytest.mark.parametrize("make", [Marked, OnlyInPython])
def test_what_is_marked_and_what_is_not_compiled_is_hosted(owner, make):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    stub, module = tr.create(owner, OnTensor, make), make()
    assert torch.equal(stub(x), module(x))


class Normed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        whole = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
        one = torch.ones(2)
        return torch.ops.quantized.batch_norm1d(whole, one, one, one, one, 1e-5, 0.1, 0).dequantize()


@pytest.mark.filterwarnings("ignore")
def test_an_operator_with_casts_in_python_is_hosted(owner):
    x = torch.ones(3, 2)
    assert torch.equal(tr.create(owner, OnTensor, Normed)(x), Normed()(x))


@pytest.mark.filterwarnings("ignore")  # torch warns that it is deprecated
def test_operators_in_cpp_of_other_libraries_are_hosted(owner):
    stub, module = tr.create(owner, OnInput, quantized), quantized()
    torch.testing.assert_close(stub(torch.ones(1, 2)), module(torch.ones(1, 2)))
