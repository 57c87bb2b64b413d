"""Shows and compares the arguments of exported modules, and computes numbers as Python does."""

# In TorchScript, a dtype is an integer.
# mypy: disable-error-code="comparison-overlap,unreachable,assignment,arg-type"

from __future__ import annotations

import math
from typing import Final, List

import torch
from torch import Tensor

OTHERWISE: Final = "the module was exported for other calls: "
"""The beginning of the refusal of a call that no graph is right for. link/failures.py looks for it."""


def shown_dtype(dtype: int) -> str:
    """Returns the name of a dtype, which is an integer in TorchScript."""
    # In the order of torch's numbers for them. Archives have these numbers, so no torch changes them.
    names = (
        "uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64 complex128 bool qint8 quint8 qint32 "
        "bfloat16 quint4x2 quint2x4 bits1x8 bits2x4 bits4x2 bits8 bits16 float8_e5m2 float8_e4m3fn float8_e5m2fnuz "
        "float8_e4m3fnuz uint16 uint32 uint64 uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 "
        "int7 float8_e8m0fnu float4_e2m1fn_x2 bcomplex32"
    ).split(" ")
    return names[dtype] if dtype < len(names) else "dtype " + str(dtype)


def shown_tensor(tensor: Tensor) -> str:
    """Returns the dtype and the sizes of a tensor."""
    sizes: List[int] = tensor.size()
    layout = "" if tensor.layout == torch.strided else ", not strided"
    return shown_dtype(tensor.dtype) + " " + str(sizes) + layout


def is_alike(value: float, wanted: float, is_negative: bool) -> bool:
    """Says whether two floats are one value: nan is nan, and 0.0 is not -0.0.

    Args:
        is_negative: whether `wanted` has that sign. TorchScript makes one constant of 0.0 and -0.0.
    """
    if math.isnan(wanted):
        return math.isnan(value)
    return value == wanted and (math.copysign(1.0, value) < 0.0) == is_negative


def is_complex_alike(value: complex, wanted: List[float], are_negative: List[bool]) -> bool:
    """Says whether the parts of a complex number are these, as `is_alike` compares them."""
    parts = torch.view_as_real(torch.scalar_tensor(value, dtype=torch.complex128))
    for n in range(2):
        if not is_alike(float(parts[n]), wanted[n], are_negative[n]):
            return False
    return True


def floor_quotient(value: int, divisor: int) -> int:
    """Returns Python's `value // divisor`. The processor ends the process for the least integer and -1."""
    if divisor == 0:
        raise RuntimeError("integer division or modulo by zero")
    return -value if divisor == -1 else value // divisor


def modulo(value: int, divisor: int) -> int:
    """Returns Python's `value % divisor`. TorchScript's ends the process if the divisor is 0."""
    return value - floor_quotient(value, divisor) * divisor


def true_quotient(value: float, divisor: float) -> float:
    """Returns Python's `value / divisor`. TorchScript's is inf if the divisor is 0."""
    if divisor == 0.0:
        raise RuntimeError("division by zero")
    return value / divisor


def float_modulo(value: float, divisor: float) -> float:
    """Returns Python's `value % divisor`."""
    if divisor == 0.0:
        raise RuntimeError("float modulo by zero")
    rest = math.fmod(value, divisor)
    if rest == 0.0:
        return math.copysign(0.0, divisor)
    return rest + divisor if (divisor < 0.0) != (rest < 0.0) else rest


def float_floor_quotient(value: float, divisor: float) -> float:
    """Returns Python's `value // divisor`. TorchScript's rounds before it takes the floor."""
    if divisor == 0.0:
        raise RuntimeError("float floor division by zero")
    rest = math.fmod(value, divisor)
    quotient = (value - rest) / divisor
    if rest != 0.0 and (divisor < 0.0) != (rest < 0.0):
        quotient -= 1.0
    if quotient == 0.0:
        return math.copysign(0.0, value / divisor)
    floor = quotient // 1.0
    return floor + 1.0 if quotient - floor > 0.5 else floor


def checked_product(left: int, right: int) -> int:
    """Returns a product, unless it has more than 63 bits. `right` is neither 0 nor -1."""
    product = left * right
    if floor_quotient(product, right) != left:
        raise RuntimeError("the result has more than 63 bits")
    return product


def power(base: int, exponent: int) -> int:
    """Returns a power of two integers, which is a float in TorchScript."""
    if exponent < 0:
        raise RuntimeError("a power of integers with a negative exponent is no integer")
    if base == 0 or base == 1:
        return 1 if exponent == 0 else base
    if base == -1:
        return 1 - 2 * (exponent % 2)
    product = 1
    for _ in range(exponent):
        product = checked_product(product, base)
    return product


def shifted_left(value: int, count: int) -> int:
    """Returns Python's `value << count`. The processor takes the count modulo 64."""
    if count < 0:
        raise RuntimeError("negative shift count")
    return value if value == 0 else checked_product(value, power(2, count))


def shifted_right(value: int, count: int) -> int:
    """Returns Python's `value >> count`. The processor takes the count modulo 64."""
    if count < 0:
        raise RuntimeError("negative shift count")
    return value >> (63 if count > 63 else count)
