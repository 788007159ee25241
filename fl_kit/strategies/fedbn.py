"""FedBN: batch normalisation stays at home.

Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", arXiv 2102.07623,
Algorithm 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fl_kit.strategies.fedper import FedPer


@dataclass(frozen=True, kw_only=True)
class FedBN(FedPer):
    """FedAvg over all but the batch normalisation, whose weights and running statistics are each silo's own.

        in silo k:        (w_k, bn_k) after SGD from (w, bn_k);   delta_k = w_k − w is sent, bn_k is kept
        at orchestrator:  w ← w + server_lr · Σ n_k·delta_k / Σ n_k

    For silos whose inputs differ (scanners, sensors, lighting): each normalises its own, and the rest is shared.

    layers  which layers are kept, as in FedPer. Default: every BatchNorm and InstanceNorm of the model. LayerNorm and
            GroupNorm have no statistics of the silo's data, and are shared unless they are named

    >>> job = Job(task=scans, strategy=FedBN(lr=0.05), rounds=20)  # a model with BatchNorm
    """

    def usual(self, module: nn.Module) -> Iterator[str]:
        """The normalising layers."""
        yield from (name for name, part in module.named_modules() if isinstance(part, _NormBase))
