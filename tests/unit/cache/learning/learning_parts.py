"""What the tests of learning are made of: a bench that learns, scores that a test sets, a comparer that knows all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.cache.adapting import Setup
from services.cache.decision import Bar, Verdict
from services.cache.explaining import Explanation
from services.cache.fill_values import Granted
from services.cache.learning.labels import ComparerError
from services.cache.learning.namespaces import terms_of
from services.cache.ports import LearnedState, LearningStore
from services.cache.values import LookupResult, Policy
from services.chassis.errors import Reason, Unavailable
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, Bench, answer, ask, benched

PRESETS = {"strict": (0.95, 0.86), "default": (0.94, 0.86), "balanced": (0.84, 0.84), "loose": (0.71, 0.82)}
RATES = [(0.01, "strict"), (0.02, "default"), (0.03, "balanced"), (0.05, "loose")]
GUARD = 10.0
OTHER = "other"
NUMBERS = itertools.count()


class Scored:
    """A verifier of these presets whose score of every pair the test sets."""

    version = "scored"
    calibrated = True

    def __init__(self, preset: str = "default") -> None:
        self.bar = self._bar(preset)
        self.score = 0.94

    def bar_for(self, max_error_rate: float) -> Bar | None:
        fitting = [name for rate, name in RATES if rate <= max_error_rate]
        return self._bar(fitting[-1]) if fitting else None

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        return [Verdict((), self.score, 1 - self.score) for _ in cached]

    def _bar(self, preset: str) -> Bar:
        score, cosine = PRESETS[preset]
        return Bar(cosine, score)


class Literal:
    """Answers agree iff they are equal; measured without an error."""

    version = "literal-1"
    error = ComparerError(10_000, 0, 10_000, 0)

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def same(self, fresh: str, stored: str, *, tenant: str) -> bool:
        self.asked.append((fresh, stored))
        await self.gate.wait()
        if self.down:
            raise Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
        return fresh == stored


@dataclass
class Shelf:
    """A store of states, as JSON. While `gate` is closed nobody gets an answer; `down`: all get the same."""

    states: dict[tuple[str, str], str] = field(default_factory=dict)
    down: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    loads: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def load_learned(self, tenant: str, namespace: str) -> object:
        self.loads += 1
        await self._reached()
        state = self.states.get((tenant, namespace))
        return None if state is None else json.loads(state)

    async def save_learned(self, states: Sequence[LearnedState]) -> None:
        await self._reached()
        self.states.update({(one.tenant, one.namespace): json.dumps(one.state) for one in states})

    async def _reached(self) -> None:
        await self.gate.wait()
        if self.down:
            raise Unavailable("it is down", reason=Reason.STORE_UNAVAILABLE)


def setup(
    store: LearningStore, comparer: Literal | None = None, *, loosens: bool = False, preset: str = "default", **how: Any
) -> Setup:
    """Learning without a pause between two comparisons."""
    comparer = comparer or Literal()
    terms = terms_of(PRESETS, RATES, preset, loosens=loosens, comparer=comparer)
    return Setup(terms, comparer, store, **{"audit_share": 0.0, "pace": 0.0, **how})


@contextlib.asynccontextmanager
async def learning(
    store: Shelf | None = None, comparer: Literal | None = None, judge: Scored | None = None, **how: object
) -> AsyncIterator[Bench]:
    """A bench that learns."""
    made = setup(store or Shelf(), comparer, **how)
    async with benched(judge=judge or Scored(), learning=made) as bench:
        work = asyncio.create_task(bench.cache.adapting.run())
        yield bench
        work.cancel()
        await asyncio.wait([work])
        assert work.cancelled()


async def until(true: Callable[[], bool]) -> None:
    """Wait for a state."""
    async with asyncio.timeout(GUARD):
        while not true():  # noqa: ASYNC110 -- a state of the tested parts, which set no event for tests
            await asyncio.sleep(0.001)


async def near(
    bench: Bench, cosine: float, policy: Policy | None = None, *, namespace: str = "default", tenant: str = TENANT
) -> LookupResult:
    """Look up a question of this cosine to the stored one."""
    text = f"a question with the number {next(NUMBERS)}"
    bench.embedder.alike(text, ASKED, cosine)
    return await bench.look(ask(text, namespace=namespace), policy, tenant=tenant)


async def anew(bench: Bench, cosine: float, *, namespace: str = "default", tenant: str = TENANT) -> LookupResult:
    """As `near`, but to an entry of its own: what is known of single entries says nothing about it."""
    stored = f"stored question number {next(NUMBERS)}"
    text = f"reworded question number {next(NUMBERS)}"
    await bench.put(ask(stored, namespace=namespace), "the stored one", tenant=tenant)
    bench.embedder.alike(text, stored, cosine)
    return await bench.look(ask(text, namespace=namespace), ONLY, tenant=tenant)


async def missed(bench: Bench, cosine: float, text: str, **where: str) -> None:
    """A miss near to the stored question, and its fresh answer, as far as it is compared."""
    found = await near(bench, cosine, **where)
    assert isinstance(found.fill, Granted), found
    heard = bench.cache.adapting.happened
    before = heard()["free_agreed"] + heard()["free_differed"]
    tenant = where.get("tenant", TENANT)
    await bench.cache.commit(tenant, found.fill.lease_id, answer(text), durable=False)
    await until(lambda: heard()["free_agreed"] + heard()["free_differed"] == before + 1)


async def explained(bench: Bench) -> Explanation:
    """Of a question of cosine 0.9 to the stored one."""
    text = f"a question with the number {next(NUMBERS)}"
    bench.embedder.alike(text, ASKED, 0.9)
    return await bench.cache.explain(TENANT, ask(text), ONLY, limit=4, deadline=bench.deadline())
