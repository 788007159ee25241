"""One weight w that starts at 0, and F(w) = mean of (x·w − y)² / 2: curvature mean x², optimum mean xy / mean x²."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


class Weight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def model() -> nn.Module:
    return Weight()


def data(folder: str, split: str) -> tuple[Tensor, Tensor]:
    x, y = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False)).unbind(1)
    return x, y


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean() / 2
