"""What a policy is."""

from __future__ import annotations

from typing import Protocol

from services.router.values import Assessment, RouteRequest


class Policy(Protocol):
    """Judges a request. Pure and fast: it runs within the time budget of every cache miss."""

    @property
    def name(self) -> str:
        """What callers and operators call it."""

    @property
    def version(self) -> str:
        """`<name>/<n>`; changes whenever a judgement may change."""

    def assess(self, request: RouteRequest) -> Assessment:
        """Return how hard the request is and why."""
