"""What a lookup did not find is made once, stored if it may be, and given to all who wait for it and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from services.cache.fill_values import Filled, Granted, InProgress
from services.cache.values import BypassReason, Mode, Outcome, Policy
from services.chassis.errors import Aborted, InvalidRequest, NotFound
from services.llm.values import FinishReason
from tests.unit.cache.cache_parts import ASKED, ONLY, REWORDED, TENANT, Bench, answer, lease


async def test_equal_questions_at_once_cost_one_fill_and_one_embedding(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.look(ASKED) for _ in range(200)))
    leases = [result.fill for result in results]
    assert sum(isinstance(fill, Granted) for fill in leases) == 1
    assert sum(isinstance(fill, InProgress) for fill in leases) == 199
    assert bench.embedder.calls == [ASKED]
    later = await bench.look(ASKED)
    assert isinstance(later.fill, InProgress)
    assert bench.embedder.calls == [ASKED]
    assert sum(result.embedding_tokens for result in results) == len(ASKED.split()), "bought once, billed once"


async def test_an_answer_that_comes_while_a_question_is_embedded_is_served(bench: Bench) -> None:
    bench.embedder.gate.clear()
    looking = asyncio.create_task(bench.look(ASKED))
    while not bench.embedder.calls:  # noqa: ASYNC110 -- what is awaited has no event
        await asyncio.sleep(0)
    # Without the embedder, by a caller who needs none.
    other = await bench.look(ASKED, Policy(max_error_rate=0.01))
    bench.embedder.gate.set()
    await bench.cache.commit(TENANT, lease(other), answer(), durable=False)
    assert (await looking).outcome is Outcome.EXACT


async def test_a_commit_is_found_and_is_idempotent(bench: Bench) -> None:
    missed = await bench.look(ASKED)
    first = await bench.cache.commit(TENANT, lease(missed), answer("first"), durable=False)
    assert await bench.cache.commit(TENANT, lease(missed), answer("second"), durable=False) == first
    assert (await bench.look(ASKED)).entry.answer.text == "first"
    assert (await bench.look(REWORDED, ONLY)).outcome is Outcome.SEMANTIC


@pytest.mark.parametrize(
    ("made", "policy", "reason"),
    [
        (answer(finish_reason=FinishReason.LENGTH), Policy(), "finish_reason"),
        (answer(finish_reason=FinishReason.CONTENT_FILTER), Policy(), "finish_reason"),
        (answer(" \n"), Policy(), "empty"),
        (answer(refusal="No."), Policy(), "refusal"),
        (answer("x" * 300_000), Policy(), "too_large"),
        (answer("é" * 140_000), Policy(), "too_large"),
        (answer(), Policy(no_store=True), "no_store"),
    ],
)
async def test_what_must_not_be_stored_still_reaches_who_waits(
    bench: Bench, made: object, policy: Policy, reason: str
) -> None:
    missed = await bench.look(ASKED, policy)
    waiting = asyncio.create_task(bench.cache.wait(TENANT, lease(missed), "", bench.deadline()))
    await asyncio.sleep(0)
    result = await bench.cache.commit(TENANT, lease(missed), made, durable=False)
    assert (result.stored, result.not_stored, result.entry_id) == (False, reason, "")
    assert await waiting == Filled(made, "")
    assert (await bench.look(ASKED, ONLY)).outcome is Outcome.MISS
    assert len(bench.cache.entries) == 0


async def test_a_put_of_such_an_answer_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await bench.put(ASKED, "")
    assert caught.value.field == "answer"


async def test_modes(bench: Bench) -> None:
    await bench.put(ASKED, "old")
    bypassed = await bench.look(ASKED, Policy(mode=Mode.BYPASS))
    assert (bypassed.outcome, bypassed.bypass_reason, bypassed.fill) == (Outcome.BYPASS, BypassReason.POLICY, None)
    only = await bench.look("something else entirely", ONLY)
    assert (only.outcome, only.fill) == (Outcome.MISS, None)
    refresh = await bench.look(ASKED, Policy(mode=Mode.REFRESH))
    assert refresh.outcome is Outcome.MISS
    assert (await bench.look(ASKED)).entry.answer.text == "old", "served until it is replaced"
    await bench.cache.commit(TENANT, lease(refresh), answer("new"), durable=False)
    assert (await bench.look(ASKED)).entry.answer.text == "new"
    assert (await bench.look(REWORDED, ONLY)).entry.answer.text == "new"
    assert len(bench.cache.entries) == 1


async def test_another_tenants_lease_is_not_known(bench: Bench) -> None:
    missed = await bench.look(ASKED)
    for call in (
        bench.cache.commit("other", lease(missed), answer(), durable=False),
        bench.cache.wait("other", lease(missed), "", bench.deadline()),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        bench.cache.renew("other", lease(missed))
    assert not bench.cache.abort("other", lease(missed))
    assert bench.cache.renew(TENANT, lease(missed)).lease_id == lease(missed)


async def test_a_lost_lease_stores_nothing(bench: Bench) -> None:
    missed = await bench.look(ASKED)
    bench.clock.advance(60)
    successor = await bench.look(ASKED)
    with pytest.raises(Aborted):
        await bench.cache.commit(TENANT, lease(missed), answer("late"), durable=False)
    await bench.cache.commit(TENANT, lease(successor), answer("right"), durable=False)
    assert (await bench.look(ASKED)).entry.answer.text == "right"


async def test_a_token_or_a_lease_of_another_tenant_is_worth_nothing(bench: Bench) -> None:
    """Equal questions, equal tokens: two tenants, two leases, and neither knows the other's."""
    mine = await bench.look(ASKED, token="guessed")
    theirs = await bench.look(ASKED, token="guessed", tenant="other")
    assert isinstance(mine.fill, Granted)
    assert isinstance(theirs.fill, Granted)
    assert mine.fill.lease_id != theirs.fill.lease_id
    assert len(mine.fill.lease_id) >= 24, "144 random bits"
    for call in (
        bench.cache.wait("other", lease(mine), "guessed", bench.deadline()),
        bench.cache.commit("other", lease(mine), answer("forged"), durable=False),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        bench.cache.renew("other", lease(mine))
    assert not bench.cache.abort("other", lease(mine))
    assert bench.cache.renew(TENANT, lease(mine)).lease_id == lease(mine)
    assert (await bench.cache.commit(TENANT, lease(mine), answer("right"), durable=False)).stored
    assert (await bench.look(ASKED, ONLY, tenant="other")).outcome is Outcome.MISS
