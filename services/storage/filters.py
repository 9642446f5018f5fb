"""Conditions on the payload of points, as plain values.

A field that holds a list matches when any of its elements does; a field that is absent matches nothing but `Not`.
Filter on indexed fields: a server may refuse or crawl on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

MAX_EXACT_INTEGER = 2**53
"""Ranges travel as doubles: integers up to here compare exactly (IEEE 754 binary64)."""


@dataclass(frozen=True, slots=True)
class Equals:
    """The field `key` holds `value`, text or a whole number.

    For floats use `Between`. Truth values are refused (the embedded engine's binding takes them for numbers): store a
    flag by which you filter as 0 or 1.
    """

    key: str
    value: str | int

    def __post_init__(self) -> None:
        _refuse_truth_values(self.key, (self.value,))


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field `key` holds one of `values`, all text or all whole numbers; no values match nothing."""

    key: str
    values: tuple[str, ...] | tuple[int, ...]

    def __init__(self, key: str, values: Sequence[str] | Sequence[int]) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "values", tuple(values))
        if len({isinstance(value, str) for value in self.values}) > 1:
            raise ValueError(f"OneOf({key!r}): values must be all text or all whole numbers")
        _refuse_truth_values(key, self.values)


@dataclass(frozen=True, slots=True)
class Between:
    """The number in the field `key` lies within every bound that is given; at least one must be."""

    key: str
    gte: float | None = None
    gt: float | None = None
    lt: float | None = None
    lte: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.gte, self.gt, self.lt, self.lte) if bound is not None]
        if not bounds:
            raise ValueError(f"Between({self.key!r}): no bound is given")
        if any(isinstance(bound, int) and abs(bound) > MAX_EXACT_INTEGER for bound in bounds):
            raise ValueError(f"Between({self.key!r}): a bound lies beyond ±2^53 and would be rounded")


@dataclass(frozen=True, slots=True)
class HasId:
    """The point's id is one of `ids`; no ids match nothing."""

    ids: tuple[str, ...]

    def __init__(self, ids: Sequence[str]) -> None:
        object.__setattr__(self, "ids", tuple(ids))


@dataclass(frozen=True, slots=True, init=False)
class AllOf:
    """Every one of `filters` matches; `AllOf()` matches every point."""

    filters: tuple[Filter, ...]

    def __init__(self, *filters: Filter) -> None:
        object.__setattr__(self, "filters", filters)


@dataclass(frozen=True, slots=True, init=False)
class AnyOf:
    """At least one of `filters` matches; `AnyOf()` matches none."""

    filters: tuple[Filter, ...]

    def __init__(self, *filters: Filter) -> None:
        object.__setattr__(self, "filters", filters)


@dataclass(frozen=True, slots=True)
class Not:
    """`filter` does not match."""

    filter: Filter


Filter = Union[Equals, OneOf, Between, HasId, AllOf, AnyOf, Not]


def _refuse_truth_values(key: str, values: tuple[object, ...]) -> None:
    if any(isinstance(value, bool) for value in values):
        raise ValueError(f"the field {key!r} cannot be compared with a truth value")
