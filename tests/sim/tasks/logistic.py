"""A logistic regression in float64 on silos of three columns: small, exact, and without a random draw."""

from pathlib import Path

import pandas as pd
import torch
from torch import nn

from fl_kit.metrics import F1, Accuracy

COLUMNS = ["age", "pressure", "sugar"]


def model():
    return nn.Linear(len(COLUMNS), 1, dtype=torch.float64)


def data(folder, split):
    frame = pd.read_csv(Path(folder) / f"{split}.csv")
    targets = torch.tensor(frame["ill"].to_numpy("float64"))
    return torch.tensor(frame[COLUMNS].to_numpy("float64")), targets[:, None]


loss = nn.BCEWithLogitsLoss()
metrics = [Accuracy(), F1()]
