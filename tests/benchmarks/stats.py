"""Percentiles and medians, and the results of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass
class Series:
    """One figure of one contender at one point, once per repetition."""

    measure: str
    contender: str
    at: str
    x: float | None
    metric: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The repetitions' median."""
        return statistics.median(self.values)


class Results:
    """Everything that a run has measured, in the order in which it was."""

    def __init__(self) -> None:
        """Start empty."""
        self.series: list[Series] = []
        self.notes: dict[str, list[str]] = {}
        self.failed = False
        self._by_key: dict[tuple[str, str, str, str], Series] = {}

    def add(
        self,
        measure: str,
        contender: str,
        metric: str,
        unit: str,
        value: float,
        *,
        at: str = "",
        x: float | None = None,
    ) -> None:
        """Add one repetition's figure."""
        key = (measure, contender, at, metric)
        if key not in self._by_key:
            self._by_key[key] = Series(measure, contender, at, x, metric, unit)
            self.series.append(self._by_key[key])
        self._by_key[key].values.append(value)

    def note(self, measure: str, text: str) -> None:
        """Add a remark that belongs under a measure's table."""
        if text not in self.notes.setdefault(measure, []):
            self.notes[measure].append(text)

    def get(self, measure: str, contender: str, metric: str, at: str = "") -> float | None:
        """Return a median, None where it was not measured."""
        series = self._by_key.get((measure, contender, at, metric))
        return None if series is None else series.median

    def of(self, measure: str) -> list[Series]:
        """Return the series of one measure."""
        return [series for series in self.series if series.measure == measure]

    def plain(self) -> list[dict[str, Any]]:
        """Return everything as JSON takes it."""
        return [asdict(series) | {"median": series.median} for series in self.series]
