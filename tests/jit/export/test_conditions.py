"""Conditions on sizes, as releases of torch write them, mean the same in generated code."""

import math

import pytest
import torch

from torchremote.errors import CreationError
from torchremote.jit.export.conditions import condition
from torchremote.jit.lower import ir
from torchremote.jit.script.emit import _expression

OF_SYMPY = {
    "Max": max,
    "Min": min,
    "Abs": abs,
    "floor": math.floor,
    "ceiling": math.ceil,
    "ToFloat": float,
    "TruncToInt": int,
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "IntTrueDiv": lambda a, b: a / b,
    "ModularIndexing": lambda a, b, c: a // b % c,
    "OpaqueUnaryFn_sqrt": math.sqrt,
}


@pytest.mark.parametrize(
    "text",
    [
        "a == torch.sym_min(128, a) or b < 3",
        "torch.sym_max(torch.sym_max(1, a), b) == max(b, a, 1) and min(a, b, 2) == 2",
        "32 * a * math.ceil(torch.sym_float(-2 * b) / (-1.0)) != 0",
        "torch.sym_int(a / 2) == math.trunc(b / 3)",
        "torch._sym_sqrt(a) > math.sqrt(b)",
        "672 * torch.sym_max(1, (a // 4 + (7 - a // 4 % 7) % 7) // 7) <= 672 * b",
        "Max(1, a, b) == a",
        "Min(a, b) + 1 == b",
        "ceiling(IntTrueDiv(a, 3)) == floor(b / 2)",
        "Mod(a, 3) == PythonMod(-b, 4)",
        "FloorDiv(a, 2) == CleanDiv(b, 3)",
        "ModularIndexing(a, 2, 3) == TruncToInt(ToFloat(b))",
        "Abs(a - b) > OpaqueUnaryFn_sqrt(a)",
        "(-1) + a <= 9223372036854775808 + ((-1)*b) and a < 9223372036854775808",
        "a**2 - b**3 >= 1 and not (a < b)",
    ],
)
def test_a_condition_means_the_same_in_torchscript(text):
    written = _expression(condition(text, {"a": ir.Name("a"), "b": ir.Name("b")}.get, "Encoder.forward"))
    compiled = torch.jit.CompilationUnit(f"def holds(a: int, b: int) -> bool:\n    return {written}\n")
    for a in range(1, 12):
        for b in range(1, 12):
            assert compiled.holds(a, b) == eval(text, {"torch": torch, "math": math, **OF_SYMPY, "a": a, "b": b})


@pytest.mark.parametrize("text", ["unheard_of(a) == 1", "a ** b == 1", "a @ b == 1", "max(a) == 1", "a.size() == 1"])
def test_what_cannot_be_checked_is_refused(text):
    with pytest.raises(CreationError, match=r"Encoder.forward: torch.export assumes .* which cannot be checked \("):
        condition(text, {"a": ir.Name("a"), "b": ir.Name("b")}.get, "Encoder.forward")
