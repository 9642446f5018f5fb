"""Which change of the embedder is under way, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

DEFAULT_SHARE = 0.25
"""Of the time in which embedding runs, and so about of a core."""


class Phase(StrEnum):
    """Where a change stands."""

    EMBEDDING = "embedding"
    """The old embedder serves while the new one's collection is filled."""
    SWITCHED = "switched"
    """The new one serves; the old collection is kept."""
    DROPPING = "dropping"
    """What does not serve is about to go: whoever still uses it stops."""
    DROPPED = "dropped"
    """Done, or given up, and the collections that do not serve are gone."""
    CANCELLED = "cancelled"
    """The old embedder goes on; what was embedded is kept, for another try."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An embedder by the settings that name it: see `EmbeddingSettings`. `model` and `dim` of a remote one only."""

    embedder: str
    model: str = ""
    dim: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """One of the two embedders of a change: how it is set, the slug of its identity, and the length of its vectors."""

    choice: Choice
    slug: str
    dim: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One change. Times are Unix microseconds; `ver` counts the record's changes."""

    source: End
    target: End
    phase: Phase
    share: float
    started_us: int
    changed_us: int
    """When the phase began."""
    done: int = 0
    """Entries that the new collection has."""
    total: int = 0
    """Entries that it is to have, as far as they were counted; 0 before."""
    skipped: int = 0
    """Of before their origin was kept: nobody can tell where they belong."""
    unembedded: int = 0
    """Moved without a vector: the new embedder cannot embed them."""
    failing: str = ""
    """Why nothing goes on, if nothing does."""
    cancelled: bool = False
    """Whether it was given up: so it stays in the phases after that."""
    old: tuple[End, ...] = ()
    """Of changes before this one, whose collections were not dropped."""
    ver: int = 0

    @property
    def moves(self) -> bool:
        """Whether something may have to be brought from the old collection into the new one."""
        return self.phase in {Phase.EMBEDDING, Phase.SWITCHED}

    @property
    def served(self) -> End:
        """The embedder that answers."""
        return self.source if self.phase is Phase.EMBEDDING or self.given_up else self.target

    @property
    def given_up(self) -> bool:
        """Whether it was cancelled, also if what it had filled has been dropped since."""
        return self.cancelled or self.phase is Phase.CANCELLED

    @property
    def unserved(self) -> tuple[End, ...]:
        """Those whose collections are there and do not answer."""
        if self.phase is Phase.DROPPED:
            return ()
        return (self.target if self.served is self.source else self.source, *self.old)


class Plans(Protocol):
    """Where the plan is. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def load_plan(self) -> Plan | None:
        """The latest change; None if there never was one."""
        ...

    async def save_plan(self, plan: Plan) -> bool:
        """Put the plan in the place of the stored one, durably, if that has the same `ver`; then it has the next one.

        False if somebody else was faster.
        """
        ...


class Collections(Protocol):
    """What is done with whole collections. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def name_current(self, end: End) -> None:
        """Let the alias of the entries that are served name this embedder's collection, in one step."""
        ...

    async def drop(self, end: End) -> None:
        """Delete this embedder's collection; nothing if it is gone."""
        ...


async def change(plans: Plans, how: Callable[[Plan], Plan | None]) -> Plan | None:
    """Change the plan by what `how` makes of the current one, None for nothing; returns it as it is then."""
    while True:
        plan = await plans.load_plan()
        changed = None if plan is None else how(plan)
        if plan is None or changed is None:
            return plan
        if await plans.save_plan(changed):
            return await plans.load_plan()
