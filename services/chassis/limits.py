"""How many calls a server works on at once, per group of methods.

Each group has places of its own and no group can take another's: calls that only wait cannot keep out the ones they
wait for. A server that is short of memory gives no places at all, but for the groups that it spares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from services.chassis.errors import Exhausted

DEFAULT_GROUP = "default"

SHORT_SECONDS = 1.0
"""After which a call that was refused for lack of memory may come again."""


class Places:
    """The places of one group. For use on one event loop, so counting needs no lock."""

    __slots__ = ("_short", "capacity", "group", "taken")

    def __init__(self, group: str, capacity: int, *, short: Callable[[], bool] = lambda: False) -> None:
        """`short`: whether there is too little memory for any."""
        if capacity < 1:
            raise ValueError(f"group {group!r} needs at least one place")
        self.group = group
        self.capacity = capacity
        self.taken = 0
        self._short = short

    def __enter__(self) -> None:
        """Take a place, or raise `Exhausted` at once: a queue here would only age the callers' deadlines."""
        if self.taken >= self.capacity:
            raise Exhausted("the server is working on as many calls of this kind as it may")
        if self._short():
            raise Exhausted("the server is short of memory", retry_after=SHORT_SECONDS)
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        """Give the place back."""
        self.taken -= 1


class Limits:
    """All groups of a server."""

    def __init__(
        self,
        default: int,
        groups: Mapping[str, int] | None = None,
        *,
        short: Callable[[], bool] = lambda: False,
        spared: Collection[str] = (),
    ) -> None:
        """`short`: whether there is too little memory for calls but those of the `spared` groups."""
        capacities = {DEFAULT_GROUP: default, **(groups or {})}
        self._groups = {
            name: Places(name, capacity) if name in spared else Places(name, capacity, short=short)
            for name, capacity in capacities.items()
        }

    def group(self, name: str) -> Places:
        """The places of a group; `KeyError` if the server was not given any for it."""
        return self._groups[name]

    @property
    def total(self) -> int:
        """Places of all groups together."""
        return sum(places.capacity for places in self._groups.values())
