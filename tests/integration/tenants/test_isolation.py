"""An answer that was made for one scope never appears in another, whatever happens, in whatever order.

`make campaign-isolation OPERATIONS=200000 SEED=1` runs more of the same; a failure prints its seed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.scopes import QUESTIONS, SCOPES, TENANTS, Leak, Seen
from tests.integration.tenants.tenancy import Tenancy
from tests.integration.tenants.world import Kind, Operation, World
from tests.suite_process import SuiteProcess, environment, two_models

OPERATIONS = int(os.environ.get("ISOLATION_OPERATIONS") or 10_000)
SEED = os.environ.get("ISOLATION_SEED")

SLOWEST = 20
"""Operations per second that the timeout allows for; it is a guard, not a promise."""

STEPS = 50
EXAMPLES = 5
"""Per seed: so many sequences of so many steps, each of up to `AT_ONCE` operations at once."""

AT_ONCE = 24

# Clears and deletes by tag are rare, so that between two of them a namespace fills up.
WEIGHTS = {
    Kind.COMPLETE: 50,
    Kind.STREAM: 20,
    Kind.LEAVE: 8,
    Kind.LOOKUP: 60,
    Kind.PUT: 40,
    Kind.FILL: 20,
    Kind.ABORT: 5,
    Kind.DELETE: 20,
    Kind.DELETE_TAG: 1,
    Kind.CLEAR: 1,
    Kind.REPORT: 20,
    Kind.BATCH: 10,
    Kind.FEEDBACK: 10,
    Kind.SUBMIT: 15,
    Kind.EXPLAIN: 10,
    Kind.LIST: 5,
    Kind.AUDIT: 10,
}

operations = st.builds(
    Operation,
    kind=st.sampled_from([kind for kind, weight in WEIGHTS.items() for _ in range(weight)]),
    scope=st.sampled_from(SCOPES),
    question=st.integers(0, len(QUESTIONS) - 1),
    wording=st.integers(0, 1),
    other=st.integers(0, 999),
)


class Isolation(RuleBasedStateMachine):
    """Lets the tenants do what they like, several of them at once."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        super().__init__()
        self._runner = runner
        self._world = world

    @initialize()
    def start(self) -> None:
        self._runner.run(self._world.reset())

    @rule(at_once=st.lists(operations, min_size=AT_ONCE // 3, max_size=AT_ONCE))
    def act(self, at_once: list[Operation]) -> None:
        self._runner.run(self._world.do(at_once))


@pytest.mark.timeout(120 + OPERATIONS // SLOWEST)
def test_no_answer_leaves_its_scope(tmp_path: Path) -> None:
    first = int(SEED) if SEED else secrets.randbelow(2**32)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        world = runner.run(_open(stack, tmp_path))
        try:
            number = first
            while world.done.total() < OPERATIONS:
                print(f"ISOLATION_SEED={number}: {world.done.total()} operations before")
                run_state_machine_as_test(
                    seed(number)(lambda: Isolation(runner, world)),
                    settings=settings(
                        max_examples=EXAMPLES,
                        stateful_step_count=STEPS,
                        deadline=None,
                        database=None,
                        phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck),
                    ),
                )
                number += 1
        finally:
            runner.run(stack.aclose())
    print(
        f"{world.done.total()} operations, {len(world.seen.canaries)} texts, {len(world.seen.ids)} ids, "
        f"{world.refused} attempts on another tenant's, outcomes {dict(world.outcomes)}"
    )
    assert set(world.done) == set(Kind), "everything was tried"
    assert world.refused > OPERATIONS // 100
    assert world.audited
    for outcome in (cache_pb2.OUTCOME_EXACT, cache_pb2.OUTCOME_SEMANTIC, cache_pb2.OUTCOME_MISS):
        assert world.outcomes[outcome] > OPERATIONS // 100


async def _open(stack: AsyncExitStack, folder: Path) -> World:
    upstream = await stack.enter_async_context(FakeOpenAI.start())
    tenancy = Tenancy(TENANTS)
    catalogue = two_models(folder, upstream.base_url)
    variables = {
        **tenancy.write(folder / "keys"),
        # Hits are audited by the operations alone: what completion buys behind callers' backs has no scope here.
        "ANTIPHON_CACHE_AUDIT_SHARE": "0.5",
        "ANTIPHON_COMPLETION_AUDITS_WAITING": "0",
    }
    suite = SuiteProcess(environment(folder / "state", ANTIPHON_CATALOGUE=str(catalogue), **variables))
    stack.callback(suite.close)
    await asyncio.to_thread(suite.wait_for, "SERVING")
    return await stack.enter_async_context(World.opened(suite, upstream, tenancy))


def test_a_text_and_an_id_that_are_seen_in_two_scopes_are_a_leak() -> None:
    seen = Seen()
    here, there = SCOPES[0], SCOPES[-1]
    answer = llm_pb2.Answer(text=seen.canary(here))
    seen.look(here, completion_pb2.CompleteResponse(answer=answer))
    with pytest.raises(Leak):
        seen.look(there, completion_pb2.CompleteResponse(answer=answer))
    found = cache_pb2.LookupResponse(decision=cache_pb2.Decision(matched_prompt=seen.unclaimed()), entry_id="e")
    seen.look(there, found)
    with pytest.raises(Leak):
        seen.look(here, cache_pb2.LookupResponse(decision=found.decision))
    with pytest.raises(Leak):
        seen.look(here, cache_pb2.CommitResponse(entry_id="e"))
    with pytest.raises(Leak):
        seen.look(
            here, completion_pb2.StreamCompleteResponse(delta=completion_pb2.Delta(text=answer.text * 2 + "canary 1."))
        )
