"""Rows of a long history in little memory: a figure takes 28 bytes, where an event and its numbers take about 190."""

import math
from array import array
from collections.abc import Iterator
from typing import Any

Row = tuple[float, int, str, str, Any]
"""Time, round, party, name, value."""

LARGEST = 2**31 - 1
"""A round beyond it is kept as it is."""


class PackedFigures:
    """Append-only rows in order. Those whose value is a finite float lie in columns; any other is kept as it is.

    One thread appends; any thread may read.

    >>> rows = PackedFigures()
    >>> rows.append((1.5, 3, "ash", "metric/loss", 0.25))
    >>> list(rows.since(0)), len(rows)
    ([(1.5, 3, 'ash', 'metric/loss', 0.25)], 1)
    """

    def __init__(self) -> None:
        self._times, self._values = array("d"), array("d")
        self._rounds, self._parties, self._names = array("i"), array("i"), array("i")
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._whole: dict[int, Row] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: Row) -> None:
        """Add a row."""
        time, round, party, name, value = row
        if not (type(value) is float and math.isfinite(value) and 0 <= round <= LARGEST):
            self._whole[self._count] = row
            time, round, party, name, value = 0.0, 0, "", "", 0.0  # its place in the columns
        self._times.append(time)
        self._rounds.append(round)
        self._parties.append(self._number(party))
        self._names.append(self._number(name))
        self._values.append(value)
        self._count += 1  # last: whoever reads meanwhile sees whole rows only

    def since(self, start: int) -> Iterator[Row]:
        """The rows from a position on, as there are now; negative counts from the end, as in a list."""
        first, last, _ = slice(start, None).indices(self._count)
        for place in range(first, last):
            yield self._whole.get(place) or (
                self._times[place],
                self._rounds[place],
                self._texts[self._parties[place]],
                self._texts[self._names[place]],
                self._values[place],
            )

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._texts.append(text)
            self._numbers[text] = len(self._texts) - 1
        return self._numbers[text]
