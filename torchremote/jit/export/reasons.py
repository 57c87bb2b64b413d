"""Says in a few lines why torch.export refused a method."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

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


def reason_of(error: Exception) -> str:
    """Returns what matters of an error of torch.export, which adds advice on its own interface."""
    said = str(error).strip() or type(error).__name__
    kept = [line for line in said.splitlines() if line.strip() and not line.startswith(_ADVICE)]
    cause = error.__cause__ or error.__context__
    first = f"{type(error).__name__}: " + "\n".join(kept[:12])
    if _is_packed(error):
        return f"{first}\n{_ON_PACKED}"
    if "data-dependent" in said:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        first = f"{first}\n{_ON_BATCHES if any(file.endswith('batchnorm.py') for file in files) else _ON_VALUES}"
    if "must be bool, not SymBool" in said:
        first = f"{first}\n{_ON_SIZES}"
    return first if cause is None or str(cause) in said else f"{first}\nbecause of {type(cause).__name__}: {cause}"


def _is_packed(error: Exception) -> bool:
    """Says whether an error came while a sequence was packed, unpacked, or given to a recurrent layer."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_filename.endswith("nn/utils/rnn.py") and "pack" in code.co_name:
            return True
        if code.co_filename.endswith("nn/modules/rnn.py") and frame.f_locals.get("batch_sizes") is not None:
            return True
    return False
