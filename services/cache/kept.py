"""What was used of late, up to so many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The one that was used longest ago makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[K, V] = {}

    def __iter__(self) -> Iterator[K]:
        """The keys, the one used last at the end."""
        return iter(self._values)

    def get(self, key: K) -> V | None:
        """A value, which is then the one used last."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def keep(self, key: K, value: V) -> None:
        """Keep a value as the one used last."""
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]
