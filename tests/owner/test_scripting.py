"""Modules that TorchScript refuses: the reason is the same each time, and nothing of a try is left."""

from collections.abc import Sequence
from typing import Annotated, Dict, List, NewType, Optional, Union

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import TypeAliasType

import torchremote as tr
from torchremote.errors import CreationError


class Forward:
    def forward(self, x: Tensor) -> Tensor: ...


class Unscriptable(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(next(self.linear.parameters()).device)


class Around(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class Half(nn.Module):
    """Its `forward` compiles, and `other` does not."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def helper(self, x: Tensor) -> Tensor:
        return x.to(next(iter([x])).device)

    def other(self, x: Tensor) -> Tensor:
        return self.helper(x)


class CallsOther(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Half()

    def forward(self, x: Tensor) -> Tensor:
        return self.part.other(self.part(x))


class CallsHelper(Half):
    def forward(self, x: Tensor) -> Tensor:
        return self.helper(x)


class Either(nn.Module):
    """The same class with two types, of which one cannot be scripted."""

    def __init__(self, odd):
        super().__init__()
        self.value = object() if odd else 2.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value


def unscriptable_function(x: Tensor) -> Tensor:
    return x.to(next(iter([x])).device)


class CallsFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return unscriptable_function(x)


class Stepper:
    def __init__(self, step: float):
        self.step = step

    def advance(self, x: Tensor) -> Tensor:
        return x.to(next(iter([x])).device) + self.step


class UsesClass(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Stepper(1.0).advance(x)


def part():
    return Around(Unscriptable())


def part_of_a_part():
    return Around(Around(Unscriptable()))


def sequential():
    return nn.Sequential(nn.Linear(2, 2), Unscriptable())


def in_a_list():
    return Around(nn.Sequential(nn.Sequential(Unscriptable())))


def either(odd):
    return Around(Either(odd))


NEXT = "built-in function next"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Unscriptable, NEXT),
        (part, NEXT),
        (part_of_a_part, NEXT),
        (sequential, NEXT),
        (in_a_list, NEXT),
        (CallsOther, NEXT),
        (CallsHelper, NEXT),
        (CallsFunction, NEXT),
        (UsesClass, NEXT),
    ],
)
def test_every_try_gives_the_reason(owner, make, reason):
    interface = Input if make is sequential else Forward
    for _ in range(3):
        with pytest.raises(CreationError, match=reason):
            tr.create(owner, interface, make)


class Input:
    def forward(self, input: Tensor) -> Tensor: ...


def test_a_failure_after_a_success_with_another_module_of_the_class(owner):
    x = torch.ones(2)
    good = tr.create(owner, Forward, either, args=(False,))
    half = tr.create(owner, Forward, Half)
    for _ in range(2):
        with pytest.raises(CreationError, match="'value'"):
            tr.create(owner, Forward, either, args=(True,))
        with pytest.raises(CreationError, match=NEXT):
            tr.create(owner, Forward, CallsOther)
        assert torch.equal(good(x), 2 * x)
        assert torch.equal(half(x), x)
        assert torch.equal(tr.create(owner, Forward, either, args=(False,))(x), 2 * x)
        assert torch.equal(tr.create(owner, Forward, Half)(x), x)


def test_a_failure_of_the_users_own_script_does_not_hide_the_reason():
    with pytest.raises(RuntimeError, match=NEXT):
        torch.jit.script(part())
    for _ in range(2):
        with pytest.raises(CreationError, match=NEXT):
            tr.serve(part(), Forward, "never")


# -- annotations that an interface may have and TorchScript does not read

Batch = TypeAliasType("Batch", List[Tensor])
UserId = NewType("UserId", int)
Plain = List[Tensor]


class OfBatch(nn.Module):
    def forward(self, x: Batch) -> Tensor:
        return x[0]


class OfUser(nn.Module):
    def forward(self, x: "List[UserId]") -> Tensor:
        return torch.ones(x[0])


class OfAnnotated(nn.Module):
    def forward(self, x: Annotated[int, "of a user"]) -> Tensor:
        return torch.ones(x)


class OfSequence(nn.Module):
    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return x[0]


class OfOptional(nn.Module):
    def forward(self, x: Optional[Batch]) -> Tensor:
        return torch.ones(1) if x is None else x[0]


class OfDict(nn.Module):
    def forward(self, x: Dict[str, Batch]) -> Tensor:
        return x["a"][0]


class InBody(nn.Module):
    def forward(self, x: int) -> Tensor:
        y: Batch = [torch.ones(x)]
        return y[0]


class OfPlain(nn.Module):
    def forward(self, x: Plain) -> Tensor:
        return x[0]


class OfUnion(nn.Module):
    def forward(self, x: Union[Batch, str]) -> Tensor:
        return torch.ones(1)


class OfBody(nn.Module):
    Own = List[Tensor]

    def forward(self, x: Own) -> Tensor:
        return x[0]


@pytest.mark.parametrize(
    "module", [OfBatch, OfUser, OfAnnotated, OfSequence, OfOptional, OfDict, OfUnion, OfBody, InBody]
)
def test_an_annotation_that_torchscript_does_not_read(owner, module):
    interface = type("Same", (), {"forward": module.forward})
    for make in (module, lambda: Around(module())):
        with pytest.raises(CreationError) as raised:
            tr.create(owner, interface, make)
        assert "what to do: TorchScript reads no `type` alias, NewType, Annotated" in str(raised.value)


class EmptyDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden: Dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.hidden[0] = x
        return x


class EmptyList(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden: List[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.hidden.append(x)
        return x


@pytest.mark.parametrize(("module", "shown"), [(EmptyDict, "Dict[int, Tensor]"), (EmptyList, "List[Tensor]")])
def test_what_is_empty_is_annotated_in_the_body(owner, module, shown):
    interface = type("Same", (), {"forward": module.forward})
    with pytest.raises(CreationError) as raised:
        tr.create(owner, interface, module)
    assert f"annotate 'hidden' in the body of the class, `hidden: {shown}`, and assign" in str(raised.value)


def test_an_alias_that_is_assigned_plainly(owner):
    interface = type("Same", (), {"forward": OfPlain.forward})
    assert tr.create(owner, interface, OfPlain)([torch.ones(1)]) == 1


# -- what is no Exception


class Exits(nn.Linear):
    """Raises while it is built, or while it is scripted."""

    def __init__(self, error, building):
        super().__init__(2, 2)
        if building:
            raise error("as asked")
        self.error = error

    @property
    def odd(self) -> int:
        raise self.error("as asked")


class Wordless(BaseException):
    def __str__(self):
        raise SystemExit


def exit_of(error, building):
    return Exits(error, building)


@pytest.mark.parametrize("building", [True, False])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_what_is_no_exception_is_a_creation_error(owner, error, building):
    for _ in range(2):  # the name stays free
        with pytest.raises(CreationError, match=rf"^Input on owner: .* {error.__name__}: as asked"):
            tr.create(owner, Input, exit_of, args=(error, building), name="exits")


def test_an_exception_without_words(owner):
    with pytest.raises(CreationError, match=r"exit_of raised Wordless, whose words raise SystemExit"):
        tr.create(owner, Input, exit_of, args=(Wordless, True))


def test_serve_says_what_scripting_raised():
    for error in (SystemExit, GeneratorExit):
        with pytest.raises(CreationError, match=f"Exits cannot be scripted: {error.__name__}: as asked"):
            tr.serve(Exits(error, False), Input, "exits")
    with pytest.raises(KeyboardInterrupt):  # in the main thread it is Ctrl-C
        tr.serve(Exits(KeyboardInterrupt, False), Input, "exits")


def test_a_default_of_a_keyword_only_argument_has_its_remedy():
    class Named(nn.Module):
        def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
            return scale * x

    with pytest.raises(CreationError, match=r"what to do: write each of these as an ordinary argument, `k: int = 5`"):
        tr.serve(Named(), Input, "named")


class Sums(nn.Module):
    """Uses methods of torch's that TorchScript does not compile."""

    def __init__(self, part=None):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.total(x)

    def total(self, x: Tensor) -> Tensor:
        for parameter in self.parameters():
            x = x + parameter.sum()
        return x

    def unused(self):
        return list(self.buffers())


class Reads(Sums):
    def total(self, x: Tensor) -> Tensor:
        return self.linear.state_dict()["weight"]


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Sums()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


@pytest.mark.parametrize(
    ("module", "method", "where"),
    [
        (Sums(), "parameters", "Sums.total"),
        (Inside(), "parameters", "Sums.total"),
        (Reads(), "state_dict", "Reads.total"),
    ],
)
def test_a_method_of_torchs_that_cannot_be_compiled_is_named_with_who_calls_it(module, method, where):
    with pytest.raises(CreationError) as caught:
        tr.serve(module, Input, "sums")
    first, *_, last = str(caught.value).splitlines()
    said = f"TorchScript does not compile {method}() of torch.nn.Module, which is called in {where}"
    assert first == f"{type(module).__name__} cannot be scripted: {said}"
    assert last.startswith("what to do: name the parameters, buffers and parts that you mean, as in self.linear.weight")


def test_the_reason_stands_in_the_first_line():
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.nothing()

    with pytest.raises(CreationError, match=r"\ANothing cannot be scripted: 'Tensor' object has no attribute"):
        tr.serve(Nothing(), Input, "nothing")


def test_a_class_of_torchs_that_cannot_be_compiled_is_named_with_who_makes_it():
    class Samples(nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            return self.sample(input)

        def sample(self, x: Tensor) -> Tensor:
            chances = torch.distributions.Laplace(x, 1.0)  # of no other test
            return chances.sample()

    said = "TorchScript does not compile torch.distributions.Laplace, which is called in Samples.sample"
    with pytest.raises(CreationError, match=rf"\ASamples cannot be scripted: {said}\n"):
        tr.serve(Samples(), Input, "samples")
    with pytest.raises(CreationError, match=r"what to do: write it with operators"):  # torch keeps half of the class
        tr.serve(Samples(), Input, "samples")


class Carries(nn.Module):
    def __init__(self, part=None):
        super().__init__()
        self.before: Optional[Tensor] = None
        self.part = part

    def forward(self, input: Tensor) -> Tensor:
        self.before = input
        return input


@pytest.mark.filterwarnings("ignore:.*annotations on empty:UserWarning")
@pytest.mark.parametrize("module", [Carries(), Around(nn.LazyLinear(2))])
def test_examples_are_no_remedy_where_torch_export_refuses_the_same(module):
    interface = Forward if isinstance(module, Around) else Input
    with pytest.raises(CreationError) as caught:
        tr.serve(module, interface, "never")
    assert "examples=" not in str(caught.value)
    with pytest.raises(CreationError):
        tr.exported(module.eval(), interface, {"forward": (torch.ones(2),)})
