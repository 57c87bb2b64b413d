"""Has a copy of a scripted model hold stubs where the model does.

`copy.copy` of a scripted module shares what it holds, and torch wraps all of that in Python anew, as bare
ScriptModules. There a stub would have no methods in Python, and a mode that is set would reach no owner. So once a
process has a stub, the copy gets the model's own objects of those parts in which there are stubs.
"""

from __future__ import annotations

import functools

import torch

from ... import _torch
from ...link.stubs import has_stubs


@functools.cache
def keep_stubs_in_copies() -> None:
    """Makes every scripted module's `__copy__` keep its stubs. Does so once a process."""
    _torch.after_copying(_put_stubs)


def _put_stubs(copied: torch.jit.ScriptModule, original: torch.jit.ScriptModule) -> None:
    """Puts the parts of a model in which there are stubs into a copy, which holds the same in C++."""
    for name, part in original._modules.items():
        if part is not None and has_stubs(part):
            _torch.replace_child(copied, name, part)
