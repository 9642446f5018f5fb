"""Which change of the embedder is under way, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from services.cache.entry import MICROSECONDS
from services.chassis.errors import FailedPrecondition, Reason, Unavailable

DEFAULT_SHARE = 0.25
"""Of the time in which embedding runs, and so about of a core."""

SETTLE_SECONDS = 60.0
"""After the change, in which what other replicas still store under the old embedder is brought over."""


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

    def embeds(self, other: Plan) -> bool:
        """Whether this is that change, and the new collection is being filled."""
        return self.started_us == other.started_us and self.phase is Phase.EMBEDDING

    @property
    def served(self) -> End:
        """The embedder that answers."""
        return self.source if self.phase is Phase.EMBEDDING or self.given_up else self.target

    def instead_of(self, slug: str) -> End | None:
        """The embedder that answers in the place of this one; None if this one does, or has no part in the change."""
        has_part = slug in {self.source.slug, self.target.slug}
        return self.served if has_part and self.served.slug != slug else None

    @property
    def given_up(self) -> bool:
        """Whether it was cancelled, also if what it had filled has been dropped since."""
        return self.cancelled or self.phase is Phase.CANCELLED

    def settling(self, now_us: int) -> bool:
        """Whether the new embedder has begun to serve just now, and some replica may still store under the old one."""
        return self.phase is Phase.SWITCHED and now_us < self.changed_us + SETTLE_SECONDS * MICROSECONDS

    def overdue(self, now_us: int) -> bool:
        """Whether a replica that has not changed over yet should have: soon nobody brings over what it stores."""
        return now_us >= self.changed_us + SETTLE_SECONDS / 2 * MICROSECONDS

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


async def advance(plans: Plans, from_: set[Phase], to: Phase, now_us: int) -> Plan | None:
    """Let the change enter a phase if it is in one of these; returns the plan as it is then."""

    def how(plan: Plan) -> Plan | None:
        if plan.phase not in from_:
            return None
        return replace(plan, phase=to, changed_us=now_us, failing="", cancelled=plan.given_up)

    return await change(plans, how)


async def require_whole(plans: Plans, slug: str) -> None:
    """Raise Unavailable for an embedder whose collection a change has only begun to fill, or never finished.

    Unavailable, too, while the store is down: nobody knows then.
    """
    try:
        plan = await plans.load_plan()
    except FailedPrecondition:  # of another version of this software
        return
    if plan is not None and plan.target.slug == slug and plan.instead_of(slug) is not None:
        what = "this embedder's collection has a part of the entries only: by a change, another embedder serves"
        raise Unavailable(what, reason=Reason.STORE_UNAVAILABLE)
