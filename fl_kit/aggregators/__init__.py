"""How updates are combined: one file an aggregator."""

from fl_kit.aggregators.mean import Mean

__all__ = ["Mean"]
