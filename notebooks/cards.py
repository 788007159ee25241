from pathlib import Path

import pandas as pd
import torch
from torch import nn

from fl_kit import Standardize
from fl_kit.metrics import AUC, AveragePrecision

CATEGORIES = [
    "entertainment", "food_dining", "gas_transport", "grocery_net", "grocery_pos", "health_fitness", "home",
    "kids_pets", "misc_net", "misc_pos", "personal_care", "shopping_net", "shopping_pos", "travel",
]  # fmt: skip
LONG_TAILED = ["amount", "distance", "gap", "city_population"]
PLAIN = ["unusual", "night", "age"]
FEATURES = len(LONG_TAILED) + len(PLAIN) + len(CATEGORIES)


def model():
    return nn.Sequential(Standardize(FEATURES), nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1))


def features(rows):
    tails = torch.tensor(rows[LONG_TAILED].to_numpy("float32")).log1p()
    plain = torch.tensor(rows[PLAIN].to_numpy("float32"))
    places = torch.tensor([[float(found == name) for name in CATEGORIES] for found in rows["category"]])
    return torch.cat([tails, plain, places], dim=1)


def data(folder, split):
    rows = pd.read_csv(Path(folder) / f"{split}.csv")
    return features(rows), torch.tensor(rows["fraud"].to_numpy("float32")[:, None])


loss = nn.BCEWithLogitsLoss()
metrics = [AveragePrecision(), AUC()]
