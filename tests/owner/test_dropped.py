"""What scripting would drop, or get wrong, without a word is refused; what it can be given otherwise is hosted."""

import functools
import warnings
from typing import Final

import pytest
import torch
from torch import Tensor, nn

from torchremote.errors import CreationError, MismatchError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 3)


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class OnInput:
    def forward(self, input: Tensor) -> Tensor: ...


def hosted(module, interface=OnTensor):
    return scripted_module(module, compile_interface(interface).interface)


def doubled(function):
    @functools.wraps(function)
    def twice(*args):
        return function(*args) * 2

    return twice


@doubled
def halved(x: Tensor) -> Tensor:
    return x / 2


def through(x: Tensor) -> Tensor:
    return halved(x)


class CallsADecorated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return through(x)


class WithClassMethods(nn.Module):
    """Calls helpers that belong to the class."""

    k = 3
    n: Final[int] = 3

    def __init__(self):
        super().__init__()
        self.k = 3

    @classmethod
    def scaled(cls, x: Tensor) -> Tensor:
        return cls.shifted(x) * cls.k * cls.n

    @classmethod
    def shifted(cls, x: Tensor) -> Tensor:
        return cls.negated(x) + 1

    @staticmethod
    def negated(x: Tensor) -> Tensor:
        return -x

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x) + self.negated(x)


class WithAnotherValue(WithClassMethods):
    def __init__(self):
        super().__init__()
        self.k = 10


class DecoratedClassMethod(WithClassMethods):
    @classmethod
    @doubled
    def shifted(cls, x: Tensor) -> Tensor:
        return x


class DecoratedStaticMethod(WithClassMethods):
    @staticmethod
    @doubled
    def negated(x: Tensor) -> Tensor:
        return x


def test_class_and_static_methods_are_hosted_and_right():
    assert torch.equal(hosted(WithClassMethods())(X * 5), WithClassMethods()(X * 5))


def test_a_class_method_that_would_read_another_value_is_refused():
    assert not torch.equal(torch.jit.script(WithAnotherValue())(X * 5), WithAnotherValue()(X * 5))  # the reason
    with pytest.raises(
        CreationError, match=r"WithClassMethods.scaled is a class method and reads cls.k, which is 3 of"
    ):
        hosted(WithAnotherValue())


@pytest.mark.parametrize("make", [DecoratedClassMethod, DecoratedStaticMethod])
def test_a_decorator_inside_of_one_is_still_seen(make):
    with pytest.raises(CreationError, match="is wrapped by a decorator, which TorchScript drops"):
        hosted(make())


class WithoutGradients(nn.Module):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return x


class Holder(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class Empty(Holder):
    def __len__(self):
        return 0


class HelperIsDecorated(nn.Module):
    @doubled
    def helper(self, x: Tensor) -> Tensor:
        return x

    @doubled
    def unused(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.helper(x)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (CallsADecorated, "halved is wrapped by a decorator, which TorchScript drops"),
        (WithoutGradients, "WithoutGradients.forward is wrapped by a decorator"),
        (lambda: Holder(WithoutGradients()), "WithoutGradients.forward is wrapped by a decorator"),
        (HelperIsDecorated, "HelperIsDecorated.helper is wrapped by a decorator"),
    ],
)
def test_a_decorator_is_not_dropped(make, said):
    for _ in range(2):
        with pytest.raises(CreationError, match=said) as raised:
            hosted(make())
        assert "give examples= of its arguments" in str(raised.value)


def hooked(register, part=False):
    module = Holder(nn.Identity())
    getattr(module.part if part else module, register)(lambda *ignored: None)
    return module


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (hooked("register_forward_hook"), "Holder has a forward hook, which a remote call"),
        (hooked("register_forward_pre_hook"), "Holder has a forward pre-hook, which a remote call"),
        (hooked("register_full_backward_hook"), "Holder has a backward hook, which runs in Python"),
        (hooked("register_full_backward_pre_hook", part=True), "Holder's part part has a backward hook"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "ParametrizedLinear is parametrized"),
        (Holder(nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))), "Holder's part part is parametrized"),
    ],
)
def test_hooks_and_parametrizations_are_not_dropped(module, said):
    with pytest.raises(CreationError, match=said):
        hosted(module)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_the_old_norms_say_what_to_do(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Holder(norm(nn.Linear(3, 3)))
    with pytest.raises(
        CreationError, match="Holder's part part has a forward pre-hook of class .*Norm.*remove_weight_norm"
    ):
        hosted(module)


def times_ten(self, input: tuple[Tensor], result: Tensor) -> Tensor:
    return result * 10


def test_a_hook_of_a_part_runs():
    module = Holder(nn.Identity())
    module.part.register_forward_hook(times_ten)
    assert torch.equal(hosted(module)(X), X * 10)


def test_a_scripted_module_with_hooks_is_refused():
    module = nn.Identity()
    module.register_forward_hook(times_ten)
    with pytest.raises(CreationError, match="has a forward hook"):
        hosted(torch.jit.script(module), OnInput)


class Prepares(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return torch.from_numpy(input.numpy())

    def __prepare_scriptable__(self):
        return nn.Hardtanh()


class PreparesNothing(nn.Module):
    def __prepare_scriptable__(self):
        return None


def test_a_module_and_its_parts_prepare_themselves():
    assert torch.equal(hosted(Prepares(), OnInput)(X * 5), X)
    part = Prepares()
    module = Holder(Holder(part))
    assert torch.equal(hosted(module)(X * 5), X)
    assert module.part.part is part  # the user's own module is as it was
    assert torch.equal(hosted(Holder(Empty(part)))(X * 5), X)
    with pytest.raises(MismatchError, match="__prepare_scriptable__ returns None, which is no module"):
        hosted(PreparesNothing())


class PreparesOneWithParts(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, input: Tensor) -> Tensor:
        return torch.from_numpy(input.numpy())

    def __prepare_scriptable__(self):
        return nn.Sequential(nn.Embedding(self.rows, 2, max_norm=1.0))  # which is hosted as another one, and freed


class Rows(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.parts = nn.ModuleList(map(PreparesOneWithParts, sizes))

    def forward(self, x: Tensor) -> Tensor:
        index, results = torch.arange(1), [torch.zeros(1, 2)]
        for part in self.parts:
            results.append(part(index))
        return torch.cat(results)


def test_parts_that_are_freed_meanwhile_are_not_taken_for_others():
    sizes = list(range(2, 34))
    scripted = hosted(Rows(sizes))
    assert [parameter.shape[0] for parameter in scripted.parameters()] == sizes


class PreparesAnAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.prepared = [nn.Sequential(nn.Embedding(3, 2, max_norm=1.0))]

    def __prepare_scriptable__(self):
        return self.prepared[0]


def test_what_a_module_prepares_stays_as_it_was():
    module = PreparesAnAttribute()
    inner = module.prepared[0][0]
    hosted(module, OnInput)
    assert module.prepared[0][0] is inner


def test_a_compiled_module_is_hosted_as_its_original():
    linear = nn.Linear(3, 3)
    scripted = hosted(torch.compile(linear), OnInput)
    assert torch.equal(scripted(X), linear(X))
    assert list(scripted.state_dict()) == ["weight", "bias"]


class Sequences:
    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...


class OfTwo:
    def forward(self, input: Tensor, hx: Tensor) -> Tensor: ...


def test_a_forward_with_overloads_is_hosted_or_shows_them():
    lstm = nn.LSTM(3, 4)
    assert torch.equal(hosted(lstm, Sequences)(X, None)[0], lstm(X)[0])
    with pytest.raises(MismatchError, match="LSTM has overloads of it, and none is"):
        hosted(lstm, OfTwo)


class Unscriptable(nn.Module):
    def forward(self, x: Tensor, **options) -> Tensor:
        return x


def test_a_second_try_gives_the_first_ones_reason():
    said = []
    for _ in range(3):
        with pytest.raises(CreationError, match="variable number of arguments") as raised:
            hosted(Holder(Unscriptable()))
        said.append(str(raised.value))
    assert said[0] == said[1] == said[2]
    assert "what to do: write each of these as an ordinary argument" in said[0]
    assert "; or give examples= of its arguments" in said[0]
