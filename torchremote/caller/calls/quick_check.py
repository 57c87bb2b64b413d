"""Tests arguments quickly: a value that is exactly of the declared type goes to TorchScript unchanged.

TorchScript takes None for False, the tensor 3.9 for the int 3 and bytes for a str. So a value that fails the test is
packed first (link/values.py). Packing converts a value if nothing is lost, and otherwise says what is wrong with it.

An int is no float here: TorchScript would take 2**53 + 1 for the float 2**53. In containers, ints up to 2**53 are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import NoneType
from typing import Any, Final

import torch

from ..._torch import in_dual_level, stands_for_another
from ...jit.read.annotations import SCALAR_CLASSES
from ...jit.read.types import DictType, ListType, OptionalType, ScalarType, TensorType, TupleType, Type

LARGEST: Final = 2**53
"""Floats hold all integers up to this one."""
TENSORS: Final[frozenset[Any]] = frozenset({torch.Tensor, torch.nn.Parameter})


def exact_test(declared: Type) -> Callable[[Any], bool]:
    """Builds a fast test. True: the value fits without conversion. False: unsure, take the slow path."""
    kinds = exact_classes(declared)
    if kinds is not None:
        if TENSORS.isdisjoint(kinds):
            return lambda value: type(value) in kinds
        return lambda value: (
            type(value) in kinds and (value is None or not (stands_for_another(value) or in_dual_level()))
        )
    match declared:
        case ListType(item):
            items_are_exact = _exact_test_of_all(item)
            if items_are_exact is not None:
                return lambda value: value.__class__ is list and items_are_exact(value)
        case DictType(key, item):
            keys_are_exact, entries_are_exact = _exact_test_of_all(key), _exact_test_of_all(item)
            if keys_are_exact is not None and entries_are_exact is not None:
                return lambda value: (
                    value.__class__ is dict and keys_are_exact(value) and entries_are_exact(value.values())
                )
        case TupleType(items):
            tests = tuple(map(exact_test, items))
            return lambda value: (
                value.__class__ is tuple
                and len(value) == len(tests)
                and all(test(part) for test, part in zip(tests, value, strict=True))
            )
        case OptionalType(item):
            present = exact_test(item)
            return lambda value: value is None or present(value)
    return lambda value: False


def _exact_test_of_all(declared: Type) -> Callable[[Collection[Any]], bool] | None:
    """Builds a test of many values that does not call a function for each. None if classes do not decide."""
    kinds = exact_classes(declared)
    if kinds is None:
        return None
    if float in kinds:
        with_ints = kinds | {int}
        return lambda values: (
            kinds.issuperset(map(type, values))
            or (
                with_ints.issuperset(map(type, values))
                and all(-LARGEST <= value <= LARGEST for value in values if type(value) is int)
            )
        )
    if TENSORS.isdisjoint(kinds):
        return lambda values: kinds.issuperset(map(type, values))

    def are_exact(values: Collection[Any]) -> bool:
        if not kinds.issuperset(map(type, values)):
            return False
        tensors = [value for value in values if value is not None]
        return not any(map(stands_for_another, tensors)) and not (tensors and in_dual_level())

    return are_exact


def exact_classes(declared: Type) -> frozenset[Any] | None:
    """Returns the classes whose instances fit as they are. None: the class alone does not decide.

    Of tensors, also ask `stands_for_another` and `in_dual_level`.
    """
    match declared:
        case TensorType():
            return TENSORS
        case ScalarType("float"):
            return frozenset({float})
        case ScalarType("complex"):
            return frozenset({complex, float})
        case ScalarType(name) if name != "dtype":
            return frozenset({SCALAR_CLASSES[name]})
        case OptionalType(item):
            inner = exact_classes(item)
            return None if inner is None else inner | {NoneType}
    return None
