"""Fills the new collection: the work of one replica, which holds a lease for it.

A go begins when the plan asks for it and the lease is this replica's, and ends with either; the next one, here or
elsewhere, goes on where the collections differ.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial

from services.cache.background import Background
from services.cache.clock import Clock
from services.cache.embeddings import Embeddings
from services.cache.entry import MICROSECONDS
from services.cache.ports import EpochStore, Leases
from services.cache.rotation.attempts import Attempts
from services.cache.rotation.moving import Moving, Progress
from services.cache.rotation.plan import DEFAULT_SHARE, Collections, Phase, Plan, Plans, change
from services.cache.rotation.share import Share
from services.cache.rotation.workshop import PROBE, Opened, Workshop, require
from services.chassis.errors import AntiphonError

LEASE_SECONDS = 15.0
"""After which another replica goes on with the work of one that is gone."""

FOLLOW_SECONDS = 1.0
"""Between two looks at what replicas still store under the old embedder."""

TELL_SECONDS = 1.0
"""Between two notes of the progress in the store."""

WORK = "reembed"


class Role(StrEnum):
    """What a replica does about filling."""

    NONE = "none"
    """Nothing is to be done, or it is not ready for it."""
    MOVES = "moves"
    """It has the lease, and fills."""
    WAITS = "waits"
    """Another one has the lease."""
    PAUSES = "pauses"
    """It could not go on; it tries again, if no other one does before."""


class Filling:
    """For one event loop."""

    def __init__(
        self,
        *,
        plans: Plans,
        collections: Collections,
        epochs: EpochStore,
        leases: Leases,
        workshop: Workshop,
        clock: Clock,
        stale: float,
        heed: Callable[[], None],
        report: Callable[[BaseException], None],
    ) -> None:
        """`stale`: seconds that what has expired is of use; `heed` lets this replica look at the plan at once."""
        self._plans = plans
        self._collections = collections
        self._epochs = epochs
        self._leases = leases
        self._workshop = workshop
        self._clock = clock
        self._stale = stale
        self._heed = heed
        self._report = report
        self._holder = secrets.token_hex(8)
        self._attempts = Attempts(clock.monotonic, report)
        self.role = Role.NONE
        """As it was seen last."""
        self.task: asyncio.Task[None] | None = None
        """The latest go."""
        self._moves: Plan | None = None
        """What `task` does, as it was when that began."""
        self._share = Share(DEFAULT_SHARE)
        """Of `task`."""

    async def see_to(self, plan: Plan, group: asyncio.TaskGroup, *, wanted: bool) -> None:
        """Fill if it is this replica's turn; not if it is not `wanted`. Raises Unavailable."""
        self.role = Role.NONE
        going, moves = self.task, self._moves
        if going is not None and not going.done():
            # One that was cancelled and begun again between two looks is another one.
            this = moves is not None and moves.started_us == plan.started_us
            if this and wanted and await self.hold():
                self._share.set(plan.share)
                self.role = Role.MOVES
                return
            going.cancel()
            await asyncio.wait([going])
        if not wanted:
            return
        self.role = Role.PAUSES if not self._attempts.due else Role.MOVES if await self.hold() else Role.WAITS
        if self.role is Role.MOVES:
            self._share, self._moves = Share(plan.share), plan
            self.task = group.create_task(self._move(plan, self._share))

    async def hold(self) -> bool:
        """Whether this replica is the one that works for all. Raises Unavailable."""
        now_us = int(self._clock.now() * MICROSECONDS)
        return await self._leases.hold(WORK, holder=self._holder, seconds=LEASE_SECONDS, now_us=now_us)

    async def _move(self, plan: Plan, share: Share) -> None:
        background = Background(lambda _, error: self._report(error))
        opened: Opened | None = None
        try:
            opened = await self._workshop.embedder(plan.target.choice)
            probe = partial(opened.embedder.embed_one, PROBE)
            require(opened.end.slug, plan.target)
            moving = Moving(
                source=self._workshop.store(plan.source),
                target=self._workshop.store(plan.target),
                epochs=self._epochs,
                here=self._workshop.addresses(plan.source),
                there=self._workshop.addresses(plan.target),
                embeddings=Embeddings(opened.embedder, background),
                probe=probe,
                unembedded=plan.unembedded,
                share=share,
                stale=self._stale,
                now=self._clock.now,
                monotonic=self._clock.monotonic,
                tell=self._teller(plan),
            )
            await moving.fill()
            now = await change(self._plans, lambda now: self._switched(now, plan))
            self._heed()
            if now is None or not _same(now, plan):  # cancelled meanwhile
                return
            await self._collections.name_current(plan.target)
            while True:  # until it is not wanted any more
                await moving.follow()
                await asyncio.sleep(FOLLOW_SECONDS)
        except AntiphonError as error:
            await self._give_up(plan, error)
        except Exception as error:  # noqa: BLE001 -- a defect here must not end a cache that serves
            await self._give_up(plan, error)
        finally:
            await background.aclose()
            if opened is not None:
                await opened.aclose()

    async def _give_up(self, plan: Plan, error: Exception) -> None:
        """Try again later, if no other replica does before."""
        self._attempts.failed(error)
        said = self._attempts.problem
        with suppress(AntiphonError):
            await change(self._plans, lambda now: replace(now, failing=said) if _same(now, plan) else None)

    def _teller(self, plan: Plan) -> Callable[[Progress], Awaitable[None]]:
        last, said = -TELL_SECONDS, ""

        async def tell(progress: Progress) -> None:
            nonlocal last, said
            at_end = progress.done == progress.total
            if self._clock.monotonic() - last < TELL_SECONDS and progress.failing == said and not at_end:
                return
            last, said = self._clock.monotonic(), progress.failing
            await change(self._plans, lambda now: _noted(now, plan, progress))

        return tell

    def _switched(self, now: Plan, plan: Plan) -> Plan | None:
        if not now.embeds(plan):
            return None
        return replace(now, phase=Phase.SWITCHED, changed_us=int(self._clock.now() * MICROSECONDS), failing="")


def _same(now: Plan, plan: Plan) -> bool:
    return now.started_us == plan.started_us and now.moves


def _noted(now: Plan, plan: Plan, progress: Progress) -> Plan | None:
    noted = replace(
        now,
        done=progress.done,
        total=progress.total,
        skipped=progress.skipped,
        unembedded=progress.unembedded,
        failing=progress.failing,
    )
    return noted if _same(now, plan) and noted != now else None
