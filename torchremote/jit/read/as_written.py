"""A Python class -> what people read of it: docstrings and signatures as they are written. Nothing here crosses.

The model has none of this: equal methods make equal calls, whatever is said about them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodAsWritten:
    """A method's docstring, or None, and its signature. The first parameter is `self`, by whatever name."""

    doc: str | None
    signature: inspect.Signature


@dataclass(frozen=True, eq=False)
class AsWritten:
    """A class's docstring, or None, its methods by name, and the names of its values, such as constants.

    An interface that came as text has none of these.
    """

    doc: str | None = None
    methods: Mapping[str, MethodAsWritten] = field(default_factory=dict)
    values: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        """Returns what is equal for classes that read alike. It can be hashed; annotations need not be."""
        methods = ((name, method.doc, str(method.signature)) for name, method in self.methods.items())
        return self.doc, self.values, *methods


def read_as_written(cls: type, names: list[str]) -> AsWritten:
    """Reads the docstrings and signatures of a class, and the names of its values.

    Args:
        names: of its methods, its own and those of its bases.
    """
    functions = {name: getattr(cls, name) for name in names}
    methods = {name: MethodAsWritten(inspect.getdoc(it), inspect.signature(it)) for name, it in functions.items()}
    values = frozenset(name for base in cls.__mro__ for name in vars(base) if name not in names and name[0] != "_")
    return AsWritten(inspect.cleandoc(cls.__doc__) if cls.__doc__ else None, methods, values)
