from pathlib import Path

import pandas as pd
import torch
from torch import nn

from fl_kit import Standardize
from fl_kit.metrics import AUC, Accuracy

FEATURES = 22


def model():
    return nn.Sequential(Standardize(FEATURES, flag_missing=True), nn.Linear(2 * FEATURES, 1))


def data(folder, split):
    rows = pd.read_csv(Path(folder) / f"{split}.csv")
    ill = rows.pop("disease")
    return torch.tensor(rows.to_numpy("float32")), torch.tensor(ill.to_numpy("float32")[:, None])


loss = nn.BCEWithLogitsLoss()
metrics = [AUC(), Accuracy()]
