"""What of torch's own settings the bits may depend on: as they are here, so they shall be in a worker."""

from typing import Any

import torch


def here(threads: int) -> dict[str, Any]:
    """The settings of this process, as plain data."""
    return {
        "threads": threads,
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "mkldnn": torch.backends.mkldnn.enabled,
    }


def take(settings: dict[str, Any]) -> None:
    """Set them in this process."""
    torch.set_num_threads(settings["threads"])
    torch.set_default_dtype(getattr(torch, settings["dtype"]))
    torch.set_float32_matmul_precision(settings["precision"])
    torch.use_deterministic_algorithms(settings["deterministic"])
    torch.backends.mkldnn.enabled = settings["mkldnn"]
