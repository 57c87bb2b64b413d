"""Exported modules give what the module gives itself, bit for bit, at shapes other than the examples'."""

import copy
import inspect

import pytest
import torch
from torch import Tensor

import torchremote as tr

from . import zoo
from .zoo import PETS, saved_and_loaded


def leaves(value):
    """All that a value is made of, in order."""
    if isinstance(value, dict):
        return [part for key, one in value.items() for part in (key, *leaves(one))]
    if isinstance(value, (list, tuple)):
        return [part for one in value for part in leaves(one)]
    return [value]


def same(one, other):
    pairs = list(zip(leaves(one), leaves(other), strict=True))
    return all(same_tensor(a, b) if isinstance(a, Tensor) else a == b and type(a) is type(b) for a, b in pairs)


def same_tensor(one, other):
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def pet(name, training=False):
    interface, make, examples, calls = PETS[name]
    torch.manual_seed(0)
    module = make().train(training)
    torch.manual_seed(0)
    return module, make().train(training), tr.exported(module, interface, {"forward": examples}), calls


def own(module, interface, call):
    """Returns what the module gives itself."""
    names = list(inspect.signature(interface.forward).parameters)[1:]
    return as_declared(module(**dict(zip(names, call, strict=False))))


def same_gradient(one, other, exactly):
    if one is None or other is None:
        return one is other
    # A sum is rounded by the size of what is added, and these are of numbers that cancel out.
    return torch.equal(one, other) if exactly else torch.allclose(one, other, atol=1e-6 * float(other.abs().max()))


def as_declared(result):
    if isinstance(result, zoo.Returned):
        return zoo.Outputs(result.logits, list(result.hidden), result.loss)
    return dict(result) if isinstance(result, dict) else result


@pytest.mark.parametrize("name", PETS)
def test_an_exported_module_gives_what_the_module_gives_also_when_it_was_saved(name):
    module, twin, exported, calls = pet(name)
    loaded = (
        saved_and_loaded(exported) if name != "nested values" else copy.deepcopy(twin)
    )  # torch loads no enum's name
    first = loaded(*calls[0])
    for number, call in enumerate([*calls, *calls]):  # TorchScript optimizes after the first calls
        wanted = own(twin, PETS[name][0], call)
        assert same(exported(*call), wanted)
        assert number or same(first, wanted)
    assert list(exported.state_dict()) == list(module.state_dict())
    for (key, kept), (_, wanted) in zip(exported.state_dict().items(), twin.state_dict().items(), strict=True):
        assert torch.equal(kept, wanted), key


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("name", ["kwargs", "grad modes", "conditions", "loops", "autocast", "tied parameters", "vmap"])
def test_gradients_are_those_of_the_module(name):
    module, twin, exported, calls = pet(name, training=True)
    exactly = name != "loops"  # torch has a backward of its own for these, which adds in another order
    if name == "loops" and torch.__version__ < "2.12":  # torch asks for itself whether tensors require gradients
        with pytest.raises(torch.jit.Error, match="that requires no gradient; came one that does"):
            exported(calls[0][0].clone().requires_grad_())
        return
    for call in [*calls, *calls]:
        given, kept = ([one.clone().requires_grad_(one.is_floating_point()) for one in call] for _ in range(2))
        for result in (exported(*given), own(twin, PETS[name][0], kept)):
            (result * torch.arange(result.numel()).view_as(result)).sum().backward()
        for one, other in zip(given, kept, strict=True):
            assert same_gradient(one.grad, other.grad, exactly)
        for one, other in zip(module.parameters(), twin.parameters(), strict=True):
            assert same_gradient(one.grad, other.grad, exactly)


@pytest.mark.parametrize("grads", [False, True])
def test_dropout_batch_norm_and_random_operators_in_training_mode(grads):
    module = zoo.Normed().train()
    twin = copy.deepcopy(module)
    exported = tr.exported(module, zoo.OnTensor, {"forward": zoo.X})
    for size in (2, 6, 6, 6):
        x = torch.randn(size, 4, requires_grad=grads)
        results = []
        for run in (exported, twin):
            torch.manual_seed(1)
            results.append(run(x))
        assert same(*results)
    assert same(dict(exported.named_buffers()), dict(twin.named_buffers()))


def test_several_methods_share_one_set_of_parameters():
    module = zoo.Encoding()
    examples = {"encode": zoo.X, "decode": {"x": zoo.X[0], "times": 3}}
    exported = tr.exported(module, zoo.Several, examples)
    x = torch.randn(7, 4)
    assert same(exported.encode(x), module.encode(x))
    assert same(exported.decode(x, times=3), module.decode(x, times=3))
    assert exported.linear.weight is module.linear.weight or torch.equal(exported.linear.weight, module.linear.weight)
    with torch.no_grad():
        module.linear.weight.zero_()
    assert not exported.encode(x).sub(module.linear.bias.relu()).any()


def test_a_module_that_was_compiled_is_exported_as_its_original():
    module = torch.compile(zoo.Kwargs())
    exported = tr.exported(module, zoo.OnTwo, {"forward": zoo.X})
    assert list(exported.state_dict()) == ["linear.weight", "linear.bias"]
