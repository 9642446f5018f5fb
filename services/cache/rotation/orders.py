"""What operators ask for: a change is begun, shown, given up, and what it leaves is let go. Each writes the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.cache.rotation.plan import DEFAULT_SHARE, Choice, Phase, Plan, Plans, advance, change
from services.cache.rotation.sides import Sides
from services.cache.rotation.workshop import PROBE, Workshop
from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason


class Orders:
    """For one event loop."""

    def __init__(
        self, sides: Sides, *, plans: Plans, workshop: Workshop, now_us: Callable[[], int], heed: Callable[[], None]
    ) -> None:
        """`heed` lets this replica look at the plan at once."""
        self._sides = sides
        self._plans = plans
        self._workshop = workshop
        self._now_us = now_us
        self._heed = heed

    async def status(self) -> Plan | None:
        """The plan as it is now. Raises Unavailable."""
        return await self._plans.load_plan()

    async def start(self, choice: Choice, share: float | None) -> Plan:
        """Begin a change to this embedder; one to it that is under way is told as it is, and goes on with `share`.

        `share` None: as it is, or the default. Nobody asks the embedder about a change that is under way.
        Raises InvalidRequest for the embedder that serves, or none; FailedPrecondition if it is not there, or another
        change is not over; Unavailable.
        """
        plan = await self._plans.load_plan()
        if plan is not None and plan.phase is Phase.EMBEDDING and plan.target.choice == choice:
            shared = await self._shared(plan, share)
            if shared is not None:
                return shared
        opened = await self._workshop.embedder(choice)
        try:
            await opened.embedder.embed_one(PROBE)
        finally:
            await opened.aclose()
        end, here = opened.end, self._sides.current.end
        while True:
            plan = await self._plans.load_plan()
            now_us = self._now_us()
            if plan is not None and plan.phase is Phase.EMBEDDING:
                if plan.target.slug == end.slug:
                    shared = await self._shared(plan, share)
                    if shared is None:
                        continue
                    return shared
                raise _refused("another change of the embedder is under way; cancel it first")
            if plan is not None and (plan.phase is Phase.DROPPING or plan.settling(now_us)):
                raise _refused("the last change of the embedder is not over yet; try again in a minute")
            if end.slug == here.slug:
                raise InvalidRequest("to.embedder: is the one that serves", field="to.embedder")
            known = (*plan.unserved, plan.served) if plan else ()
            old = tuple(one for one in dict.fromkeys(known) if one.slug not in {here.slug, end.slug})
            ver = plan.ver if plan else 0
            begun = Plan(here, end, Phase.EMBEDDING, share or DEFAULT_SHARE, now_us, now_us, old=old, ver=ver)
            if await self._plans.save_plan(begun):
                self._heed()
                return begun

    async def _shared(self, plan: Plan, share: float | None) -> Plan | None:
        """Let this change go on with `share`; None if it is over by now."""

        def how(now: Plan) -> Plan | None:
            if share is None or share == now.share or not now.embeds(plan):
                return None
            return replace(now, share=share)

        now = await change(self._plans, how)
        self._heed()
        return now if now is not None and now.embeds(plan) else None

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
        if plan is not None and plan.settling(self._now_us()):
            raise _refused("replicas may still use the old collection; try again in a minute")
        ended = {Phase.SWITCHED, Phase.CANCELLED}
        return await self._advance(ended, Phase.DROPPING, "there is no change that is over: nothing is old")

    async def _advance(self, from_: set[Phase], to: Phase, otherwise: str) -> Plan:
        plan = await advance(self._plans, from_, to, self._now_us())
        if plan is None or plan.phase is not to:
            raise _refused(otherwise)
        self._heed()
        return plan


def _refused(what: str) -> FailedPrecondition:
    return FailedPrecondition(what, reason=Reason.REEMBEDDING_PHASE)
