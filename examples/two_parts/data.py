"""scikit-learn's 1,797 handwritten digits, 8 by 8 pixels each: images in 0..1, labels, three quarters for training."""

from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn


def load() -> list[Tensor]:
    digits: Any = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    parts: Any = train_test_split(images, labels, random_state=0)
    return parts


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()
