"""A quick test of arguments: is a value what is declared, so that TorchScript need not convert it?

TorchScript takes None for False, the tensor 3.9 for the int 3 and bytes for a str. So what does not pass this test is
packed first (values.py), which converts what loses nothing in that, and says what is wrong with the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

import torch

from .jit.annotations import SCALAR_CLASSES
from .jit.types import DictType, ListType, OptionalType, ScalarType, TensorType, TupleType, Type

_class_of = type  # the functions below call a type of the model `type`


def fitting(type: Type) -> Callable[[Any], bool]:
    """A quick test that says of nearly all values that fit a type as they are that they do, and of no others."""
    kinds = _kinds(type)
    if kinds is not None:
        return lambda value: _class_of(value) in kinds
    match type:
        case ListType(item):
            inner = _kinds(item)
            if inner is not None:
                return lambda value: value.__class__ is list and inner.issuperset(map(_class_of, value))
        case DictType(key, item):
            keys, entries = _kinds(key), _kinds(item)
            if keys is not None and entries is not None:
                return lambda value: (
                    value.__class__ is dict
                    and keys.issuperset(map(_class_of, value))
                    and entries.issuperset(map(_class_of, value.values()))
                )
        case TupleType(items):
            tests = tuple(map(fitting, items))
            return lambda value: (
                value.__class__ is tuple
                and len(value) == len(tests)
                and all(test(part) for test, part in zip(tests, value, strict=True))
            )
        case OptionalType(item):
            present = fitting(item)
            return lambda value: value is None or present(value)
    return lambda value: False


def fits_by_class(type: Type) -> bool:
    """Whether a value's class alone says if it fits."""
    return _kinds(type) is not None


def _kinds(type: Type) -> frozenset[Any] | None:
    """The classes of which every instance fits, where the class is all that counts."""
    match type:
        case TensorType():
            return frozenset({torch.Tensor, torch.nn.Parameter})
        case ScalarType("float"):
            return frozenset({float, int})
        case ScalarType("complex"):
            return frozenset({complex, float, int})
        case ScalarType(name) if name != "dtype":
            return frozenset({SCALAR_CLASSES[name]})
        case OptionalType(item):
            inner = _kinds(item)
            return None if inner is None else inner | {NoneType}
    return None
