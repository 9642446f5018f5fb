"""Does what the plan says, in every replica: fills the new collection, changes over to it, lets go of the old one.

The plan is one record in the store that everybody looks at. Filling is the work of one replica (`filling`); each
replica changes over by itself, when the plan says so and it has read the new collection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from services.cache.clock import Clock
from services.cache.entry import MICROSECONDS
from services.cache.ports import EpochStore, Leases
from services.cache.rotation.attempts import Attempts
from services.cache.rotation.filling import Filling
from services.cache.rotation.handover import hand_over
from services.cache.rotation.leftovers import Leftovers
from services.cache.rotation.orders import Orders
from services.cache.rotation.plan import Collections, End, Phase, Plan, Plans, advance
from services.cache.rotation.sides import Side, Sides
from services.cache.rotation.workshop import Workshop, require
from services.chassis.errors import FailedPrecondition, Reason, Unavailable

PAUSE_SECONDS = 1.0
"""Between two looks at the plan."""

DROP_SECONDS = 5.0
"""In which every replica hears that the old collection goes."""

LINGER_SECONDS = 60.0
LONGEST_LINGER_SECONDS = 600.0
"""That the previous side is kept for those who hold its leases: at least, and at most."""


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
        changed: Callable[[End], None],
        stands: Callable[[bool], None],
    ) -> None:
        """`stale`: seconds that what has expired is of use; `changed` hears which embedder answers from now on.

        `stands` hears at every look at the plan whether another one serves by it.
        """
        self.sides = sides
        self._plans = plans
        self._collections = collections
        self._epochs = epochs
        self._workshop = workshop
        self._clock = clock
        self._report = report
        self._changed = changed
        self._stands = stands
        self._poke = asyncio.Event()
        self._runs: dict[Side, asyncio.Task[None]] = {}
        self._changing: asyncio.Task[None] | None = None
        self._attempts = Attempts(clock.monotonic, report)
        self._changed_at = 0.0
        self._leftovers = Leftovers(sides, plans=plans, epochs=epochs, workshop=workshop, report=report)
        self.filling = Filling(
            plans=plans,
            collections=collections,
            epochs=epochs,
            leases=leases,
            workshop=workshop,
            clock=clock,
            stale=stale,
            heed=self._poke.set,
            report=report,
        )
        self.orders = Orders(sides, plans=plans, workshop=workshop, now_us=self._now_us, heed=self._poke.set)
        self.plan: Plan | None = None
        """As it was seen last."""

    def problem(self, plan: Plan | None) -> str:
        """Why this replica looks up by another embedder than the one that serves by this plan; empty if it does not."""
        if plan is None or plan.instead_of(self.sides.current.end.slug) is None:
            return ""
        return self._attempts.problem or "it has not changed over yet"

    async def run(self) -> None:
        """Until cancelled. Raises what makes this process useless."""
        async with asyncio.TaskGroup() as group:
            self._start(group, self.sides.current)
            group.create_task(self._watch(group))
            group.create_task(self._leftovers.run())

    async def ready(self) -> None:
        """Wait until the current side has read everything that is stored, and has taken what was left for it elsewhere.

        What was deleted under another embedder would be seen again otherwise. It is not waited for if the store fails,
        or another side is to serve: that is told elsewhere.
        """
        await self.sides.ready()
        await self._leftovers.tried.wait()

    async def aclose(self) -> None:
        """Let the sides write what waits; after `run` was cancelled."""
        for side in {*self.sides.all(), *self._runs}:
            await side.aclose()

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
        # Whoever starts reads its own entries first.
        ready = self.sides.cache.recovery.ready.is_set()
        wanted = ready and (plan.phase is Phase.EMBEDDING or plan.settling(self._now_us()))
        await self.filling.see_to(plan, group, wanted=wanted)
        here = self.sides.current.end.slug
        other = plan.instead_of(here)
        self._stands(other is not None)
        self.sides.behind = other is not None and plan.overdue(self._now_us())
        changing = self._changing is not None and not self._changing.done()
        if other is not None and not changing and self._attempts.due:
            self._changing = group.create_task(self._change(other, group))
        if plan.phase is Phase.DROPPING:
            await self._close_previous()
            if self._now_us() > plan.changed_us + DROP_SECONDS * MICROSECONDS and await self.filling.hold():
                for end in plan.unserved:
                    await self._collections.drop(end)
                await advance(self._plans, {Phase.DROPPING}, Phase.DROPPED, self._now_us())
        elif self._lingered():
            await self._close_previous()

    async def _change(self, end: End, group: asyncio.TaskGroup) -> None:
        """Let this embedder's cache answer, when it has read its collection."""
        old, side = self.sides.current, None
        try:
            async with self._leftovers.opening:
                side = await self._workshop.side(end.choice, old.cache.stats)
            require(side.end.slug, end)
            await _ready(side, self._start(group, side))
            await self._close_previous()
            await hand_over(self.sides, side, self._epochs, self._changing_to(side))
        except Exception as error:  # noqa: BLE001 -- the old side goes on
            self._attempts.failed(error)
            if side is not None and self.sides.current is not side:
                await self._stop(side)

    def _changing_to(self, side: Side) -> Callable[[], None]:
        def done() -> None:
            self.sides.change_to(side)
            self.sides.behind = False
            self._attempts.succeeded()
            self._stands(False)
            self._changed(side.end)
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
