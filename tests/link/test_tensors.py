"""Tensors that torch's pickler, or the process that receives them, aborts for: refused, and both processes go on."""

import warnings
from typing import Any, Dict, List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import testing
from torchremote.errors import ArgumentError, RemoteError
from torchremote.link.failures import FAILURES


@tr.remote_scriptable
class Carrier:
    def forward(self, x: Tensor) -> Tensor: ...
    def listed(self, xs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]: ...
    def anything(self, x: Any) -> Any: ...
    def give(self) -> Tensor: ...
    def give_inside(self) -> Dict[str, List[Tensor]]: ...
    def give_any(self) -> Any: ...


class CarrierModule(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.x = make()

    def forward(self, x: Tensor) -> Tensor:
        return x

    def listed(self, xs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        return xs

    def anything(self, x: Any) -> Any:
        return x

    def give(self) -> Tensor:
        return self.x

    def give_inside(self) -> Dict[str, List[Tensor]]:
        return {"a": [torch.ones(1), self.x]}

    def give_any(self) -> Any:
        return (1, {"a": self.x})


class Calling(nn.Module):
    carrier: Carrier

    def __init__(self, carrier):
        super().__init__()
        self.carrier = carrier

    def forward(self, x: Tensor) -> Tensor:
        return self.carrier.listed([{"a": x}])[0]["a"]


def cut(tensor, size):
    """Cuts the storage of a tensor to `size` bytes."""
    tensor.untyped_storage().resize_(size)
    return tensor


def sparse(values):
    return torch.sparse_coo_tensor(torch.arange(len(values))[None], values, (len(values),))


def shrunk():
    return cut(torch.ones(1000), 8)


def shrunk_that_requires_grad():
    return cut(torch.ones(1000, requires_grad=True), 8)


def shrunk_by_one_byte():
    return cut(torch.ones(3), 11)


def shrunk_behind_its_offset():
    return cut(torch.ones(10)[5:], 24)


def shrunk_and_transposed():
    return cut(torch.ones(10, 10).t()[:, ::2], 200)


def shrunk_float8():
    return cut(torch.ones(4, dtype=torch.float8_e5m2), 2)


def shrunk_quantized():
    return cut(torch.quantize_per_tensor(torch.ones(8), 0.1, 0, torch.qint8), 4)


def by_channel(cut_scales=4000, cut_zeros=8000):
    """Cuts the storages of the scales and zero points of a tensor that is quantized by channel."""
    x = torch.quantize_per_channel(torch.ones(1000, 1), torch.ones(1000), torch.zeros(1000), 0, torch.qint8)
    cut(x.q_per_channel_scales(), cut_scales)
    cut(x.q_per_channel_zero_points(), cut_zeros)
    return x


def shrunk_scales():
    return by_channel(cut_scales=8)


def shrunk_zero_points():
    return by_channel(cut_zeros=8)


def freed_scales():
    return by_channel(cut_scales=0)


def empty_quantized():
    return torch.quantize_per_tensor(torch.ones(0), 0.5, 0, torch.qint8)


def empty_quantized_by_channel():
    return torch.quantize_per_channel(torch.ones(0, 2), torch.ones(2), torch.zeros(2), 1, torch.qint8)


def sparse_with_shrunk_values():
    return sparse(shrunk())


def sparse_with_shrunk_indices():
    return torch.sparse_coo_tensor(cut(torch.arange(3)[None], 8), torch.ones(3), (3,), check_invariants=False)


def sparse_with_freed_values():
    return sparse(cut(torch.ones(2), 0))


def four_bits():
    parameters = torch.tensor([0.5, 0.25]), torch.tensor([0.0, 1.0])
    return torch.quantize_per_channel(torch.ones(2, 2), *parameters, 0, torch.quint4x2)


def two_bits():
    parameters = torch.tensor([0.5, 0.25]), torch.tensor([0.0, 1.0])
    return torch.quantize_per_channel(torch.ones(2, 4), *parameters, 0, torch.quint2x4)


def view_of_three_bits():
    """torch copies it before it sends it, because its storage is large, and has no operator for that."""
    return torch.arange(65536).to(torch.uint8).view(torch.int3)[3:7]


def one_bit():
    return torch.zeros(8, dtype=torch.uint8).view(torch.uint1)


def zero_tensor():
    return torch._efficientzerotensor((3,))


def empty_zero_tensor():
    return torch._efficientzerotensor((0,))


def conjugated_zero_tensor():
    return torch._efficientzerotensor((2, 3), dtype=torch.complex64).t().conj()


ZERO_TENSORS = (zero_tensor, empty_zero_tensor, conjugated_zero_tensor)
TOO_SMALL = "torch cannot look at a tensor of it, and so not send it: .*out of bounds for storage"
HURTING = {
    **dict.fromkeys((shrunk, shrunk_that_requires_grad, shrunk_by_one_byte, shrunk_behind_its_offset), TOO_SMALL),
    **dict.fromkeys((shrunk_and_transposed, shrunk_float8, shrunk_quantized), TOO_SMALL),
    **dict.fromkeys((shrunk_scales, shrunk_zero_points), TOO_SMALL),
    freed_scales: "a tensor without storage of its own",
    **dict.fromkeys((empty_quantized, empty_quantized_by_channel), "an empty quantized tensor cannot cross"),
    **dict.fromkeys((sparse_with_shrunk_values, sparse_with_shrunk_indices), TOO_SMALL),
    sparse_with_freed_values: "a tensor without storage of its own",
    **dict.fromkeys((four_bits, two_bits), "a tensor with several elements in a byte cannot cross; pass value.deq"),
    **dict.fromkeys((view_of_three_bits, one_bit), "a tensor of 1 to 7 bits cannot cross"),
}


@pytest.fixture(autouse=True)
def _silent():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of quantization
        yield


@pytest.mark.parametrize(("make", "message"), HURTING.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_such_an_argument_is_refused_wherever_it_is(owner, make, message):
    carrier, hurting = tr.create(owner, Carrier, CarrierModule, args=(torch.Tensor,)), make()
    carrier(torch.ones(2))  # a tensor of the same class
    calls = {
        "forward.x": lambda: carrier(hurting),
        "listed.xs": lambda: carrier.listed([{"a": torch.ones(1), "b": hurting}]),
        "anything.x": lambda: carrier.anything((1, {"a": [hurting]})),
        "forward_many": lambda: carrier.forward_many([(torch.ones(1),), (hurting,)]),
    }
    for where, call in calls.items():
        with pytest.raises(ArgumentError, match=f"^Carrier.{where}[^:]*: {message}"):
            call()
    with pytest.raises(FAILURES, match="(cannot send Carrier.listed.xs: |in is_ordinary|in sendable)"):
        torch.jit.script(Calling(carrier))(hurting)
    assert testing.same(carrier(torch.ones(2)), torch.ones(2))  # both go on


@pytest.mark.parametrize("make", HURTING, ids=lambda make: make.__name__)
def test_such_a_result_is_an_error_and_the_owner_lives(owner, make):
    carrier = tr.create(owner, Carrier, CarrierModule, args=(make,))
    for call in (carrier.give, carrier.give_inside, carrier.give_any):
        with pytest.raises(RemoteError, match="^Carrier.give"):
            call()
    assert testing.same(carrier(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: torch.ones(65536)[:4], lambda: torch.ones(3).expand(100, 3), lambda: torch.ones(4, 5).t()[1:, ::2]),
        *(lambda: torch.ones(2, requires_grad=True), lambda: torch.ones(2, dtype=torch.bfloat16)),
        *(lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint32)[1:], lambda: torch.ones(4)[4:]),
        *(lambda: torch.sparse_coo_tensor(size=(3, 3)), lambda: torch.ones(0, 4), lambda: torch.tensor(1.0)),
        *(lambda: cut(torch.ones(3), 12), lambda: cut(torch.ones(3), 18), lambda: cut(torch.ones(10)[:2], 8)),
    ],
)
def test_tensors_whose_storage_suffices_cross(owner, make):
    sent = make()
    back = tr.create(owner, Carrier, CarrierModule, args=(torch.Tensor,))(sent)
    assert (back.dtype, back.shape, back.layout) == (sent.dtype, sent.shape, sent.layout)


@pytest.mark.parametrize("make", ZERO_TENSORS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_zero_tensor_crosses_as_a_tensor_of_zeros(owner, make, mode):
    carrier, sent, zeros = tr.create(owner, Carrier, CarrierModule, args=(make,)), make(), make().clone()
    calls = {
        "an argument": lambda: carrier(sent),
        "of a model": lambda: torch.jit.script(Calling(carrier))(sent),
        "inside others": lambda: carrier.listed([{"a": sent}])[0]["a"],
        "of any type": lambda: carrier.anything((1, [sent]))[1][0],
        "of a batch": lambda: carrier.forward_many([(sent,)])[0],
        "a result": carrier.give,
        "inside a result": lambda: carrier.give_inside()["a"][1],
        "a result of any type": lambda: carrier.give_any()[1]["a"],
    }
    with mode():
        came = {where: call() for where, call in calls.items()}
    assert all(testing.same(tensor, zeros) and not tensor._is_zerotensor() for tensor in came.values()), came


@pytest.mark.parametrize("make", ZERO_TENSORS, ids=lambda make: make.__name__)
def test_a_zero_tensor_of_inference_mode_crosses_too(owner, make):
    with torch.inference_mode():
        sent = make()
    carrier = tr.create(owner, Carrier, CarrierModule, args=(torch.Tensor,))
    with torch.no_grad():
        for call in (carrier, torch.jit.script(Calling(carrier))):
            assert testing.same(call(sent), sent.clone())


class Listing(nn.Module):
    carrier: Carrier

    def __init__(self, carrier):
        super().__init__()
        self.carrier = carrier

    def forward(self, xs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        return self.carrier.listed(xs)


def resolved(tensors):
    return {name: tensor.resolve_conj().resolve_neg() for name, tensor in tensors.items()}


def test_tensors_that_operators_see_resolved_keep_dtypes_and_values_in_inference_mode(owner):
    carrier = tr.create(owner, Carrier, CarrierModule, args=(torch.Tensor,))
    values = torch.complex(torch.arange(2000.0), torch.ones(2000))
    negated = values.conj().imag
    shared = [
        {"a": values.conj(), "b": torch.view_as_real(values).view(torch.int64)},  # one storage, two dtypes
        {"a": negated, "b": torch.view_as_real(values)[:, 1].view(torch.int32)},
        {"a": zero_tensor(), "b": torch.ones(2, dtype=torch.int8)},
    ]
    expected = [{name: tensor.clone() for name, tensor in some.items()} for some in shared]
    model = torch.jit.script(Listing(carrier))
    with torch.inference_mode():
        for _ in range(3):  # TorchScript optimises it meanwhile
            for some, same in zip(shared, expected, strict=True):
                for call in (carrier.listed, model, lambda xs: carrier.listed_many([(xs,)])[0]):
                    assert testing.same(resolved(call([some])[0]), resolved(same))


def test_an_inference_tensor_that_requires_a_gradient_crosses_where_none_is_recorded(owner):
    carrier = tr.create(owner, Carrier, CarrierModule, args=(torch.Tensor,))
    with torch.inference_mode():
        x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        for call in (carrier, torch.jit.script(Calling(carrier))):
            assert testing.same(call(x), torch.ones(3))
