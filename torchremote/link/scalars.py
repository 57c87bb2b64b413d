"""Converts Python's scalars to those that TorchScript has.

A conversion loses nothing: an int that a float cannot hold is refused.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, SupportsFloat, SupportsIndex

import torch

from ..errors import ArgumentError
from ..jit.read.annotations import SCALAR_CLASSES
from ..jit.read.shown import shown
from ..jit.read.types import ScalarType
from ..jit.script.cache import Cache
from .misfits import Inside, misfit


def as_scalar(value: Any, name: str, exact: bool) -> Any:
    """Converts `value` to a scalar type as torch would. Raises TypeError, ValueError or OverflowError if it cannot."""
    try:
        return _converted(value, name, exact)
    except RecursionError:
        raise
    except RuntimeError as error:  # torch's, for a tensor that is no single value
        raise TypeError from error


def _converted(value: Any, name: str, exact: bool) -> Any:
    if exact and type(value) is not SCALAR_CLASSES[name]:
        raise TypeError
    match name:
        case "int" if isinstance(value, SupportsIndex):
            number = operator.index(value)
            if -(2**63) <= number < 2**63:
                return number
        case "float" if _is_real(value) and _fits_float(value):
            return float(value)
        case "complex" if isinstance(value, (SupportsFloat, complex)) and _fits_float(value):
            return complex(value)
        case "bool" if isinstance(value, bool) or _is_bool_of_numpy(value):
            return bool(value)
        case "str" if isinstance(value, str):
            value.encode()  # raises for a lone surrogate
            return str.__str__(value)  # not the member's name, if it is one of an enum
        case "device" if isinstance(value, torch.device):
            return value
        case "None" if value is None:
            return None
    raise TypeError


def _is_bool_of_numpy(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")


def _is_real(value: Any) -> bool:
    """Says whether `value` has a float. Complex numbers of numpy have one, too, which is their real part alone."""
    is_complex = isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real)
    return isinstance(value, SupportsFloat) and not isinstance(value, str) and not is_complex


def _fits_float(value: Any) -> bool:
    """Says whether a float can hold `value` exactly, if it is an integer. Other numbers fit as well as they can."""
    if isinstance(value, (Decimal, Fraction)):
        number = float(value)
        if not math.isfinite(number):
            return isinstance(value, Decimal) and not value.is_finite()
        return value != int(value) or int(number) == int(value)
    try:
        number = operator.index(value)
        return int(float(number)) == number
    except TypeError:  # it is no integer
        return not isinstance(value, numbers.Complex) or _is_as_finite(value)


def _is_as_finite(value: Any) -> bool:
    """Says whether `value` does not become infinite as a float: numbers of NumPy may be larger than any."""
    number = complex(value)
    parts = (number.real, value.real), (number.imag, value.imag)  # one may be nan, which equals nothing
    return all(not math.isinf(part) or part == given for part, given in parts)


def is_integer(value: Any) -> bool:
    """Says whether `value` stands for an integer. Tensors and arrays have `__index__`, too, whatever is in them."""
    try:
        operator.index(value)
    except RecursionError:
        raise
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def keys_for_any(value: dict[Any, Any], where: str | Inside) -> list[Any]:
    """Returns the keys of a dict that is declared as Any: all are str, or all are int.

    Raises:
        ArgumentError: a key is anything else, or of another type than the first.
    """
    keys = list(value)
    kind = "str" if isinstance(keys[0], str) else "int"
    for key in keys:
        if type(key) is not SCALAR_CLASSES[kind]:
            raise ArgumentError(
                f"{where}, its key {shown(key)}: the keys of a dict inside Any are all str, or all int; declare the "
                "dict's own type, or pass a list of pairs"
            )
        try:
            as_scalar(key, kind, exact=True)
        except (TypeError, UnicodeEncodeError):
            raise misfit(f"{where}, its key", key, ScalarType(kind)) from None
    return keys


_codes: Final[Cache[str, dict[torch.dtype, int]]] = Cache()


def dtype_codes() -> dict[torch.dtype, int]:
    """Returns TorchScript's integer for each dtype. The first call compiles the function that tells it."""
    return _codes.get("dtype", _compiled_codes)


def _compiled_codes() -> dict[torch.dtype, int]:
    code = torch.jit.CompilationUnit("def code(dtype: int) -> int:\n    return dtype\n").code
    return {dtype: code(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


@functools.cache
def dtypes_by_code() -> dict[int, torch.dtype]:
    """Returns the dtype for each of TorchScript's integers."""
    return {code: dtype for dtype, code in dtype_codes().items()}
