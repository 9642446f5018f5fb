"""Rivals are answers, not entries: what is stored anew, by whoever and whenever, is not what was compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from services.cache import judges
from services.cache.decision import Verdict, Veto
from services.cache.entry import MICROSECONDS, Entry
from services.cache.fill_values import Granted
from services.cache.ports import Write
from services.cache.review import Quarantine, Review
from services.cache.values import Mode, Outcome, Policy
from services.chassis.errors import Reason, Unavailable
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, Bench, answer, ask
from tests.unit.cache.learning.learning_parts import Scored, Shelf, learning, until
from tests.unit.cache.learning.rivals_parts import RIVAL, Erring, between, filled, sure


def stored(bench: Bench, text: str) -> Entry:
    entry = bench.cache.entries.get(bench.cache.addresses.of(TENANT, ask(text)))
    assert entry is not None
    return entry


async def begun(bench: Bench, text: str = RIVAL, policy: Policy | None = None) -> str:
    """The lease of a miss near to the stored question."""
    bench.embedder.alike(text, ASKED, 0.85)
    found = await bench.look(ask(text), policy)
    assert isinstance(found.fill, Granted), found
    return found.fill.lease_id


async def ended(bench: Bench, lease: str, made: str) -> None:
    """Commit its answer, and let what waits be compared."""
    await bench.cache.commit(TENANT, lease, answer(made), durable=False)
    await compared(bench)


async def compared(bench: Bench) -> None:
    """All that waits has been: something in another namespace, behind it in the line, was."""
    heard = bench.cache.adapting.happened
    before = heard()["free_differed"]
    text = "somewhere else"
    await bench.put(ask(text, namespace="other"), "there")
    bench.embedder.alike("elsewhere", text, 0.85)
    found = await bench.look(ask("elsewhere", namespace="other"))
    assert isinstance(found.fill, Granted)
    await bench.cache.commit(TENANT, found.fill.lease_id, answer("here"), durable=False)
    await until(lambda: bench.cache.adapting.waiting == 0 and heard()["free_differed"] > before)


async def test_an_answer_that_was_made_anew_without_a_comparison_has_no_rivals() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        assert (await between(bench)).outcome is Outcome.MISS
        await ended(bench, await begun(bench, policy=Policy(mode=Mode.REFRESH)), "by mail")
        assert (await between(bench)).outcome is Outcome.SEMANTIC


async def test_an_answer_that_came_from_another_replica_has_no_rivals() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        bench.clock.advance(1)
        rival, now_us = stored(bench, RIVAL), int(bench.clock.wall * MICROSECONDS)
        newer = replace(rival, answer=answer("by mail"), ver=rival.ver + MICROSECONDS, updated_us=now_us)
        bench.cache._storing.adopt([Write(newer, bench.embedder.vector(RIVAL))])
        assert (await between(bench)).outcome is Outcome.SEMANTIC


async def test_who_stores_the_same_answer_once_more_has_not_said_that_it_agrees() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        for text, made in ((ASKED, "by mail"), (RIVAL, "at the counter")):
            await bench.put(text, made)
        assert (await between(bench)).decision.vetoes == (Veto.CONTESTED,)


async def test_what_was_put_right_before_it_was_compared_is_compared_as_it_is() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        lease = await begun(bench)
        await bench.put(ASKED, "at the counter")
        await ended(bench, lease, "at the counter")
        assert (await between(bench)).outcome is Outcome.SEMANTIC


@pytest.mark.parametrize("changed", [ASKED, RIVAL])
async def test_what_is_put_right_while_it_is_compared_has_no_rivals(changed: str) -> None:
    comparer = Erring()
    async with learning(comparer=comparer, judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        lease = await begun(bench)
        comparer.gate.clear()
        await bench.cache.commit(TENANT, lease, answer("at the counter"), durable=False)
        await until(lambda: len(comparer.asked) == 1)
        await bench.put(changed, "by mail" if changed == RIVAL else "at the counter")
        comparer.gate.set()
        await compared(bench)
        assert (await between(bench)).outcome is Outcome.SEMANTIC


async def test_an_answer_that_is_not_to_be_stored_is_nobodys_rival() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        bench.embedder.alike(RIVAL, ASKED, 0.85)
        await bench.put(RIVAL, "by mail")
        bench.clock.advance(100)
        await ended(bench, await begun(bench, policy=Policy(max_age=50, no_store=True)), "for you alone")
        assert (await between(bench)).outcome is Outcome.SEMANTIC


class Choosy(Erring):
    """Cannot compare with everything."""

    async def same(self, fresh: str, stored: str, *, tenant: str) -> bool:
        if stored == "by phone":
            raise Unavailable("not this one", reason=Reason.EMBEDDER_UNAVAILABLE)
        return await super().same(fresh, stored, tenant=tenant)


async def test_if_the_nearest_cannot_be_compared_the_others_are() -> None:
    async with learning(comparer=Choosy(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        nearer = "How do I get my PIN?"
        bench.embedder.alike(RIVAL, ASKED, 0.85)
        bench.embedder.alike(nearer, RIVAL, 0.855)
        await bench.put(nearer, "by phone")
        await ended(bench, await begun(bench), "at the counter")
        assert bench.cache.adapting.happened()["failed"] == 1
        assert (await between(bench)).decision.vetoes == (Veto.CONTESTED,)


async def test_what_is_compared_while_the_namespace_leaves_memory_and_comes_back_is_not_lost() -> None:
    comparer = Erring()
    async with learning(Shelf(), comparer, sure(), most=1) as bench:
        await bench.put(ASKED, "by mail")
        lease = await begun(bench)
        comparer.gate.clear()
        await bench.cache.commit(TENANT, lease, answer("at the counter"), durable=False)
        await until(lambda: len(comparer.asked) == 1)
        await bench.cache.adapting.prepare(TENANT, "other")
        await bench.cache.adapting.prepare(TENANT, "default")
        comparer.gate.set()
        (learner,) = bench.cache.adapting.learners(TENANT, "default")
        await until(lambda: len(learner.rivals) == 1)
        assert learner.verdicts == 1


async def test_a_rival_that_only_answered_others_wrongly_differs_all_the_same() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        rival = stored(bench, RIVAL)
        review = Review(quarantine=Quarantine(rule="audit", at_us=1, whole=False))
        assert bench.cache.entries.amend(replace(rival, ver=rival.ver + 1, review=review))
        assert (await between(bench)).decision.vetoes == (Veto.CONTESTED,)


class Meddling(Scored):
    """Does something while a rival is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.score = 0.999
        self.do: Callable[[], None] = lambda: None

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        if RIVAL in cached:
            self.do()
        return super().judge(question, cached, cosines)


@pytest.mark.parametrize("how", ["delete", "replace", "withhold"])
async def test_what_goes_while_long_texts_are_searched_for_rivals_is_not_served(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Meddling()
    async with learning(comparer=Erring(), judge=judge) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.8, compared=1)
        monkeypatch.setattr(judges, "INLINE_CHARACTERS", 0)
        served = stored(bench, ASKED)

        def gone() -> None:
            if how == "delete":
                bench.cache.entries.remove(served)
            elif how == "replace":
                bench.cache.entries.put(replace(served, answer=answer("no more"), ver=served.ver + 1), None)
            else:
                review = Review(quarantine=Quarantine(rule="operator", at_us=1, whole=True))
                bench.cache.entries.amend(replace(served, ver=served.ver + 1, review=review))

        for far, do, outcome in (
            ("a question on the other side", lambda: None, Outcome.SEMANTIC),  # its rival is too far away
            ("another question there", gone, Outcome.MISS),
        ):
            bench.embedder.alike(far, ASKED, 0.9)
            judge.do = do
            assert (await bench.look(far, ONLY)).outcome is outcome
