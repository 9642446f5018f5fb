"""Histograms for Prometheus that cost little to fill: a value is found its bucket by bisection, under no lock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Filling:
    """One histogram of several that differ in a label. One thread observes at a time; any may read."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose bound it does not pass."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def add_to(self, family: HistogramMetricFamily, label: str) -> None:
        """Tell Prometheus, whose buckets count what the ones before count as well."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric([label], list(zip(names, accumulate(self._counts), strict=True)), self._total)


class Histograms(Collector):
    """A metric with one label."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, label: str, *, bounds: Sequence[float]
    ) -> None:
        """`bounds` rise."""
        self.name, self.text, self.label = name, text, label
        self._bounds = bounds
        self._fillings: dict[str, Filling] = {}
        registry.register(self)

    def labels(self, value: str) -> Filling:
        """The histogram with this value of the label; the same one each time."""
        filling = self._fillings.get(value)
        if filling is None:
            filling = self._fillings[value] = Filling(self._bounds)
        return filling

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Its name."""
        return [self._family()]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What was observed so far."""
        family = self._family()
        for value, filling in list(self._fillings.items()):
            filling.add_to(family, value)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.text, labels=[self.label])
