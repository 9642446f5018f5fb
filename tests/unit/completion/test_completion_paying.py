"""Whoever comes, leaves or is answered in whatever order: the bill of a call is carried once."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.chassis.deadline import Deadline
from services.completion.fills import Fill, Fills, Listener
from services.completion.ports import Outcome
from services.completion.result import CachePart, Completed, Delivered
from services.llm.values import Answer, Cost, FinishReason, Usage
from tests.unit.completion.completion_parts import GUARD, ask

COST = Cost(42, "v1")
ANSWER = Answer("An answer.", FinishReason.STOP, "small", usage=Usage(10, output=5), cost=COST)

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["leave", "deliver", "stream", "finish", "join"]), st.integers(0, 5)), max_size=24
)


async def _played(steps: list[Step]) -> tuple[list[Delivered], int]:
    """Return what the listeners were told, and how many fills were bought."""
    bought = 0
    finish = asyncio.Event()

    async def work(fill: Fill) -> None:
        nonlocal bought
        await finish.wait()
        bought += 1
        fill.transcript.finish(Completed(ANSWER, CachePart(Outcome.MISS)))

    fills = Fills(work, answer_limit=1_000, longest=GUARD, joined=lambda _: None)
    listeners: list[Listener] = [fills.join(ask(), Deadline.after(GUARD), streaming=False)]
    told: list[Delivered] = []
    for what, which in steps:
        listener = listeners[which % len(listeners)] if listeners else None
        if what == "finish":
            finish.set()
            # Whoever listens has the answer before it: let it end.
            for each in listeners:
                await each.fill.transcript.end()
        elif what == "join" and not finish.is_set():
            listeners.append(fills.join(ask(), Deadline.after(GUARD), streaming=which % 2 == 0))
        elif listener is not None and what == "leave":
            listeners.remove(listener)
            with listener:
                pass
        elif listener is not None and finish.is_set():
            listeners.remove(listener)
            with listener:
                if what == "deliver":
                    told.append(await listener.result())
                else:
                    told += [event async for event in listener.events(GUARD) if isinstance(event, Delivered)]
    for listener in listeners:
        with listener:
            pass
    await fills.close()
    return told, bought


@given(STEPS)
def test_exactly_one_of_those_who_are_answered_pays(steps: list[Step]) -> None:
    told, bought = asyncio.run(_played(steps))
    paid = [each for each in told if each.cost == COST]
    assert len(paid) == (1 if told else 0)
    assert bought <= 1
    for each in told:
        if each not in paid:
            assert each.cost.nano_usd == 0
            assert each.shared
            assert each.served_from is not None
            assert each.served_from.cost == COST


def test_the_first_leaves_after_others_were_answered() -> None:
    told, _ = asyncio.run(
        _played([("join", 0), ("join", 1), ("finish", 0), ("deliver", 1), ("leave", 0), ("stream", 0)])
    )
    assert [each.cost for each in told] == [COST, Cost(price_version="v1")]
