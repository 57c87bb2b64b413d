"""Looks up the places that refusals of code name, and follows the remedies that they give."""

import ast
import inspect
import re
import sys
import textwrap

from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module


def names_its_line(refusal, path):
    """Says whether a refusal, as "Class.method (file:line): `code` ...", names the line of `path` that has the code."""
    place, _, what = refusal.partition(": `")
    with open(path) as file:
        line = file.read().splitlines()[int(place.rpartition(":")[2].rstrip(")")) - 1]
    return what.partition("`")[0] in line


def refusals(interface):
    """Returns a function that gives the refusal of a class whose modules are to implement `interface`, or None."""
    model = compile_interface(interface).interface

    def refusal_of(make):
        try:
            scripted_module(make(), model)
        except CreationError as error:
            return str(error)
        return None

    return refusal_of


def following(make, refusal_of, pairs, path):
    """Writes a class as the refusals of its code say, and returns that class.

    Args:
        make: a class of this package.
        refusal_of: gives the refusal of such a class, or None.
        pairs: gives what a refusal says to write, each with what it replaces.
        path: a folder for the new source, which TorchScript reads.
    """
    text = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(make))))
    for count in range(5):
        file = path / f"{make.__name__}{count}.py"
        file.write_text(text)
        known = dict(vars(sys.modules[make.__module__]))
        exec(compile(text, str(file), "exec"), known)
        written = known[make.__name__]
        refusal = refusal_of(written)
        if refusal is None:
            return written
        used = refusal.partition(": `")[2].partition("` ")[0]
        better = used
        for new, old in pairs(refusal):
            better = _replaced(better, old, new)
        assert better != used, refusal
        assert used in text
        text = _replaced(text, used, better)
    raise AssertionError(f"{make.__name__} is still refused: {refusal}\n{text}")


def _replaced(text, old, new):
    """Replaces an expression, but not where it is a part of another word, or is assigned."""
    return re.sub(rf"(?<![\w.]){re.escape(old)}(?!\w| = )", lambda _: new, text)
