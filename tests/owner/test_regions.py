"""What a method computes inside and outside of `with torch.no_grad():` has gradients where it has them in Python."""

import io

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.nn import functional as F

import torchremote as tr
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

CALLS = 4  # torch optimizes a graph in the first ones


@tr.remote_scriptable
class OnTensor:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm, self.out = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.weight, self.bias = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.zeros(4))


class RegionFirst(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.layer(x)
        return self.layer(x) * z


class RegionSecond(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        with torch.no_grad():
            z = self.layer(x)
        return y * z


class Pseudo(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.layer(x).argmax(-1)
        return F.cross_entropy(self.out(self.layer(x)), target, reduction="none")


class Views(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.weight.view(-1)[:].view(4, 4).t()
        return x @ self.weight.view(-1)[:].view(4, 4).t() * z.sum() + (x @ self.weight.t())


class Replaced(Base):
    """torch puts other operators in the place of these, or their arguments."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.addmm(self.bias, x, self.weight) + self.norm(x) + self.weight.t().t().sum() + (self.bias + 0)
        return z * (torch.addmm(self.bias, x, self.weight) + self.norm(x) + self.weight.t().t().sum() + (self.bias + 0))


class Itself(Base):
    """What these operators give may be what they were given, which has its gradient in a region, too."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            a, b = self.weight, self.weight.contiguous()
            c, d = self.weight.to(torch.float32), F.dropout(self.weight, 0.5, False)
            e = self.weight.to(torch.float64).to(torch.float32)
        return x @ (a * b * c * d * e * self.weight.to(torch.float64).to(torch.float32))


class Lists(Base):
    def forward(self, x: Tensor) -> Tensor:
        tensors = [self.weight]
        tensors.append(x)
        with torch.no_grad():
            z = torch.cat(tensors) + torch.stack([self.bias, self.bias]).sum()
        return (torch.cat(tensors) + torch.stack([self.bias, self.bias]).sum()) * z


class InBlocks(Base):
    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(4)
        for i in range(3):
            with torch.no_grad():
                z = self.layer(x)
                if bool(x.sum() > -1000):
                    z = z + torch.relu(self.weight).sum()
                    for _ in range(2):
                        z = z + self.bias.sigmoid()
                with torch.no_grad():
                    z = z + self.bias.tanh()
            if i > 0:
                total = total + self.layer(x) * z + self.bias.sigmoid() + self.bias.tanh()
        return total + torch.relu(self.weight).sum()


def without(layer_weight: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.sigmoid(x @ layer_weight)


def within(layer_weight: Tensor, x: Tensor) -> Tensor:
    return torch.sigmoid(x @ layer_weight)


class Functions(Base):
    def forward(self, x: Tensor) -> Tensor:
        z = without(self.weight, x)
        y = torch.sigmoid(x @ self.weight)
        with torch.no_grad():
            z = z + within(self.weight, x)
        return y * z + within(self.weight, x)


class Forked(Base):
    def forward(self, x: Tensor) -> Tensor:
        pending = torch.jit.fork(self.of, x)
        with torch.no_grad():
            other = torch.jit.fork(within, self.weight, x)
        return pending.wait() * within(self.weight, x) * other.wait()

    def of(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        with torch.no_grad():
            z = self.layer(x)
        return y * z


@torch.jit.interface
class Part(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class Behind(Base):
    part: Part

    def __init__(self):
        super().__init__()
        self.part = RegionSecond()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.part.forward(x)
        return self.part.forward(x) * z


class Early(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        with torch.no_grad():
            return y * self.layer(x)


class Asking(Base):
    def forward(self, x: Tensor) -> Tensor:
        before = torch.is_grad_enabled()
        with torch.no_grad():
            z = self.layer(x) if torch.is_grad_enabled() else self.layer(x) * 2
            asked = z.requires_grad or not self.weight.requires_grad or torch.is_grad_enabled()
        y = self.layer(x) * z
        return y if before and torch.is_grad_enabled() and not asked and y.requires_grad else y * 3


class Average(Base):
    """Changes a parameter and a buffer in place, also through views."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.layer(x)
            self.mean.mul_(0.9).add_(y.mean(0), alpha=0.1)
            self.out.weight.mul_(0.5).add_(self.weight.t(), alpha=0.5)
            self.out.weight[0].copy_(self.bias)
            self.out.bias.view(-1).add_(self.mean)
        return self.out(self.layer(x)) * self.mean


class Autocast(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            z = self.layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.layer(x)
        return (y * z).float()


class Norms(Base):
    def __init__(self):
        super().__init__()
        self.batch, self.drop, self.attention = nn.BatchNorm1d(4), nn.Dropout(0.0), nn.MultiheadAttention(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.drop(self.batch(x)) + self.attention(x, x, x)[0] + F.gelu(self.bias).softmax(0)
        return (self.drop(self.batch(x)) + self.attention(x, x, x)[0] + F.gelu(self.bias).softmax(0)) * z


class Result(Base):
    """Hands a result of a region out, and sets that it has a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.layer(x).requires_grad_()
        return z * self.layer(x).detach()


EVERY = Base.__subclasses__()  # so far


def calls_of(module, run, shape=(5, 4)):
    """Returns what each call gives, whether it requires a gradient, and the gradients of all parameters and of x."""
    found = []
    for k in range(CALLS):
        x = (torch.arange(20.0).reshape(shape) / 20 + k).requires_grad_()
        module.zero_grad(set_to_none=True)
        y = run(x)
        if y.requires_grad:
            y.sum().backward()
        grads = {name: parameter.grad for name, parameter in module.named_parameters()}
        found.append((y.detach(), y.requires_grad, {**grads, "x": x.grad}, dict(module.named_buffers())))
    return found


def assert_alike(one, other):
    for (value, requires, grads, buffers), (wanted, required, wanted_grads, wanted_buffers) in zip(
        one, other, strict=True
    ):
        assert requires == required
        torch.testing.assert_close(value, wanted)
        torch.testing.assert_close(buffers, wanted_buffers)
        assert grads.keys() == wanted_grads.keys()
        for name, grad in wanted_grads.items():
            assert (grads[name] is None) == (grad is None), name
            if grad is not None:
                torch.testing.assert_close(grads[name], grad, msg=name)


@pytest.mark.parametrize("make", EVERY)
def test_gradients_are_those_of_python(make):
    scripted, module = scripted_module(make(), compile_interface(OnTensor).interface), make()
    assert_alike(calls_of(scripted, scripted), calls_of(module, module))


@pytest.mark.parametrize("make", [RegionFirst, Pseudo, Lists, Replaced, Views])
def test_torch_alone_has_others(make):
    scripted, module = torch.jit.script(make()), make()  # the reason
    with pytest.raises(AssertionError):
        assert_alike(calls_of(scripted, scripted), calls_of(module, module))


def loaded(module):
    file = io.BytesIO()
    torch.jit.save(module, file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("make", [Functions, InBlocks, Forked, Replaced])
@pytest.mark.parametrize("read", [lambda module: module, loaded], ids=["scripted", "loaded"])
def test_a_module_that_was_scripted_before(make, read):
    class Own(make):
        """Has a type of its own, which was not hosted yet."""

    Own.__module__, Own.__qualname__ = __name__, f"Own{make.__name__}"
    interface = compile_interface(OnTensor).interface
    scripted, module = scripted_module(read(torch.jit.script(Own())), interface), make()
    assert_alike(calls_of(scripted, scripted), calls_of(module, module))
    again = loaded(scripted_module(make(), interface))  # it was hosted, and saved
    assert_alike(calls_of(scripted_module(again, interface), again), calls_of(module := make(), module))


class Outside(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = RegionFirst()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


def test_a_part_that_was_called_alone_before():
    elsewhere = torch.jit.script(Holder())
    for _ in range(CALLS):
        elsewhere(torch.ones(5, 4))
    scripted = scripted_module(Holder(), compile_interface(OnTensor).interface)
    assert_alike(calls_of(scripted, scripted), calls_of(module := Holder(), module))


def test_graphs_are_changed_once_and_others_stay():
    interface = compile_interface(OnTensor).interface
    texts = {str(scripted_module(InBlocks(), interface).graph) for _ in range(3)}
    assert len(texts) == 1
    assert "prim::CallMethod" in str(scripted_module(Outside(), interface).graph)


def gradients(context, parameters):
    found = dist_autograd.get_gradients(context)
    return [found.get(parameter.to_here()) for parameter in parameters]


@pytest.mark.parametrize("make", [RegionFirst, Pseudo, Forked])
@pytest.mark.parametrize("options", [{}, {"in_turn": True}, {"gather": 8}], ids=["at once", "in turn", "gathered"])
def test_calls_of_an_owner(owner, make, options):
    stub, module = tr.create(owner, OnTensor, make, **options), make()
    parameters = tr.at_owner(stub).parameters()
    x = torch.arange(20.0).reshape(5, 4)
    ways = [lambda: stub(x), lambda: stub.forward_async(x).wait(), lambda: stub.forward_many([(x,), (x,)])[1]]
    for run in ways * 2:
        with dist_autograd.context() as context:
            y = run()
            dist_autograd.backward(context, [y.sum()])
            found = rpc.rpc_sync(owner, gradients, (context, parameters))
        module.zero_grad()
        wanted = module(x)
        wanted.sum().backward()
        torch.testing.assert_close(y.detach(), wanted.detach())
        for grad, parameter in zip(found, module.parameters(), strict=True):
            assert (grad is None) == (parameter.grad is None)
            if grad is not None:
                torch.testing.assert_close(grad, parameter.grad)
