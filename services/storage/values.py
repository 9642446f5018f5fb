"""What is stored: points, records, and the specification of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from services.chassis.value import value

# A value of a payload. Recursive aliases cannot be spelled without `type` statements (3.12), hence the inner Any.
Json = Union[None, bool, int, float, str, list[Any], dict[str, Any]]

VECTOR_NAME = "query"
"""The one named vector that every collection has and any point may lack."""


class Distance(StrEnum):
    """How a server compares vectors."""

    DOT = "Dot"
    """Keeps the stored bits as they were given. For unit vectors it equals the cosine."""
    COSINE = "Cosine"
    """The server normalises what it stores, which may change the last bits of a vector that was already unit."""


class IndexKind(StrEnum):
    """The type of a payload index, and of the field it covers."""

    KEYWORD = "keyword"
    TENANT = "tenant"
    """A keyword by which the collection is divided: a server keeps one tenant's points together."""
    INTEGER = "integer"
    """Whole numbers, for equality, ranges and `order_by`."""
    FLOAT = "float"
    """Numbers, for ranges and `order_by`."""


@dataclass(frozen=True, slots=True)
class Index:
    """One payload index: the field's name and its kind."""

    key: str
    kind: IndexKind


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection must be; `Store.ensure` creates it or checks it.

    `dim` None: no point of it carries a vector. `indexes` must name every field that filters or `order_by` use.
    `replication_factor` and `write_consistency_factor` are used when the collection is created: later the operator's
    own changes on the server stand.
    """

    name: str
    dim: int | None = None
    distance: Distance = Distance.DOT
    indexes: tuple[Index, ...] = ()
    alias: str | None = None
    replication_factor: int = 1
    write_consistency_factor: int = 1

    @property
    def vector_size(self) -> int:
        """The size declared to the store: one where there are no vectors, as not every engine can do without."""
        return self.dim if self.dim is not None else 1


@value
class Point:
    """What is written. `id` is a UUID in its canonical text form; `vector` has the collection's dimension."""

    id: str
    vector: NDArray[np.float32] | None
    payload: Mapping[str, Json]


@value
class Record:
    """What was read. `vector` is None when it was not asked for or the point has none, else read-only."""

    id: str
    vector: NDArray[np.float32] | None
    payload: dict[str, Json]
