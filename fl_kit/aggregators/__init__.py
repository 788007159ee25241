"""How updates are combined: one file an aggregator.

| aggregator        | withstands                                  | needs              |
|-------------------|---------------------------------------------|--------------------|
| `Mean`            | no bad silo                                 |                    |
| `Median`          | fewer than half                             |                    |
| `TrimmedMean`     | a share `trim`                              |                    |
| `Krum`            | `bad`                                       | n ≥ 2·bad + 3      |
| `Bulyan`          | `bad`, in every single coordinate           | n ≥ 4·bad + 3      |
| `GeometricMedian` | fewer than half                             |                    |
| `NormBounded`     | limits what each can do                     |                    |
| `FLTrust`         | all but one                                 | one trusted silo   |
"""

from fl_kit.aggregators.bulyan import Bulyan
from fl_kit.aggregators.fltrust import FLTrust
from fl_kit.aggregators.geometric_median import GeometricMedian
from fl_kit.aggregators.krum import Krum
from fl_kit.aggregators.mean import Mean
from fl_kit.aggregators.median import Median
from fl_kit.aggregators.norm_bounded import NormBounded
from fl_kit.aggregators.trimmed_mean import TrimmedMean

__all__ = ["Bulyan", "FLTrust", "GeometricMedian", "Krum", "Mean", "Median", "NormBounded", "TrimmedMean"]
