"""Programs that torch.export made elsewhere, modes, devices, and the text that is generated."""

import dataclasses
import io
from typing import Dict, List, NamedTuple, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import torchremote as tr
from torchremote.errors import ArgumentError, CreationError, MismatchError
from torchremote.jit.export import source_of

from .test_guards import Branching, refusal
from .zoo import Counting, Encoding, Kwargs, Normed, OnInput, OnTensor, OnTwo, Several, X


class Outputs(NamedTuple):
    logits: Tensor
    hidden: Tuple[Tensor, Tensor]
    absent: Optional[Tensor]


@dataclasses.dataclass
class Returned:
    logits: Tensor
    hidden: tuple
    absent: Optional[Tensor] = None


torch.export.register_dataclass(Returned, serialized_type_name="torchremote_tests.Returned")


class Takes:
    def forward(
        self, xs: List[Tensor], named: Dict[str, Tensor], *, times: int, extra: Optional[Tensor]
    ) -> Outputs: ...


class Taking(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, xs, named, *, times=2, extra=None):
        y = self.linear(xs[0]) * times + self.shift
        return Returned(y + named["a"], (xs[1], y))


def program(through_a_file):
    one = torch.ones(3, 4)
    dynamic = {
        "xs": [{0: Dim.AUTO}, {0: Dim.AUTO}],
        "named": {"a": {0: Dim.AUTO}},
        "times": Dim.AUTO,
        "extra": None,
    }
    module = Taking()
    exported = torch.export.export(
        module, ([one, one], {"a": one}), {"times": 3, "extra": None}, dynamic_shapes=dynamic
    )
    if through_a_file:
        file = io.BytesIO()
        torch.export.save(exported, file)
        file.seek(0)
        exported = torch.export.load(file)
    return module, exported


@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_program_of_torch_export(through_a_file):
    module, given = program(through_a_file)
    exported = tr.exported({"forward": given}, Takes)
    for size, times in ((5, 3), (2, 7)):
        x = torch.randn(size, 4)
        found = exported([x, x + 1], {"a": x}, times=times, extra=None)
        wanted = module([x, x + 1], {"a": x}, times=times)
        assert torch.equal(found.logits, wanted.logits)
        assert torch.equal(found.hidden[1], wanted.hidden[1])
        assert found.absent is None
    x = torch.ones(2, 4)
    assert "xs[1]: exported for float32 [xs[0].size(0), 4]" in refusal(exported, [x, x[:1]], {"a": x}, 3, None) or (
        "named['a']: exported for float32 [xs[0].size(0), 4]" in refusal(exported, [x, x], {"a": x[:1]}, 3, None)
    )
    assert "extra: exported for None; came a value" in refusal(exported, [x, x], {"a": x}, 3, x)
    assert list(exported.state_dict()) == ["linear.weight", "linear.bias"]


def test_several_programs_share_their_state():
    module = Encoding()
    dynamic = ({0: Dim.AUTO},)
    encode = torch.export.export(Calling(module, "encode"), X, dynamic_shapes=dynamic)
    decode = torch.export.export(
        Calling(module, "decode"), X, {"times": 2}, dynamic_shapes={"x": dynamic[0], "times": None}
    )
    exported = tr.exported({"encode": encode, "decode": decode}, Several)
    x = torch.randn(7, 4)
    assert torch.equal(exported.encode(x), module.encode(x))
    assert torch.equal(exported.decode(x, times=2), module.decode(x, times=2))
    assert list(exported.state_dict()) == ["module.linear.weight", "module.linear.bias"]
    other = torch.export.export(Calling(Encoding(), "encode"), X, dynamic_shapes=dynamic)
    with pytest.raises(CreationError, match=r"module\.linear\.weight is another tensor than in another program"):
        tr.exported({"encode": other, "decode": decode}, Several)


class Calling(nn.Module):
    def __init__(self, module, method):
        super().__init__()
        self.module, self.method = module, method

    def forward(self, x, times=None):
        return self.module.encode(x) if self.method == "encode" else self.module.decode(x, times=times)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # of torch's own
def test_a_decomposed_program_changes_its_buffers():
    module = Counting()
    twin = Counting()
    given = torch.export.export(module, X, dynamic_shapes=({0: Dim.AUTO},)).run_decompositions()
    exported = tr.exported({"forward": given}, OnTensor)
    for size in (2, 5):
        x = torch.randn(size, 4)
        assert torch.equal(exported(x), twin(x))
    assert torch.equal(exported.total, twin.total)
    assert exported.count == 2


class TakesMany:
    def forward(
        self, none: Optional[Tensor], k: int, xs: Tuple[Tensor, Tensor], named: Dict[str, Tensor], n: int
    ) -> Tensor: ...


class TakingMany(nn.Module):
    def forward(self, none, k, xs, named, n):
        total = (xs[0] + xs[1] + named["a"]) * k
        return total if n > 4 else -total


@pytest.mark.parametrize("strict", [False, True])
def test_sizes_are_compared_whatever_the_mode_of_the_export(strict):
    auto, one = {0: Dim.AUTO}, torch.ones(3, 2)
    dynamic = {"none": None, "k": None, "xs": (auto, auto), "n": Dim.AUTO, "named": {"a": auto}}
    given = torch.export.export(
        TakingMany(), (None, 3, (one, one)), {"n": 5, "named": {"a": one}}, dynamic_shapes=dynamic, strict=strict
    )
    exported = tr.exported({"forward": given}, TakesMany)
    x = torch.randn(5, 2)
    assert torch.equal(exported(None, 3, (x, x), {"a": x}, 5), TakingMany()(None, 3, (x, x), {"a": x}, 5))
    assert "named['a']: exported for float32 [xs[0].size(0), 2]; came float32 [1, 2]" in refusal(
        exported, None, 3, (x, x), {"a": x[:1]}, 5
    )
    assert "came 3" in refusal(exported, None, 3, (x, x), {"a": x}, 3)


def test_a_program_with_an_argument_that_is_called_as_strict_mode_calls_all():
    class Listing:
        def forward(self, first: Tensor, flat_args: List[Tensor]) -> Tensor: ...

    class Lists(nn.Module):
        def forward(self, first, flat_args):
            return first.sum() + flat_args[0] + flat_args[1]

    auto, one = {0: Dim.AUTO}, torch.ones(3)
    given = torch.export.export(Lists(), (torch.ones(4), [one, one]), dynamic_shapes=(auto, [auto, auto]))
    exported = tr.exported({"forward": given}, Listing)
    x = torch.randn(5)
    assert torch.equal(exported(x[:4], [x, x]), Lists()(x[:4], [x, x]))
    assert "flat_args[1]" in refusal(exported, x, [x, x[:1]])


def test_programs_that_branch_are_chosen_by_their_guards():
    dynamic = ({0: Dim.AUTO, 1: Dim.AUTO},)
    given = [
        torch.export.export(Branching(), (torch.ones(size),), dynamic_shapes=dynamic)
        for size in ((8, 9), (3, 5), (3, 11))
    ]
    exported = tr.exported({"forward": given}, OnTensor)
    for size in ((4, 3), (12, 50), (7, 7), (2, 40)):
        x = torch.randn(size)
        assert torch.equal(exported(x), Branching()(x))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"forward": Kwargs()}, ArgumentError, "Kwargs is no ExportedProgram"),
        ({}, ArgumentError, "no example of its arguments"),
    ],
)
def test_programs_that_are_none(given, error, said):
    with pytest.raises(error, match=said):
        tr.exported(given, OnTensor)


def test_a_program_that_does_not_fit_its_method():
    given = torch.export.export(Kwargs(), X)
    with pytest.raises(MismatchError, match="the program takes x; expected"):
        tr.exported({"forward": given}, OnTwo)
    with pytest.raises(ArgumentError, match="take no examples"):
        tr.exported({"forward": given}, OnTensor, {"forward": X})


def test_a_refused_call_of_a_program_asks_for_another_program():
    exported = tr.exported({"forward": torch.export.export(Kwargs(), X)}, OnTensor)
    assert refusal(exported, torch.ones(2)).endswith(
        "; if the module can run such a call, whoever exported it can give a program of one, too"
    )


# -- modes


def test_another_mode_than_that_of_the_export_is_refused():
    exported = tr.exported(Normed().eval(), OnTensor, {"forward": X})
    exported.train()
    assert "the module was exported in evaluation mode, and is in the other; call eval()" in refusal(exported, *X)
    exported.eval()
    assert exported(*X).shape == (3, 4)


@pytest.mark.parametrize("training", [False, True])
def test_both_modes_can_be_exported(training):
    module = Normed().train(training)
    exported = tr.exported(module, OnTensor, {"forward": X}, both_modes=True)
    assert module.training is training
    assert module.norm.training is training
    for mode in (True, False, True):
        results = []
        for run in (exported, module):
            run.train(mode)
            torch.manual_seed(0)
            results.append(run(torch.ones(5, 4)))
        assert torch.equal(results[0] - results[1], torch.zeros(5, 4)) or mode  # the buffers are shared
    assert exported.norm.num_batches_tracked == module.norm.num_batches_tracked == 4


# -- the text


def test_the_text_has_the_users_names_and_says_where_an_operator_came_from():
    text = source_of(tr.exported(Kwargs(), OnTwo, {"forward": X}))
    assert "# export/zoo.py:" in text
    assert "in forward: return sum(part for part in" in text
    assert "torch.ops.aten.linear(x, self.linear.weight, self.linear.bias)" in text
    assert "def forward(self, x: Tensor, y: Optional[Tensor] = None) -> Tensor:" in text


def test_the_text_is_the_same_each_time():
    first, second = (source_of(tr.exported(Kwargs(), OnTwo, {"forward": X})) for _ in range(2))
    assert first == second


def test_an_error_shows_the_line_of_the_operator():
    words = nn.Embedding(10, 4)
    exported = tr.exported(words, OnInput, {"forward": (torch.zeros(3, dtype=torch.int64),)})
    with pytest.raises(Exception, match="index out of range") as raised:
        exported(torch.full((2,), 77))
    assert "embedding = torch.ops.aten.embedding(self.weight, input)" in str(raised.value)


class Clashing:
    def forward(self, torch: Tensor, self_: Tensor, run_forward: Tensor) -> Tensor: ...


class Clash(nn.Module):
    def __init__(self):
        super().__init__()
        self.run_forward, self.constant_0 = nn.Linear(4, 4), nn.Parameter(X[0].clone())

    def forward(self, torch, self_, run_forward):
        return self.run_forward(torch) * self_ + run_forward * self.constant_0 + X[0]


def test_names_that_generated_text_uses_itself():
    module = Clash()
    exported = tr.exported(module, Clashing, {"forward": (X[0], X[0], X[0])})
    assert torch.equal(exported(*X, *X, *X), module(*X, *X, *X))


class OnConstants:
    def constant_0(self, input: Tensor) -> Tensor: ...
    def run_forward(self, input: Tensor) -> Tensor: ...
    def forward(self, input: Tensor) -> Tensor: ...


class Constants(nn.Module):
    def __init__(self):
        super().__init__()
        self.constant_1, self.ones, self.twos = nn.ReLU(), torch.ones(()), torch.full((), 2.0)

    def constant_0(self, input):
        return self.constant_1(input) + self.ones

    def run_forward(self, input):
        return input * self.twos

    def forward(self, input):
        return self.constant_1(input) * self.twos - self.ones


class RunsPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.run_forward = nn.ReLU()

    def forward(self, input):
        return self.run_forward(input)


@pytest.mark.parametrize(("cls", "interface"), [(Constants, OnConstants), (RunsPart, OnTensor)])
def test_names_of_methods_and_parts_that_generated_text_uses_itself(cls, interface):
    methods = [name for name in vars(interface) if not name.startswith("_")]
    module = cls()
    exported = tr.exported(module, interface, dict.fromkeys(methods, (X[0],)))
    for name in methods:
        assert torch.equal(getattr(exported, name)(X[0]), getattr(module, name)(X[0]))


class OnPart:
    def encoder(self, input: Tensor) -> Tensor: ...


class PartForMethod(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)

    def forward(self, input):
        return self.encoder(input)


def test_a_part_with_the_name_of_a_method_is_refused():
    with pytest.raises(MismatchError, match=r"^OnPart\.encoder: PartForMethod has a part or tensor of that name"):
        tr.exported(PartForMethod(), OnPart, {"encoder": (X[0],)})
    program = torch.export.export(PartForMethod(), (X[0],))
    with pytest.raises(MismatchError, match=r"^OnPart\.encoder: ExportedOnPart has a part or tensor of that name"):
        tr.exported({"encoder": program}, OnPart)
