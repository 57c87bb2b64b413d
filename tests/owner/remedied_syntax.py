"""Modules that TorchScript refuses for their syntax, and what they are told."""

from .remedied import Step

CASES = {
    "a unary plus": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return +x * 2
""",
        Step("write `x` for it", {"+x": "x"}),
    ),
    "an else of a while": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        i = 0
        while i < 3:
            i += 1
        else:
            x = x + 1
        return x + i
""",
        Step("write the lines of the `else` after the loop", {"        else:\n            x = x": "        x = x"}),
    ),
    "an else of a while that is left": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        i = 0
        while i < 3:
            i += 1
            if i == x.dim():
                break
        else:
            x = x + 1
        return x + i
""",
        Step(
            "under `if ended:`, where `ended = True` is before the loop",
            {
                "        else:\n": "        if ended:\n",
                "        i = 0": "        i, ended = 0, True",
                "                break": "                ended = False\n                break",
            },
        ),
    ),
    "an else of a for": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(3):
            x = x + i
            if i == x.dim():
                break
        else:
            x = x + 1
        return x
""",
        Step(
            "under `if ended:`, where `ended = True` is before the loop",
            {
                "        else:\n": "        if ended:\n",
                "        for i": "        ended = True\n        for i",
                "                break": "                ended = False\n                break",
            },
        ),
    ),
    "a raise of nothing": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 5:
            raise
        return x
""",
        Step("name it, as in `raise RuntimeError('...')`", {"raise": "raise RuntimeError('...')"}),
    ),
    "a dict in a dict": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        known = {'a': 1}
        merged = {'z': 2, **known}
        return x + merged['a'] + len(merged)
""",
        Step("write `merged.update(known)`", {", **known}": "}\n        merged.update(known)"}),
    ),
    "a name of Python's own": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if hasattr(self, '__class__') else x
""",
        Step("leave the question out", {" if hasattr(self, '__class__') else x": ""}),
    ),
}
