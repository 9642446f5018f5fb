"""Who waits for the answer to a question like their own: places in a line, by an id that only the one who waits has."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.cache.ask import Ask
from services.cache.draft import Draft
from services.cache.fill_values import InProgress
from services.cache.flight import Flight
from services.cache.values import Vector

REMEMBER_SECONDS = 300.0
"""How long a place is kept after it was last asked for."""

REMEMBER_PLACES = 10_000
"""At most; who finds its own gone looks up again."""

REMEMBER_BYTES = 64 * 1024 * 1024
"""Of their questions and vectors at most."""


@dataclass(eq=False, slots=True)
class Follower:
    """A question that waits for `flight`, or goes on waiting under the id `instead`."""

    ask: Ask
    vector: Vector
    flight: Flight[Draft]
    instead: str = ""
    touched: float = field(default=0.0)
    """Seconds of the monotonic clock."""

    @property
    def size(self) -> int:
        """Bytes held, roughly."""
        return len(self.ask.address.question.text) + self.vector.nbytes


class Followers:
    """All places of one server."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._places: OrderedDict[str, Follower] = OrderedDict()
        """Those that were asked for last stand last."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, ask: Ask, vector: Vector, flight: Flight[Draft]) -> InProgress:
        """A new place, behind a flight."""
        now = self._monotonic()
        place_id = secrets.token_urlsafe(18)
        place = self._places[place_id] = Follower(ask, vector, flight, touched=now)
        self._bytes += place.size
        while self._forgettable(now):
            _, oldest = self._places.popitem(last=False)
            self._bytes -= oldest.size
        return InProgress(place_id, near=True)

    def get(self, tenant: str, place_id: str) -> Follower | None:
        """The place with this id, if the tenant has it."""
        place = self._places.get(place_id)
        if place is None or place.ask.address.tenant != tenant:
            return None
        place.touched = self._monotonic()
        self._places.move_to_end(place_id)
        return place

    def _forgettable(self, now: float) -> bool:
        oldest = next(iter(self._places.values()))
        return (
            oldest.touched + REMEMBER_SECONDS <= now
            or len(self._places) > REMEMBER_PLACES
            or self._bytes > REMEMBER_BYTES
        )
