"""Type aliases and NewTypes -> what they stand for, which is evaluated late, in the names of their modules."""

from __future__ import annotations

import sys
import types
import typing
from typing import Any, Final, Union

import typing_extensions

from .refusals import CannotCross, never, spell, why

ALIASES: Final = (
    typing.NewType,
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),
)
"""The classes of aliases. From Python 3.12 on, a `type` statement makes those of typing, which may be others."""
Alias = Union[typing_extensions.TypeAliasType, typing.NewType]


def stands_for(alias: Alias) -> Any:
    """Returns what an alias stands for. Type variables stay in it, and text is resolved.

    Raises:
        CannotCross: it is any expression, and evaluating it raised something.
    """
    return _evaluated(alias, alias, "__supertype__" if isinstance(alias, typing.NewType) else "__value__")


def variables_of(alias: Alias, items: tuple[Any, ...]) -> dict[typing.TypeVar, Any]:
    """Returns what stands for the type variables of an alias: `items`, and then the variables' own defaults.

    Raises:
        CannotCross: there are too many items, or too few.
    """
    variables = _variables(alias)
    if not all(isinstance(one, typing.TypeVar) for one in variables):
        raise never(alias, "only type variables of one type each are filled in; write what it stands for here")
    has_default = [getattr(one, "has_default", bool)() for one in variables]
    if len(items) > len(variables) or not all(has_default[len(items) :]):
        example = f"{spell(alias)}[{', '.join(one.__name__ for one in variables)}]"
        raise never(alias, f"write a type for each of its type variables, {example}")
    defaults = [_evaluated(alias, one, "__default__") for one in variables[len(items) :]]
    return dict(zip(variables, (*items, *defaults), strict=True))


def _variables(alias: Alias) -> tuple[Any, ...]:
    return getattr(alias, "__type_params__", ())


def _evaluated(alias: Alias, owner: Any, attribute: str) -> Any:
    """Evaluates a lazy attribute of an alias, or of one of its type variables."""
    holder = types.FunctionType((lambda: None).__code__, {})
    names = {one.__name__: one for one in _variables(alias)}
    try:
        holder.__annotations__ = {"it": getattr(owner, attribute)}
        module = getattr(sys.modules.get(alias.__module__ or ""), "__dict__", {})
        return typing.get_type_hints(holder, module, names)["it"]
    except RecursionError:  # it nests too deeply, which read_type says
        raise
    except Exception as error:
        raise CannotCross(f"{spell(alias)}: cannot evaluate it: {why(error)}") from None
