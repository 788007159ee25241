from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from torch import nn

from fl_kit import FedAvg, Standardize
from fl_kit.metrics import AUC, Accuracy

FEATURES = 22
ROUNDING = 1e-6  # the mean of ones may come out a little below 1


def model():
    return nn.Sequential(Standardize(FEATURES, flag_missing=True), nn.Linear(2 * FEATURES, 1))


def data(folder, split):
    rows = pd.read_csv(Path(folder) / f"{split}.csv")
    ill = rows.pop("disease")
    return torch.tensor(rows.to_numpy("float32")), torch.tensor(ill.to_numpy("float32")[:, None])


loss = nn.BCEWithLogitsLoss()
metrics = [AUC(), Accuracy()]


@dataclass(frozen=True, kw_only=True)
class AgreeingAvg(FedAvg):
    """FedAvg that moves a weight only where the silos agree on its direction.

        in silo k:        delta_k as in FedAvg, and its sign
        at orchestrator:  w ← w + server_lr · mean delta    where |mean sign| ≥ agreement; elsewhere w stays

    Both means weigh a silo by its rows.

    agreement  from 0, which is FedAvg, to 1: all silos of one sign
    """

    agreement: float = 0.5
    needs_mean: ClassVar[bool] = True

    def fit(self, state, memory, ctx):
        update, memory = super().fit(state, memory, ctx)
        signs = {name: torch.sign(change) for name, change in update.delta.items()}
        return replace(update, extra={**update.extra, "signs": signs}), memory

    def extra_groups(self, trainable):
        return {"signs": trainable}  # like the parameters; the orchestrator refuses an update of any other form

    def aggregate(self, state, updates: Iterable, ctx):
        mean = ctx.combine(updates)
        agreed = {name: sign.abs() > self.agreement - ROUNDING for name, sign in mean.extra["signs"].items()}
        return self.advance(state, replace(mean, delta={n: d * agreed[n] for n, d in mean.delta.items()}))
