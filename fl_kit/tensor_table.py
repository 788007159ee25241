"""Named tensors as a table: what a message holds, without its numbers."""

import math
from collections.abc import Mapping

from fl_kit.table import Cell, Table
from fl_kit.tensors import Tensors, norm


def tensor_table(title: str, groups: Mapping[str, Tensors]) -> Table:
    """One row for each tensor; the name of its group stands before its own, but for the group called ""."""
    named = {
        f"{group}/{name}" if group else name: value for group, own in groups.items() for name, value in own.items()
    }
    rows: list[list[Cell]] = [
        [name, " × ".join(map(str, value.shape)) or "one", str(value.dtype).removeprefix("torch."), norm([value])]
        for name, value in named.items()
    ]
    total = sum(math.prod(value.shape) for value in named.values())
    numbers = "number" if total == 1 else "numbers"
    return Table(columns=["tensor", "shape", "type", "norm"], rows=rows, title=f"{title}: {total:,} {numbers}")
