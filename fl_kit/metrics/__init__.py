"""Metrics that merge exactly: sums of each silo, then one formula; never an average of averages."""

from fl_kit.metrics.auc import AUC
from fl_kit.metrics.average_precision import AveragePrecision
from fl_kit.metrics.base import Metric, ratio
from fl_kit.metrics.classification import F1, Accuracy, Precision, Recall
from fl_kit.metrics.regression import R2, Mean, MeanAbsoluteError, MeanSquaredError

__all__ = [
    "Metric",
    "ratio",
    "Accuracy",
    "Precision",
    "Recall",
    "F1",
    "AUC",
    "AveragePrecision",
    "MeanSquaredError",
    "MeanAbsoluteError",
    "R2",
    "Mean",
]
