"""How a module is written that TorchScript refuses, and what is done to it."""

from typing import NamedTuple

HEAD = """
from typing import Dict, List, Optional, Tuple
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, NAMES, TABLE = 0.5, ["a", "bc"], torch.arange(4.0)


class Config:
    def __init__(self):
        self.eps, self.words = 0.25, {"a": 1}


CONFIG = Config()


def make():
    return Module()


"""


class Step(NamedTuple):
    """A refusal, and what its remedy asks for."""

    said: str
    edits: dict[str, str]  # what is there, and what is written in its place


def in_body(*lines):
    """Writes lines in the body of the class."""
    return {"class Module(nn.Module):": "\n    ".join(("class Module(nn.Module):", *lines))}


def in_init(line):
    return {"super().__init__()": f"super().__init__()\n        {line}"}
