"""Says in a few lines why torch.export refused a method."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Final

import torch

_TORCH: Final = str(Path(torch.__file__).parent)
_ADVICE: Final = (
    "consider using data-dependent friendly APIs",
    "Caused by: (_export/",
    "For more information, run with TORCH_LOGS",
    "For extended logs",
    "If you suspect the guard was triggered from C++",
    "For more debugging help",
    "For C++ stack trace",
    "The error above occurred when calling torch.export.export",
    "The following call raised this error",
    f'  File "{Path(__file__).with_name("watching.py")}"',
    "    result = function(*args",
)
_ON_VALUES: Final = (
    "It needs the value of a tensor while it is traced, as int(...) and float(...) do, also around tensor.item(). "
    "Write tensor.long().item() and tensor.double().item() in their place, and torch.cond or torch.where in the place "
    "of a branch"
)
_ON_SIZES: Final = (
    "It is a bool that depends on a size. Pass a mask that is computed from sizes instead, or fix the size with "
    "exported(..., dynamic_shapes=)"
)
_ON_BATCHES: Final = (
    "A batch norm with momentum=None averages by the number of batches that it has seen, which is in a tensor. Give it "
    "a momentum, or export the module in evaluation mode"
)
_ON_PACKED: Final = (
    "It has a packed sequence, whose sizes are in a tensor, so it cannot be exported. Host the module without "
    "examples=, as TorchScript takes packed sequences"
)
_ON_OPERATORS: Final = (
    "torch.export cannot trace that operator. Compute that part with other operators, or where the method is called"
)
ON_TRANSFORMS: Final = (
    "torch.export does not take such a transform of torch.func. Write the derivative in operators, or return what is "
    "to be differentiated, and take its gradient where the method is called"
)
ON_OBJECTS: Final = "Host a module with quantized parts without examples=, as TorchScript takes them"
_INSTEAD: Final = {
    r"SpecViolationError: .*\bxor\b": "Of integers and sizes, write (a | b) - (a & b) for a ^ b",
    r"bad operand type for unary ~: 'SymInt'": "Of integers and sizes, write -k - 1 for ~k",
    r"divmod\(\): .*SymInt": "Of integers and sizes, write k // n and k % n for divmod(k, n)",
    r"__obj_flatten__": ON_OBJECTS,
    r"aten\._ctc_loss\b": "Return the logarithms of the probabilities, and call ctc_loss where the method is called",
    r"aten\.linalg_lstsq\b": "Write torch.linalg.pinv(a) @ b for torch.linalg.lstsq(a, b)",
}
"""Remedies, by a pattern of the error."""
_INSTEAD_OF: Final = {
    "distribution.py": "Make a distribution of torch.distributions with validate_args=False",
    "one_hot": "Give one_hot the number of classes",
    "gaussian_nll_loss": "Write 0.5 * (var.log() + (x - target) ** 2 / var) for gaussian_nll_loss, and take its mean",
    "cov": "Write y = x - x.mean(1, True), and then y @ y.mT / (x.shape[1] - 1), for torch.cov(x)",
    "corrcoef": (
        "Write y = x - x.mean(1, True), and then nn.functional.normalize(y) @ nn.functional.normalize(y).mT, for "
        "torch.corrcoef(x)"
    ),
}
"""Remedies, by the function that looks at a value, or by its file."""
_UNTRACEABLE: Final = (
    "UnsupportedOperatorException",
    "DynamicOutputShapeException",
    "DataDependentOutputException",
    "SpecViolationError",
)


def reason_of(error: Exception) -> str:
    """Returns what matters of an error of torch.export, which adds advice on its own interface."""
    said = str(error).strip() or type(error).__name__
    kept = [line for line in said.splitlines() if line.strip() and not line.startswith(_ADVICE)]
    cause = error.__cause__ or error.__context__
    first = f"{type(error).__name__}: " + "\n".join(kept[:12])
    if _is_packed(error):
        return f"{first}\n{_ON_PACKED}"
    instead = _instead(error, first)
    if instead is not None:
        return f"{first.partition(chr(10))[0]}\n{instead}"
    if type(error).__name__ in _UNTRACEABLE:
        return f"{first.partition(chr(10))[0]}\n{_ON_OPERATORS}"
    if "data-dependent" in said:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        first = f"{first}\n{_ON_BATCHES if any(file.endswith('batchnorm.py') for file in files) else _ON_VALUES}"
    if "must be bool, not SymBool" in said:
        first = f"{first}\n{_ON_SIZES}"
    return first if cause is None or str(cause) in said else f"{first}\nbecause of {type(cause).__name__}: {cause}"


def _instead(error: Exception, said: str) -> str | None:
    """Returns what to write for what torch.export did not take. None if that is not known."""
    for pattern, instead in _INSTEAD.items():
        if re.search(pattern, said):
            return instead
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = {frame.f_code.co_filename for frame in frames}
    if "functorch tensor" in said or ("'constant'" in said and any("/_functorch/" in file for file in files)):
        return ON_TRANSFORMS
    if "data-dependent" not in said and type(error).__name__ not in _UNTRACEABLE:
        return None
    own = [frame.f_code for frame in frames if frame.f_code.co_filename.startswith(_TORCH)]
    names = {Path(code.co_filename).name for code in own} | {code.co_name for code in own}
    names |= {getattr(frame.f_locals.get("function"), "__name__", "") for frame in frames}  # what watching.py calls
    return next((instead for name, instead in _INSTEAD_OF.items() if name in names), None)


def _is_packed(error: Exception) -> bool:
    """Says whether an error came while a sequence was packed, unpacked, or given to a recurrent layer."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_filename.endswith("nn/utils/rnn.py") and "pack" in code.co_name:
            return True
        if code.co_filename.endswith("nn/modules/rnn.py") and frame.f_locals.get("batch_sizes") is not None:
            return True
    return False
