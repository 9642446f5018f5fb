"""What the tests of rivals are made of: answers that were compared with others, and questions near to both."""

from __future__ import annotations

import itertools

from services.cache.fill_values import Granted
from services.cache.learning.labels import ComparerError
from services.cache.values import LookupResult
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, Bench, answer, ask
from tests.unit.cache.learning.learning_parts import Literal, Scored, until

RIVAL = "How do I reset my PIN?"
NUMBERS = itertools.count()


class Erring(Literal):
    """Measured with as many errors as a real one: one verdict says little about the entry itself."""

    error = ComparerError(100, 10, 100, 24)


def sure() -> Scored:
    """A verifier that finds nothing to differ: rungs go by the cosine."""
    judge = Scored()
    judge.score = 0.999
    return judge


async def filled(bench: Bench, text: str, made: str, cosine: float, *, compared: int) -> str:
    """Have a question near to the stored one answered, and wait until the answer has been compared with so many."""
    bench.embedder.alike(text, ASKED, cosine)
    found = await bench.look(ask(text))
    assert isinstance(found.fill, Granted), found
    setup = bench.cache.adapting._setup
    assert setup is not None
    assert isinstance(setup.comparer, Literal)
    asked = setup.comparer.asked
    before = len(asked)
    result = await bench.cache.commit(TENANT, found.fill.lease_id, answer(made), durable=False)
    await until(lambda: len(asked) == before + compared)
    await until(lambda: bench.cache.adapting.waiting == 0)
    return result.entry_id


async def between(bench: Bench, cosine: float = 0.99) -> LookupResult:
    """Ask what is nearest to the stored question, and near to its rival."""
    text = f"a question with the number {next(NUMBERS)}"
    bench.embedder.alike(text, ASKED, cosine)
    return await bench.look(ask(text), ONLY)


def text_like(bench: Bench) -> str:
    """A question of which nobody has asked, nearest to the stored one."""
    text = f"a question with the number {next(NUMBERS)}"
    bench.embedder.alike(text, ASKED, 0.99)
    return text
