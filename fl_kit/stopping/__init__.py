"""When a job has learnt enough: one file a rule."""

from fl_kit.stopping.plateau import Plateau
from fl_kit.stopping.target import Target

__all__ = ["Plateau", "Target"]
