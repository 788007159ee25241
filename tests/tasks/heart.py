"""Heart disease of the sample data: logistic regression on what was measured, and on what was not."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from fl_kit import Standardize
from fl_kit.metrics import AUC

WIDTH, TARGET = 22, "disease"


def model() -> nn.Module:
    return nn.Sequential(Standardize(WIDTH, flag_missing=True), nn.Linear(2 * WIDTH, 1))


def data(folder: str, split: str) -> tuple[Tensor, Tensor]:
    frame = pd.read_csv(Path(folder) / f"{split}.csv")
    targets = torch.tensor(frame.pop(TARGET).to_numpy(), dtype=torch.float32)
    return torch.tensor(frame.to_numpy(), dtype=torch.float32), targets[:, None]


loss = nn.BCEWithLogitsLoss()
metrics = [AUC()]
