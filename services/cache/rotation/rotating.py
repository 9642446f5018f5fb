"""Does what the plan says, in every replica: fills the new collection, changes over to it, lets go of the old one.

The plan is one record in the store that everybody looks at. Filling is the work of one replica, which holds a lease for
it; each replica changes over by itself, when the plan says so and it has read the new collection.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from services.cache.background import Background
from services.cache.clock import Clock
from services.cache.embeddings import Embeddings
from services.cache.entry import MICROSECONDS
from services.cache.ports import EpochStore, Leases
from services.cache.rotation.handover import hand_over
from services.cache.rotation.leftovers import Leftovers
from services.cache.rotation.moving import Moving, Progress
from services.cache.rotation.plan import Choice, Collections, Phase, Plan, Plans, change
from services.cache.rotation.sides import Side, Sides
from services.cache.rotation.workshop import Opened, Workshop
from services.chassis.errors import AntiphonError, FailedPrecondition, InvalidRequest, Reason, Unavailable

PAUSE_SECONDS = 1.0
"""Between two looks at the plan."""

LEASE_SECONDS = 15.0
"""After which another replica goes on with the work of one that is gone."""

SETTLE_SECONDS = 60.0
"""After the change, in which what other replicas still store under the old embedder is brought over."""

DROP_SECONDS = 5.0
"""In which every replica hears that the old collection goes."""

AGAIN_SECONDS = 5.0
"""After something failed that may pass."""

UNABLE_SECONDS = 2 * LEASE_SECONDS
"""After this replica was found unable, as it lacks the embedder: meanwhile another one can take the lease."""

TELL_SECONDS = 1.0
"""Between two notes of the progress in the store."""

LINGER_SECONDS = 60.0
LONGEST_LINGER_SECONDS = 600.0
"""That the previous side is kept for those who hold its leases: at least, and at most."""

WORK = "reembed"

PROBE = "Does this embedder work?"
"""Embedded before a change begins: a remote one may be down, or have vectors of another length than was said."""


class Rotating:
    """For one event loop; `run` does the work, that of the sides' caches included."""

    def __init__(
        self,
        sides: Sides,
        *,
        plans: Plans,
        collections: Collections,
        epochs: EpochStore,
        leases: Leases,
        workshop: Workshop,
        clock: Clock,
        stale: float,
        report: Callable[[BaseException], None],
    ) -> None:
        """`stale`: seconds that what has expired is of use."""
        self.sides = sides
        self._plans = plans
        self._collections = collections
        self._epochs = epochs
        self._leases = leases
        self._workshop = workshop
        self._clock = clock
        self._stale = stale
        self._report = report
        self._holder = secrets.token_hex(8)
        self._poke = asyncio.Event()
        self._runs: dict[Side, asyncio.Task[None]] = {}
        self._moving: asyncio.Task[None] | None = None
        self._moves: Plan | None = None
        """What `_moving` does, as it was when that began."""
        self._changing: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._changed_at = 0.0
        self._leftovers = Leftovers(sides, plans=plans, epochs=epochs, workshop=workshop, report=report)
        self.plan: Plan | None = None
        """As it was seen last."""

    async def run(self) -> None:
        """Until cancelled. Raises what makes this process useless."""
        async with asyncio.TaskGroup() as group:
            self._start(group, self.sides.current)
            group.create_task(self._watch(group))
            group.create_task(self._leftovers.run())

    async def aclose(self) -> None:
        """Let the sides write what waits; after `run` was cancelled."""
        for side in {*self.sides.all(), *self._runs}:
            await side.aclose()

    async def status(self) -> Plan | None:
        """The plan as it is now. Raises Unavailable."""
        return await self._plans.load_plan()

    async def start(self, choice: Choice, share: float) -> Plan:
        """Begin a change to this embedder; one that is under way is told as it is.

        Raises InvalidRequest for the embedder that serves, or none; FailedPrecondition if it is not there, or another
        change is not over; Unavailable.
        """
        opened = await self._workshop.embedder(choice)
        try:
            await opened.embedder.embed_one(PROBE)
        finally:
            await opened.aclose()
        end, here = opened.end, self.sides.current.end
        while True:
            plan = await self._plans.load_plan()
            now_us = self._now_us()
            if plan is not None and plan.phase is Phase.EMBEDDING:
                if plan.target.slug == end.slug:
                    return plan
                raise _refused("another change of the embedder is under way; cancel it first")
            if plan is not None and (plan.phase is Phase.DROPPING or self._settling(plan)):
                raise _refused("the last change of the embedder is not over yet; try again in a minute")
            if end.slug == here.slug:
                raise InvalidRequest("to.embedder: is the one that serves", field="to.embedder")
            known = (*plan.unserved, plan.served) if plan else ()
            old = tuple(one for one in dict.fromkeys(known) if one.slug not in {here.slug, end.slug})
            ver = plan.ver if plan else 0
            begun = Plan(here, end, Phase.EMBEDDING, share, now_us, now_us, old=old, ver=ver)
            if await self._plans.save_plan(begun):
                self._poke.set()
                return begun

    async def cancel(self) -> Plan:
        """Give up the change that is under way. Raises FailedPrecondition if none is, Unavailable."""
        return await self._advance({Phase.EMBEDDING}, Phase.CANCELLED, "no change of the embedder is under way")

    async def drop_old(self) -> Plan:
        """Let all collections go that do not serve: of embedders before, and what a cancelled change has filled.

        Raises FailedPrecondition while a change is under way or just over, or if there never was one; Unavailable.
        """
        plan = await self._plans.load_plan()
        if plan is not None and plan.phase in {Phase.DROPPING, Phase.DROPPED}:
            return plan
        if plan is not None and self._settling(plan):
            raise _refused("replicas may still use the old collection; try again in a minute")
        ended = {Phase.SWITCHED, Phase.CANCELLED}
        return await self._advance(ended, Phase.DROPPING, "there is no change that is over: nothing is old")

    async def _advance(self, from_: set[Phase], to: Phase, otherwise: str) -> Plan:
        def how(plan: Plan) -> Plan | None:
            if plan.phase not in from_:
                return None
            return replace(plan, phase=to, changed_us=self._now_us(), failing="", cancelled=plan.given_up)

        plan = await change(self._plans, how)
        if plan is None or plan.phase is not to:
            raise _refused(otherwise)
        self._poke.set()
        return plan

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        failing = False
        while True:
            try:
                self.plan = plan = await self._plans.load_plan()
                if plan is not None:
                    await self._heed(plan, group)
                failing = False
            except (Unavailable, FailedPrecondition) as error:
                if not failing:
                    self._report(error)
                failing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._poke.wait()
            self._poke.clear()

    async def _heed(self, plan: Plan, group: asyncio.TaskGroup) -> None:
        await self._see_to_moving(plan, group)
        here = self.sides.current.end.slug
        late = self._now_us() >= plan.changed_us + SETTLE_SECONDS / 2 * MICROSECONDS
        self.sides.behind = late and plan.served.slug == plan.target.slug and here == plan.source.slug
        changing = self._changing is not None and not self._changing.done()
        if plan.served.slug == plan.target.slug and here == plan.source.slug and not changing and self._may_try():
            self._changing = group.create_task(self._change(plan, group))
        if plan.phase is Phase.DROPPING:
            await self._close_previous()
            if self._now_us() > plan.changed_us + DROP_SECONDS * MICROSECONDS and await self._hold():
                for end in plan.unserved:
                    await self._collections.drop(end)
                await self._advance({Phase.DROPPING}, Phase.DROPPED, "")
        elif self._lingered():
            await self._close_previous()

    async def _see_to_moving(self, plan: Plan, group: asyncio.TaskGroup) -> None:
        """Move if it is this replica's turn."""
        # Whoever starts reads its own entries first.
        ready = self.sides.cache.recovery.ready.is_set()
        wanted = ready and (plan.phase is Phase.EMBEDDING or self._settling(plan))
        moving, moves = self._moving, self._moves
        if moving is not None and not moving.done():
            # One that was cancelled and begun again between two looks is another one.
            this = moves is not None and moves.started_us == plan.started_us
            if this and wanted and await self._hold():
                return
            moving.cancel()
            await asyncio.wait([moving])
        if wanted and self._may_try() and await self._hold():
            self._moving, self._moves = group.create_task(self._move(plan)), plan

    async def _move(self, plan: Plan) -> None:
        background = Background(lambda _, error: self._report(error))
        opened: Opened | None = None
        try:
            opened = await self._workshop.embedder(plan.target.choice)
            probe = partial(opened.embedder.embed_one, PROBE)
            _check(opened.end.slug, plan)
            moving = Moving(
                source=self._workshop.store(plan.source),
                target=self._workshop.store(plan.target),
                epochs=self._epochs,
                here=self._workshop.addresses(plan.source),
                there=self._workshop.addresses(plan.target),
                embeddings=Embeddings(opened.embedder, background),
                probe=probe,
                unembedded=plan.unembedded,
                share=plan.share,
                stale=self._stale,
                now=self._clock.now,
                monotonic=self._clock.monotonic,
                tell=self._teller(plan),
            )
            await moving.fill()
            now = await change(self._plans, lambda now: self._switched(now, plan))
            self._poke.set()
            if now is None or not _same(now, plan):  # cancelled meanwhile
                return
            await self._collections.name_current(plan.target)
            while True:  # until it is not wanted any more
                await moving.follow()
                await asyncio.sleep(PAUSE_SECONDS)
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
        self._pause(error)
        said = error.message if isinstance(error, AntiphonError) else "an internal error; see the log"
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
        if not _same(now, plan) or now.phase is not Phase.EMBEDDING:
            return None
        return replace(now, phase=Phase.SWITCHED, changed_us=self._now_us(), failing="")

    async def _change(self, plan: Plan, group: asyncio.TaskGroup) -> None:
        """Let the new embedder's cache answer, when it has read its collection."""
        old, side = self.sides.current, None
        try:
            async with self._leftovers.opening:
                side = await self._workshop.side(plan.target.choice, old.cache.stats)
            _check(side.end.slug, plan)
            await _ready(side, self._start(group, side))
            async with self.sides.changing:
                await hand_over(old, side, self._epochs, self._changing_to(side))
        except Exception as error:  # noqa: BLE001 -- the old side goes on
            self._pause(error)
            if side is not None and self.sides.current is not side:
                await self._stop(side)

    def _changing_to(self, side: Side) -> Callable[[], None]:
        def done() -> None:
            self.sides.change_to(side)
            self.sides.behind = False
            self._changed_at = self._clock.monotonic()

        return done

    def _start(self, group: asyncio.TaskGroup, side: Side) -> asyncio.Task[None]:
        self._runs[side] = group.create_task(self._run(side))
        return self._runs[side]

    async def _run(self, side: Side) -> None:
        try:
            await side.cache.run()
        except Exception as error:
            if self.sides.current is side:
                raise
            self._report(error)

    def _lingered(self) -> bool:
        previous = self.sides.previous
        if previous is None:
            return False
        passed = self._clock.monotonic() - self._changed_at
        return passed > LONGEST_LINGER_SECONDS or (passed > LINGER_SECONDS and not previous.cache.fills.active)

    async def _close_previous(self) -> None:
        previous, self.sides.previous = self.sides.previous, None
        if previous is not None:
            previous.cache.fills.dismiss()
            await self._stop(previous)

    async def _stop(self, side: Side) -> None:
        run = self._runs.pop(side, None)
        if run is not None:
            run.cancel()
            await asyncio.wait([run])
        await side.aclose()
        self._leftovers.look()

    async def _hold(self) -> bool:
        return await self._leases.hold(WORK, holder=self._holder, seconds=LEASE_SECONDS, now_us=self._now_us())

    def _pause(self, error: Exception) -> None:
        self._report(error)
        unable = isinstance(error, FailedPrecondition)
        self._not_before = self._clock.monotonic() + (UNABLE_SECONDS if unable else AGAIN_SECONDS)

    def _may_try(self) -> bool:
        return self._clock.monotonic() >= self._not_before

    def _settling(self, plan: Plan) -> bool:
        return plan.phase is Phase.SWITCHED and self._now_us() < plan.changed_us + SETTLE_SECONDS * MICROSECONDS

    def _now_us(self) -> int:
        return int(self._clock.now() * MICROSECONDS)


async def _ready(side: Side, run: asyncio.Task[None]) -> None:
    """Wait until everything stored is in memory. Raises Unavailable if that ends before."""
    ready = asyncio.ensure_future(side.cache.recovery.ready.wait())
    try:
        await asyncio.wait({ready, run}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    if run.done():
        raise Unavailable("the new collection cannot be read", reason=Reason.STORE_UNAVAILABLE)


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


def _check(slug: str, plan: Plan) -> None:
    if slug != plan.target.slug:
        problem = "this replica's settings make another embedder of what was chosen"
        raise FailedPrecondition(problem, reason=Reason.EMBEDDER_MISMATCH)


def _refused(what: str) -> FailedPrecondition:
    return FailedPrecondition(what, reason=Reason.REEMBEDDING_PHASE)
