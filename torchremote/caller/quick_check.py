"""A quick test of arguments: is a value what is declared, so that TorchScript need not convert it?

TorchScript takes None for False, the tensor 3.9 for the int 3 and bytes for a str. So what does not pass this test is
packed first (values.py), which converts what loses nothing in that, and says what is wrong with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import NoneType
from typing import Any, Final

import torch

from .._torch import is_functional
from ..jit.read.annotations import SCALAR_CLASSES
from ..jit.read.types import DictType, ListType, OptionalType, ScalarType, TensorType, TupleType, Type

TENSORS: Final[frozenset[Any]] = frozenset({torch.Tensor, torch.nn.Parameter})

_class_of = type  # the functions below call a type of the model `type`


def fitting(type: Type) -> Callable[[Any], bool]:
    """A quick test that says of nearly all values that fit a type as they are that they do, and of no others."""
    kinds = classes_that_fit(type)
    if kinds is not None:
        if TENSORS.isdisjoint(kinds):
            return lambda value: _class_of(value) in kinds
        return lambda value: _class_of(value) in kinds and (value is None or not is_functional(value))
    match type:
        case ListType(item):
            items_fit = _fitting_all(item)
            if items_fit is not None:
                return lambda value: value.__class__ is list and items_fit(value)
        case DictType(key, item):
            keys_fit, entries_fit = _fitting_all(key), _fitting_all(item)
            if keys_fit is not None and entries_fit is not None:
                return lambda value: value.__class__ is dict and keys_fit(value) and entries_fit(value.values())
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


def _fitting_all(type: Type) -> Callable[[Collection[Any]], bool] | None:
    """A test of many values, without a call for each, of a type that its values' classes show."""
    kinds = classes_that_fit(type)
    if kinds is None:
        return None
    if TENSORS.isdisjoint(kinds):
        return lambda values: kinds.issuperset(map(_class_of, values))
    return lambda values: (
        kinds.issuperset(map(_class_of, values))
        and not any(is_functional(value) for value in values if value is not None)
    )


def classes_that_fit(type: Type) -> frozenset[Any] | None:
    """The classes of which every instance fits, but for functional tensors; None where a class does not say it all."""
    match type:
        case TensorType():
            return TENSORS
        case ScalarType("float"):
            return frozenset({float, int})
        case ScalarType("complex"):
            return frozenset({complex, float, int})
        case ScalarType(name) if name != "dtype":
            return frozenset({SCALAR_CLASSES[name]})
        case OptionalType(item):
            inner = classes_that_fit(item)
            return None if inner is None else inner | {NoneType}
    return None
