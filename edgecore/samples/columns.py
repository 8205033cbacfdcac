"""Readings that wait, in columns: appended at one end, taken at the other, or coalesced in place."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from synccore.samples import coalesce_readings
from synccore.series import Value, Values

if TYPE_CHECKING:  # an array is not subscriptable before Python 3.12
    Columns = tuple[array[int], array[int], Values]


class WaitingColumns:
    """Readings in the order they came; all floats stay an array, anything else makes the values a list."""

    def __init__(self) -> None:
        self._series: array[int] = array("I")
        self._times: array[int] = array("q")
        self._values: array[float] | list[Value] = array("d")

    def __len__(self) -> int:
        return len(self._series)

    def append(self, series: array[int], times: array[int], values: Values) -> None:
        """Add readings at the end."""
        if isinstance(self._values, array) and not isinstance(values, array):
            self._values = list(self._values) if len(self) else []
        self._series.extend(series)
        self._times.extend(times)
        self._values.extend(values)  # type: ignore[arg-type]

    def take(self, count: int) -> Columns:
        """Remove and return the oldest `count` readings, or all there are."""
        taken = self._series[:count], self._times[:count], self._values[:count]
        del self._series[:count], self._times[:count], self._values[:count]
        if not len(self):  # a list of values becomes an array again
            self._values = array("d")
        return taken

    def coalesce(self, series_count: int) -> int:
        """Keep the newest reading of each series; return how many others there were."""
        before = self.take(len(self))
        self.append(*coalesce_readings(*before, series_count))
        return len(before[0]) - len(self)
